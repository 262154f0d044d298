"""Who gets which executor next: the ledger in, a plan out.

A plan is made in three moves:

1. *Honour*: room that was set aside earlier and is free now goes to whom it was promised.
2. *Grant*: free room goes to the least served session that it fits, again and again (progressive
   filling: Ghodsi et al., NSDI 2011). Tenants below their quota come first, then higher tiers.
3. *Claim* (:mod:`flame.scheduling.claims`): who is owed more, has room made and set aside.

A gang is placed all at once or not at all, and room is set aside for all of it or none, so that two
gangs cannot block one another. The first in turn for which nothing was found gets a *line*: room
is kept for it while smaller ones behind it are served (EASY backfilling: Lifka, "The ANL/IBM SP
Scheduling System", JSSPP 1995, without run times, which nobody knows here).
"""

from collections.abc import Iterator
from itertools import islice

from flame.model.ids import ExecutorId, NodeName
from flame.model.resources import Resources
from flame.scheduling.claims import Claims
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import ceiling_of, held_back, within_ceilings
from flame.scheduling.passed import PassedOver
from flame.scheduling.rooms import Room
from flame.scheduling.steps import Assign, Plan, Reuse, Step
from flame.scheduling.tree import Branch, Leaf, Shape, comes_before
from flame.scheduling.walk import Walk

#: Sessions for which a line is tried in one plan.
LINES_TRIED = 4
#: Those that got nothing of which one is looked for that was in turn before another.
PASSED_TRIED = 16


class Scheduler:
    """Makes plans. Equal ledgers give equal plans; the cost follows what changed."""

    def plan(self, ledger: Ledger) -> Plan:
        """Return the steps to take now, in order."""
        return _Planning(ledger).run()


class _Planning:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._steps: list[Step] = []
        # Orders of sessions that a ceiling stops, and whose; None: what is withheld stops them.
        self._limited: dict[int, Branch | None] = {}
        self._slotless: dict[int, None] = {}  # and of those for which there are too few slots
        self._failed: dict[int, None] = {}  # and of those for which nothing was found
        self._lines_tried: dict[int, None] = {}
        self._passed = PassedOver(ledger)

    def run(self) -> Plan:
        ledger = self._ledger
        ledger.forget_expectations()
        ledger.reprice()
        changed, ledger.changed = ledger.changed, {}
        self._honour(changed)
        tiers = sorted(ledger.tiers, reverse=True)
        if ledger.any_guarantee:
            for tier in tiers:
                self._grant_in_turn(tier, guaranteed=True)
        for tier in tiers:
            self._grant_in_turn(tier)
        Claims(ledger, self._steps, self._limited).run(tiers)
        ledger.tree.touched.clear()
        return tuple(self._steps)

    # --- promises --------------------------------------------------------------------------------

    def _honour(self, changed: dict[NodeName, Room]) -> None:
        ledger = self._ledger
        # A slot that was given back anywhere may be what somebody elsewhere waits for.
        bounded = ledger.slots.most is not None and ledger.slots.promised
        looked_at = ledger.rooms.by_node if bounded else changed
        concerned = {s for room in looked_at.values() for s in room.promises}
        order = sorted(looked_at) if concerned else ()
        for session in sorted(concerned, key=lambda s: ledger.leaves[s].wish.order):
            leaf = ledger.leaves[session]
            if not leaf.promises:
                continue
            if not within_ceilings(leaf, 0):
                ledger.forget_promises(
                    leaf
                )  # who was to leave for it stays, or less is allowed now
                continue
            self._give_up_excess(leaf)
            by_node = ledger.rooms.by_node
            if leaf.wish.batch_size > 1 or leaf is ledger.line:
                places = [(by_node[n], c) for n, c in sorted(leaf.promises.items())]
                self._honour_gang(leaf, places)
                continue
            for node in order:
                count = leaf.promises.get(node)
                if count:
                    self._honour_place(leaf, by_node[node], count)

    def _give_up_excess(self, leaf: Leaf) -> None:
        excess = leaf.kept + sum(leaf.promises.values()) - max(leaf.wish.wanted, leaf.kept)
        if excess <= 0:
            return
        if leaf.wish.batch_size > 1 or leaf is self._ledger.line:
            self._ledger.forget_promises(leaf)
            return
        for node, count in sorted(leaf.promises.items(), reverse=True):
            fewer = min(count, excess)
            if fewer:
                self._ledger.promise(leaf, self._ledger.rooms.by_node[node], -fewer)
                excess -= fewer

    def _honour_gang(self, leaf: Leaf, places: list[tuple[Room, int]]) -> None:
        ledger = self._ledger
        in_line = leaf is ledger.line
        if in_line and not within_ceilings(leaf, leaf.wish.batch_size):
            ledger.forget_promises(leaf)  # what is in line does not count; others got there first
            return
        if sum(count for _, count in places) <= ledger.slots.free and all(
            self._ready(leaf, room, count) == count for room, count in places
        ):
            ledger.forget_promises(leaf)
            for room, count in places:
                for _ in range(count):
                    self._assign(leaf, room)
        elif any(
            not ledger.rooms.suits(leaf.wish, room)
            or not (in_line or self._on_its_way(leaf, room, count))
            for room, count in places
        ):
            ledger.forget_promises(leaf)

    def _honour_place(self, leaf: Leaf, room: Room, count: int) -> None:
        ledger = self._ledger
        for executor, idle in sorted(room.idle.items()):
            if count and ledger.warm.suits(leaf.wish, idle) and ledger.rooms.suits(leaf.wish, room):
                ledger.promise(leaf, room, -1)
                self._steps.append(Reuse(leaf.wish.session, executor))
                ledger.reuse(leaf, idle)
                count -= 1
        ready = self._ready(leaf, room, count)
        if ready:
            ledger.promise(leaf, room, -ready)
            for _ in range(ready):
                self._assign(leaf, room)
        waiting = count - ready
        while waiting and not self._on_its_way(leaf, room, waiting):
            ledger.promise(leaf, room, -1)
            waiting -= 1

    def _ready(self, leaf: Leaf, room: Room, count: int) -> int:
        """How many of the promised places are free now, after those of older sessions."""
        if not self._ledger.rooms.suits(leaf.wish, room):
            return 0
        fitting = leaf.wish.request.count_in(self._left_for(leaf, room))
        return min(count, fitting, max(0, self._ledger.slots.free))

    def _on_its_way(self, leaf: Leaf, room: Room, count: int) -> bool:
        left = self._left_for(leaf, room) + room.leaving
        for idle in room.idle.values():  # it has to go, if it is needed
            left = left + idle.resources
        return (
            self._ledger.slots.will_do
            and self._ledger.rooms.suits(leaf.wish, room)
            and leaf.wish.request.count_in(left) >= count
        )

    def _left_for(self, leaf: Leaf, room: Room) -> Resources:
        left, leaves = room.free, self._ledger.leaves
        for session, count in room.promises.items():
            other = leaves[session].wish
            if other.order < leaf.wish.order:
                left = left - other.request * count
        return left

    # --- grants ----------------------------------------------------------------------------------

    def _grant_in_turn(self, tier: int, *, guaranteed: bool = False) -> None:
        ledger = self._ledger
        blocked = ledger.blocked()
        walk = Walk(ledger.root, tier, blocked, ledger.with_warm(), guaranteed=guaranteed)
        passed: list[Leaf] = []
        while ledger.slots.open > 0 or ledger.with_idle:
            wanted = ledger.tree.wanted
            if (
                not ledger.tree.ready
                and len(blocked) >= len(wanted)
                and all(shape in blocked for shape in wanted)
            ):
                return
            leaf = self._next(walk, blocked, passed)
            if leaf is None:
                return
            if self._grant(leaf):
                continue
            if ledger.slots.open < leaf.wish.batch_size:
                self._slotless[leaf.wish.order] = None
                self._passed.note(leaf)
            else:
                leaf.shape.blocked_at = ledger.growths
                blocked[leaf.shape] = None
                self._failed[leaf.wish.order] = None

    def _next(self, walk: Walk, blocked: dict[Shape, None], passed: list[Leaf]) -> Leaf | None:
        """Return the first in turn for which something may be found.

        ``passed``: those for which nothing was, so far.
        """
        ledger = self._ledger
        for leaf in walk:
            order = leaf.wish.order
            if leaf is ledger.line or order in self._limited or order in self._slotless:
                continue
            if order in self._failed or (leaf.shape in blocked and not ledger.warm.has(leaf.wish)):
                self._passed.note(leaf)
                passed.append(leaf)
                continue
            full = ceiling_of(leaf, leaf.wish.batch_size)
            if full is not None or (ledger.any_withheld and not held_back(ledger, leaf)):
                self._limited[order] = full
                continue
            first = self._first_before(leaf, passed)
            if first is not None and self._is_larger(first, leaf) and self._line_up(first):
                return self._next(walk, blocked, passed)
            return leaf
        return None

    def _first_before(self, leaf: Leaf, passed: list[Leaf]) -> Leaf | None:
        """Return who is in turn before the session and got nothing, unless that was tried already."""
        if self._ledger.line is not None or len(self._lines_tried) >= LINES_TRIED:
            return None
        for first in islice(passed, PASSED_TRIED):
            if first.wish.order not in self._lines_tried and comes_before(first, leaf):
                return first
        return None

    def _is_larger(self, passed: Leaf, leaf: Leaf) -> bool:
        if passed.promises or not within_ceilings(passed, passed.wish.batch_size):
            return False
        mine, other = passed.wish, leaf.wish
        return not (mine.request * mine.batch_size).fits_in(other.request * other.batch_size)

    def _line_up(self, leaf: Leaf) -> bool:
        """Keep room for the session on the nodes that will have it soonest. False: there are none."""
        ledger, wish = self._ledger, leaf.wish
        self._lines_tried[wish.order] = None
        places: list[tuple[int, float, NodeName, int]] = []
        for node, room in self._in_reach(leaf).items():
            could = self._could_hold(leaf, room)
            if could:
                now = min(could, wish.request.count_in(room.coming))
                places.append((-now, -room.emptiness, node, could))
        places.sort()
        chosen: dict[NodeName, int] = {}
        missing = wish.batch_size
        for negative_now, _, node, _ in places:  # what is free, or soon is
            chosen[node] = min(missing, -negative_now)
            missing -= chosen[node]
        for _, _, node, could in places:  # and what has to be waited for
            more = min(missing, could - chosen[node])
            chosen[node] += more
            missing -= more
        if missing:
            return False
        chosen = {node: count for node, count in chosen.items() if count}
        ledger.keep_line(leaf, chosen)
        for node in chosen:
            ledger.changed[node] = ledger.rooms.by_node[node]
        return True

    def _in_reach(self, leaf: Leaf) -> dict[NodeName, Room]:
        """Return the nodes to choose from. For one executor those will do that soon have room, or most."""
        ledger = self._ledger
        if leaf.wish.batch_size > 1:
            return ledger.rooms.by_node
        roomiest = (r for r in ledger.rooms.roomiest() if self._could_hold(leaf, r))
        return {**ledger.returning, **{r.machine.node: r for r in islice(roomiest, 1)}}

    def _could_hold(self, leaf: Leaf, room: Room) -> int:
        """How many of its executors would fit there, if nobody had any but those that are promised."""
        if not self._ledger.rooms.suits(leaf.wish, room):
            return 0
        capacity = room.machine.capacity
        left = capacity - (room.free - room.open) if room.promises else capacity
        return leaf.wish.request.count_in(left)

    def _grant(self, leaf: Leaf) -> bool:
        ledger, wish = self._ledger, leaf.wish
        if wish.batch_size == 1:
            if ledger.with_idle and self._reuse(leaf, ledger.warm.ready_for(wish)):
                return True
            room = ledger.rooms.find(wish) if ledger.slots.open > 0 else None
            if room is not None:
                self._assign(leaf, room)
                return True
            return bool(ledger.with_idle) and self._reuse(leaf, ledger.warm.of_others(wish))
        if ledger.slots.open < wish.batch_size:
            return False
        taken: list[Room] = []
        while len(taken) < wish.batch_size:
            room = ledger.rooms.find(wish)
            if room is None:
                break
            taken.append(room)
            ledger.rooms.take(room, wish.request)
        for room in taken:
            ledger.rooms.give_back(room, wish.request)
        if len(taken) < wish.batch_size:
            return False
        for room in taken:
            self._assign(leaf, room)
        return True

    def _assign(self, leaf: Leaf, room: Room) -> None:
        self._steps.append(Assign(leaf.wish.session, room.machine.node))
        self._ledger.expect(leaf, room)

    def _reuse(self, leaf: Leaf, warm: Iterator[tuple[NodeName, ExecutorId]]) -> bool:
        ledger = self._ledger
        for node, executor in warm:
            room = ledger.rooms.by_node[node]
            if ledger.rooms.suits(leaf.wish, room) and not self._passed.claim(leaf, room):
                self._steps.append(Reuse(leaf.wish.session, executor))
                ledger.reuse(leaf, room.idle[executor])
                return True
        return False
