"""Promises are kept: room that was set aside, and is free now, goes to whom it was promised.

The older ones first. What is not on its way any more is given up; a warm process that stays on room which
is promised is the promised session's as it is, or has to go (:mod:`flame.scheduling.clearing`).
"""

from flame.model.ids import NodeName
from flame.model.resources import Resources
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import within_ceilings
from flame.scheduling.rooms import Room
from flame.scheduling.steps import Assign, Reuse, Step
from flame.scheduling.tree import Leaf


class Honours:
    """The promises of one plan."""

    def __init__(self, ledger: Ledger, steps: list[Step]) -> None:
        self._ledger = ledger
        self._steps = steps

    def keep(self, changed: dict[NodeName, Room]) -> None:
        """Keep those that have room on nodes where something changed."""
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
                self._keep_gang(leaf, places)
                continue
            for node in order:
                count = leaf.promises.get(node)
                if count:
                    self._keep_place(leaf, by_node[node], count)

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

    def _keep_gang(self, leaf: Leaf, places: list[tuple[Room, int]]) -> None:
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

    def _keep_place(self, leaf: Leaf, room: Room, count: int) -> None:
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

    def _assign(self, leaf: Leaf, room: Room) -> None:
        self._steps.append(Assign(leaf.wish.session, room.machine.node))
        self._ledger.expect(leaf, room)
