"""Who gets which executor next: the ledger in, a plan out.

A plan is made in three moves:

1. *Honour* (:mod:`flame.scheduling.honours`): room that was set aside earlier and is free now goes to
   whom it was promised.
2. *Grant*: free room goes to the least served session that it fits, again and again (progressive
   filling: Ghodsi et al., NSDI 2011). Tenants below their quota come first, then higher tiers.
3. *Claim* (:mod:`flame.scheduling.claims`): who is owed more, has room made and set aside.

A gang is placed all at once or not at all, and room is set aside for all of it or none, so that two
gangs cannot block one another. The first in turn for which nothing was found gets a *line*
(:mod:`flame.scheduling.lines`): room is kept for it while smaller ones behind it are served.
"""

from collections.abc import Iterator

from flame.model.ids import ExecutorId, NodeName
from flame.scheduling.claims import Claims
from flame.scheduling.honours import Honours
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import ceiling_of, held_back
from flame.scheduling.lines import Lines
from flame.scheduling.passed import PassedOver
from flame.scheduling.rooms import Room
from flame.scheduling.steps import Assign, Plan, Reuse, Step
from flame.scheduling.tree import Branch, Leaf, Shape
from flame.scheduling.walk import Walk


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
        self._lines = Lines(ledger)
        self._passed = PassedOver(ledger)

    def run(self) -> Plan:
        ledger = self._ledger
        ledger.forget_expectations()
        ledger.reprice()
        changed, ledger.changed = ledger.changed, {}
        Honours(ledger, self._steps).keep(changed)
        tiers = sorted(ledger.tiers, reverse=True)
        if ledger.any_guarantee:
            for tier in tiers:
                self._grant_in_turn(tier, guaranteed=True)
        for tier in tiers:
            self._grant_in_turn(tier)
        Claims(ledger, self._steps, self._limited).run(tiers)
        ledger.tree.touched.clear()
        return tuple(self._steps)

    def _grant_in_turn(self, tier: int, *, guaranteed: bool = False) -> None:
        ledger = self._ledger
        blocked = ledger.blocked()
        walk = Walk(ledger.root, tier, blocked, ledger.with_warm(), guaranteed=guaranteed)
        passed: list[Leaf] = []
        while ledger.slots.open > 0 or ledger.with_idle:
            if self._is_all_blocked(blocked):
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
            if leaf.shape not in blocked and ledger.is_blocked(leaf.shape):
                blocked[leaf.shape] = None  # it has become so: others took what there was
                if self._is_all_blocked(blocked):
                    return None  # and need not be found for one after the other
            if order in self._failed or (leaf.shape in blocked and not ledger.warm.has(leaf.wish)):
                self._passed.note(leaf)
                passed.append(leaf)
                continue
            full = ceiling_of(leaf, leaf.wish.batch_size)
            if full is not None or (ledger.any_withheld and not held_back(ledger, leaf)):
                self._limited[order] = full
                continue
            if self._lines.form(leaf, passed):
                return self._next(walk, blocked, passed)
            return leaf
        return None

    def _is_all_blocked(self, blocked: dict[Shape, None]) -> bool:
        """Whether nothing is left for anybody, of whatever tier."""
        tree = self._ledger.tree
        return (
            not tree.ready
            and len(blocked) >= len(tree.wanted)
            and all(shape in blocked for shape in tree.wanted)
        )

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
