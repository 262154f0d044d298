"""The line: room is kept for somebody large for whom nothing was found, while others are served.

One session at a time, the first in turn (EASY backfilling: Lifka, "The ANL/IBM SP Scheduling System",
JSSPP 1995, without run times, which nobody knows here).
"""

from itertools import islice

from flame.model.ids import NodeName
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import within_ceilings
from flame.scheduling.rooms import Room
from flame.scheduling.tree import Leaf, comes_before

#: Sessions for which a line is tried in one plan.
LINES_TRIED = 4
#: Those that got nothing of which one is looked for that was in turn before another.
PASSED_TRIED = 16


class Lines:
    """The attempts of one plan to keep room for somebody."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tried: dict[int, None] = {}

    def form(self, leaf: Leaf, passed: list[Leaf]) -> bool:
        """Keep room for the first of those passed over that is in turn before, and larger."""
        first = self._first_before(leaf, passed)
        return first is not None and self._is_larger(first, leaf) and self._line_up(first)

    def _first_before(self, leaf: Leaf, passed: list[Leaf]) -> Leaf | None:
        """Return who is in turn before the session and got nothing, unless that was tried already."""
        if self._ledger.line is not None or len(self._tried) >= LINES_TRIED:
            return None
        for first in islice(passed, PASSED_TRIED):
            if first.wish.order not in self._tried and comes_before(first, leaf):
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
        self._tried[wish.order] = None
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
