"""Those who are first in turn and found no room: what an idle process takes may be room for them.

A session behind them that could have the process as it is would get on at once; where the order is
strict, that is still theirs. Sessions that are compared by what they have are not kept from it:
whoever has less takes back from whoever has more. Room that is promised, or kept for the first in line,
is nobody's.
"""

from flame.model.resources import Resources
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import within_ceilings
from flame.scheduling.rooms import Room
from flame.scheduling.tree import Leaf, Shape


class PassedOver:
    """The sessions of one plan that were in turn before others and got nothing, the first of each shape."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._first: dict[tuple[int, Shape], Leaf] = {}

    def note(self, leaf: Leaf) -> None:
        """Nothing was found for the session."""
        self._first.setdefault((leaf.tier, leaf.shape), leaf)

    def claim(self, leaf: Leaf, room: Room) -> bool:
        """Whether one of them could have what the idle processes of the node take, before ``leaf``."""
        line = self._ledger.line
        first_in_line = line is not None and room.machine.node in line.promises
        if not Resources().fits_in(room.coming):
            return not (first_in_line and line is not None and leaf.tier > line.tier)
        return any(
            first is not line and self._is_before(first, leaf) and self._could_have(first, room)
            for first in self._first.values()
        )

    def _is_before(self, first: Leaf, leaf: Leaf) -> bool:
        if first.tier != leaf.tier:
            return first.tier > leaf.tier
        in_order = not self._ledger.policies.sharing.takes_back
        return in_order and first.wish.order < leaf.wish.order

    def _could_have(self, first: Leaf, room: Room) -> bool:
        ledger, wish = self._ledger, first.wish
        if wish.batch_size > 1 or not within_ceilings(first, 1):
            return False
        if ledger.slots.open < 1 and ledger.rooms.find(wish) is not None:
            return True  # it lacks a slot, wherever that becomes free
        coming = room.coming
        for idle in room.idle.values():
            coming = coming + idle.resources
        return wish.request.fits_in(coming) and ledger.rooms.suits(wish, room)
