"""What the scheduler's ledger says of a cluster's state; see :mod:`flame.core.invariants`."""

from collections.abc import Iterator

from flame.core.reports import demand, holding_of, machine_of
from flame.core.state import State
from flame.model.ids import SessionNumber
from flame.model.resources import Resources
from flame.model.specs import SessionState
from flame.scheduling.ledger import Ledger
from flame.scheduling.tree import Leaf


def problems_of(state: State) -> Iterator[str]:
    """Yield where the scheduler does not see the cluster as it is, but for what it is told before its next plan."""
    ledger = state.ledger
    for name, node in state.nodes.items():
        if name in state.touched_nodes:
            continue
        room = ledger.rooms.by_node.get(name)
        if (room.machine if room is not None else None) != machine_of(state, node):
            yield f"node {name}: the ledger has {room and room.machine}, it is {machine_of(state, node)}"
    for name in ledger.rooms.by_node:
        if name not in state.nodes and name not in state.touched_nodes:
            yield f"node {name} is gone; the ledger still has it"
    for executor_id, executor in state.executors.items():
        if executor_id in state.touched_executors or executor.node in state.touched_nodes:
            continue
        holding = ledger.holdings.get(executor_id)
        if holding != holding_of(executor):
            yield f"executor {executor_id}: the ledger has {holding}, it is {holding_of(executor)}"
    for executor_id in ledger.holdings:
        if executor_id not in state.executors and executor_id not in state.touched_executors:
            yield f"executor {executor_id} is gone; the ledger still has it"
    for number, session in state.sessions.items():
        if number in state.touched_sessions:
            continue
        leaf = ledger.leaves.get(number)
        if (leaf is not None) != (session.state is SessionState.OPEN):
            yield f"session {number} is {session.state.name}; the ledger has {leaf}"
        elif leaf is not None and leaf.wish.wanted > demand(state, session):
            yield f"session {number}: the ledger has {leaf.wish}, it wants {demand(state, session)}"
    for number in ledger.leaves:
        if number not in state.sessions and number not in state.touched_sessions:
            yield f"session {number} is gone; the ledger still has it"
    yield from _rooms(ledger)


def _rooms(ledger: Ledger) -> Iterator[str]:
    """The ledger's sums are those of what it was told and what it expects."""
    for name, room in ledger.rooms.by_node.items():
        taken = leaving = Resources()
        kept: dict[SessionNumber, int] = {}
        for holding in ledger.holdings.values():
            if holding.node != name:
                continue
            taken = taken + holding.resources
            if holding.leaving:
                leaving = leaving + holding.resources
            elif holding.session in ledger.leaves:
                kept[holding.session] = kept.get(holding.session, 0) + 1
        promised = Resources()
        for number, leaf in ledger.leaves.items():
            expected = leaf.expected.get(name, 0)
            taken = taken + leaf.wish.request * expected
            promised = promised + leaf.wish.request * leaf.promises.get(name, 0)
            count = kept.get(number, 0) + expected
            if leaf.rooms.get(name, 0) != count or room.kept.get(number, 0) != count:
                yield (
                    f"node {name}: session {number} has {count} executors there; the ledger counts "
                    f"{leaf.rooms.get(name, 0)} and {room.kept.get(number, 0)}"
                )
        if room.free != room.machine.capacity - taken:
            yield f"node {name}: {room.free} is free in the ledger, {taken} is taken"
        if room.open != room.free - promised or room.leaving != leaving:
            yield (
                f"node {name}: the ledger has {room.open} open and {room.leaving} leaving of "
                f"{room.free} free; {promised} is promised and {leaving} leaving"
            )
    slots = ledger.slots
    counted = (slots.taken, slots.leaving, slots.expected, slots.promised, slots.freed)
    should = (
        len(ledger.holdings),
        sum(holding.leaving for holding in ledger.holdings.values()),
        sum(sum(leaf.expected.values()) for leaf in ledger.leaves.values()),
        sum(sum(leaf.promises.values()) for leaf in ledger.leaves.values()),
        0,
    )
    if counted != should:
        yield f"the ledger counts {counted} slots taken, leaving, expected and promised: {should}"
    for number, leaf in ledger.leaves.items():
        if leaf.kept != sum(leaf.rooms.values()):
            yield f"session {number}: the ledger counts {leaf.kept} executors, {leaf.rooms} by node"
    yield from _lists(ledger)


def _lists(ledger: Ledger) -> Iterator[str]:
    """What is listed so that it need not be looked for is what a search finds."""
    hungry: dict[int, int] = {}
    keeping: dict[int, dict[int, Leaf]] = {}
    for leaf in ledger.leaves.values():
        hungry[id(leaf.shape)] = hungry.get(id(leaf.shape), 0) + (leaf.entry is not None)
        if leaf.kept:
            keeping.setdefault(leaf.parent.order, {})[leaf.wish.order] = leaf
    for shape in ledger.tree.wanted:
        if not shape.hungry or shape.hungry != hungry.get(id(shape), 0):
            yield f"{shape} is listed; {hungry.get(id(shape), 0)} sessions want more"
    for leaf in ledger.leaves.values():
        standing_by = sum(
            h.standby == leaf.wish.session and not h.leaving for h in ledger.holdings.values()
        )
        is_ready = bool(standing_by and leaf.entry is not None)
        if leaf.standing_by != standing_by or (leaf.wish.order in ledger.tree.ready) != is_ready:
            yield f"session {leaf.wish.session}: {leaf.standing_by} stand by, ready {is_ready}"
    if len(ledger.tree.wanted) != sum(count > 0 for count in hungry.values()):
        yield f"the ledger lists {len(ledger.tree.wanted)} shapes as wanted: {hungry}"
    for branch in (ledger.root, *ledger.branches.values()):
        if branch.keeping != keeping.get(branch.order, {}):
            yield f"tenant {branch.spec.name!r} lists {sorted(branch.keeping)} as keeping executors"
