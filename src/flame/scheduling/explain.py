"""Why a session waits, in a sentence with numbers. For people: it may look at every node."""

from collections.abc import Sequence

from flame.model.ids import NodeName, SessionNumber
from flame.model.labels import Labels, format_labels, match
from flame.model.resources import Resources, format_bytes
from flame.scheduling.deserved import deserved
from flame.scheduling.facts import Machine
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import ceiling_of, held_back
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch, Leaf, chain

#: Values of a label that are named when the one that is asked for is not there.
VALUES_SHOWN = 5


def why_waiting(ledger: Ledger, session: SessionNumber) -> str | None:
    """Return a sentence, or None if the session has what it can use."""
    leaf = ledger.leaves.get(session)
    if leaf is None or leaf.kept >= leaf.wish.wanted:
        return None
    wish, gang = leaf.wish, leaf.wish.batch_size
    if not ledger.rooms.by_node:
        return "no node has joined yet"
    if leaf.promised:
        return (
            f"{_executors(leaf.promised)} on the way: room is being made on "
            f"{', '.join(sorted(leaf.promises))}"
        )
    branch = ceiling_of(leaf, gang)
    if branch is not None and branch.spec.ceiling is not None:
        return _at_ceiling(branch, wish.request * gang)
    impossible = _impossible(ledger, leaf)
    if impossible:
        return impossible
    if ledger.slots.open < gang:
        return _too_many(ledger, leaf)
    if not held_back(ledger, leaf):
        return _held_back(ledger, leaf)
    if gang > 1:
        fit = sum(
            wish.request.count_in(room.open)
            for room in ledger.rooms.by_node.values()
            if ledger.rooms.suits(wish, room)
        )
        kept = ", room is kept for it" if leaf is ledger.line else ""
        return f"needs {gang} executors at once, {fit} fit{kept}"
    return _crowded(ledger, leaf)


def largest(nodes: Sequence[tuple[NodeName, Resources]]) -> tuple[NodeName, Resources]:
    """Return the node that has the most CPU, and of those the most memory."""
    return max(nodes, key=lambda n: (n[1].cpu_millis, n[1].memory_bytes, n[1].gpus, n[0]))


def missing_labels(nodes: Sequence[Labels], required: Labels) -> str:
    """Say which of the required labels no node has, or not together; empty: there is one."""
    if any(match(required, labels) for labels in nodes):
        return ""
    for name, value in required:
        if not any((name, value) in labels for labels in nodes):
            values = sorted({v for labels in nodes for n, v in labels if n == name})
            others = f" ({name} is {' or '.join(values[:VALUES_SHOWN])})" if values else ""
            return f"needs label {name}={value}, which no node has{others}"
    return f"needs labels {format_labels(required)}, which no node has together"


def _at_ceiling(branch: Branch, more: Resources) -> str:
    ceiling, amount = branch.spec.ceiling or Resources(), branch.amount or Resources()
    used = dict(amount.named())
    asked = dict(more.named())
    for name, most in ceiling.named():
        if most and used.get(name, 0) + asked.get(name, 0) > most:
            what = "limit" if branch.spec.borrows else "quota, and does not borrow,"
            return (
                f"tenant {branch.spec.name} is at its {what} of {_shown(name, most)}: "
                f"it has {_shown(name, used.get(name, 0))}, {_shown(name, asked[name])} more is asked"
            )
    return f"tenant {branch.spec.name} is at its limit of {ceiling}"


def _impossible(ledger: Ledger, leaf: Leaf) -> str | None:
    wish = leaf.wish
    rooms = ledger.rooms.by_node.values()
    missing = missing_labels([r.machine.labels for r in rooms], wish.requires)
    if missing:
        return missing
    labelled = [r for r in rooms if match(wish.requires, r.machine.labels)]
    large = [r for r in labelled if wish.request.fits_in(r.machine.capacity)]
    if not large:
        name, most = largest([(r.machine.node, r.machine.capacity) for r in labelled])
        which = f"node with {format_labels(wish.requires)}" if wish.requires else "node"
        return f"an executor takes {wish.request}, but the largest {which}, {name}, has {most}"
    whole = sum(wish.request.count_in(room.machine.capacity) for room in large)
    if whole < wish.batch_size:
        return f"needs {wish.batch_size} executors at once, {whole} fit even if all nodes are empty"
    if all(r.machine.cordoned for r in large):
        why = _closed([r.machine for r in large])
        if len(large) == 1:
            return f"the only node that could have it, {large[0].machine.node}, is {why}"
        return f"all of the {len(large)} nodes that could have it are {why}"
    return None


def _held_back(ledger: Ledger, leaf: Leaf) -> str:
    """Name those for whom it is, with what they could still have of their quota."""
    mine = {id(branch) for branch in chain(leaf)}
    owners = []
    for name, branch in sorted(ledger.branches.items()):
        quota, amount = branch.spec.quota, branch.amount
        if branch.spec.lends or quota is None or amount is None or id(branch) in mine:
            continue
        used = dict(amount.named())
        short = [(key, most) for key, most in quota.named() if used.get(key, 0) < most]
        if short:
            key, most = short[0]
            owners.append(f"{name} uses {_shown(key, used.get(key, 0))} of {_shown(key, most)}")
    more = f" and {len(owners) - VALUES_SHOWN} more" if len(owners) > VALUES_SHOWN else ""
    which = ", ".join(owners[:VALUES_SHOWN]) + more
    has = f"it has {leaf.kept} of the {leaf.wish.wanted} it could use"
    return f"what is free is held back for quota that is not lent ({which}); {has}"


def _crowded(ledger: Ledger, leaf: Leaf) -> str:
    has = f"it has {leaf.kept} of the {leaf.wish.wanted} it could use"
    return f"{_full(ledger, leaf)}; {_others(ledger, leaf)}{has}"


def _others(ledger: Ledger, leaf: Leaf) -> str:
    """Say who comes before the session, or what it may hope for."""
    others = [other for other in ledger.leaves.values() if other.kept and other is not leaf]
    higher = sum(other.tier > leaf.tier for other in others)
    if higher:
        return f"{_sessions(higher)} of higher priority {_come(higher)} first; "
    if leaf.wish.requires:
        return ""  # a share of the whole cluster says nothing of these nodes
    if ledger.policies.sharing.takes_back:
        share = deserved(ledger).get(leaf.wish.session, 0.0) * WHOLE / leaf.price
        return f"its fair share is {share:.1f} executors, "
    older = sum(other.tier == leaf.tier and other.wish.order < leaf.wish.order for other in others)
    if older:
        return f"{_sessions(older, 'older ')} {_come(older)} first (fifo); "
    return "nothing is taken back from others (fifo); "


def _full(ledger: Ledger, leaf: Leaf) -> str:
    """Say that nothing is free where the session could be, or that it is not enough in any one place."""
    wish = leaf.wish
    rooms = [r for r in ledger.rooms.by_node.values() if ledger.rooms.suits(wish, r)]
    node, most = largest([(room.machine.node, room.open) for room in rooms])
    if most.cpu_millis > 0 or any(wish.request.fits_in(room.free) for room in rooms):
        where = f"no node with {format_labels(wish.requires)}" if wish.requires else "no node"
        left = f"{node} has the most, {most}" if most.cpu_millis > 0 else "what is free is promised"
        return f"{where} has {wish.request} free: {left}"
    where = f"every node with {format_labels(wish.requires)}" if wish.requires else "the cluster"
    return f"{where} is full" + _cordoned(ledger)


def _too_many(ledger: Ledger, leaf: Leaf) -> str:
    slots, wish = ledger.slots, leaf.wish
    most = (
        f"the cluster has {slots.taken} executors, and at most {slots.most} may be (max_executors)"
    )
    has = f"it has {leaf.kept} of the {wish.wanted} it could use"
    if wish.batch_size > 1:
        return f"{most}; it needs {wish.batch_size} at once, {has}"
    share = deserved(ledger).get(wish.session, 0.0) * WHOLE / leaf.price
    return f"{most}; its fair share is {share:.1f} executors, {has}"


def _cordoned(ledger: Ledger) -> str:
    machines = [room.machine for room in ledger.rooms.by_node.values()]
    closed = [machine for machine in machines if machine.cordoned and not machine.away]
    if not closed:
        return ""
    are = "is" if len(closed) == 1 else "are"
    return f", {len(closed)} of its {len(machines)} nodes {are} {_closed(closed)}"


def _closed(machines: Sequence[Machine]) -> str:
    """Say in the operator's words why nothing starts on these nodes."""
    words = {"away" if m.away else "drained" if m.drained else "cordoned" for m in machines}
    return " or ".join(word for word in ("cordoned", "drained", "away") if word in words)


def _sessions(count: int, kind: str = "") -> str:
    return f"{count} {kind}{'session' if count == 1 else 'sessions'}"


def _come(count: int) -> str:
    return "comes" if count == 1 else "come"


def _executors(count: int) -> str:
    return "1 executor is" if count == 1 else f"{count} executors are"


def _shown(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount / 1000:g} CPU"
    if name == "mem":
        return f"{format_bytes(amount)} of memory"
    return f"{amount} {'GPU' if name == 'gpu' else name}"
