"""A walk through the hungry of a tier, again and again, that meets nobody twice for whom nothing was found.

Within a plan's grants room only becomes less: nothing will be found for whoever was passed over once. It
also stays where it is among its siblings, since only those who get something move, and only back. So each
tenant has a mark up to which everybody was passed over, and a tenant below which all shapes are blocked is
passed over as a whole.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping

from flame.scheduling.tree import Branch, Entry, Leaf, Shape, in_turn


class Walk:
    """The walk of one tier's grants.

    Args:
        blocked: Shapes for which nothing is found. It may grow meanwhile.
        with_warm: Orders of tenants below which somebody may have a warm executor all the same.
        guaranteed: Only those below a tenant that has less than it is guaranteed.
    """

    def __init__(
        self,
        root: Branch,
        tier: int,
        blocked: Mapping[Shape, object],
        with_warm: Collection[int],
        *,
        guaranteed: bool,
    ) -> None:
        self._root, self._tier, self._guaranteed = root, tier, guaranteed
        self._blocked, self._with_warm = blocked, with_warm
        # Of tenants that are passed over as a whole, the first of each shape stands for the others.
        self._stood_for: dict[Shape, None] = {}
        self._past: dict[int, Entry] = {}  # by a tenant's order: the last that was passed over

    def __iter__(self) -> Iterator[Leaf]:
        """Yield who is left, the least served first. Stop iterating before anything changes.

        Whoever was asked to be followed by another is passed over.
        """
        return self._below(self._root, guaranteed=self._guaranteed)

    def _below(self, branch: Branch, *, guaranteed: bool) -> Iterator[Leaf]:
        entries = branch.hungry.get(self._tier, [])
        past = self._past.get(branch.order)
        for index in range(bisect_right(entries, past) if past else 0, len(entries)):
            entry = entries[index]
            child = entry[3]
            if isinstance(child, Leaf):
                if not guaranteed:
                    yield child
            elif (
                guaranteed
                or child.order in self._with_warm
                or not child.wanted[self._tier].keys() <= self._blocked.keys()
            ):
                yield from self._below(child, guaranteed=guaranteed and entry[0] != 0)
            elif not child.wanted[self._tier].keys() <= self._stood_for.keys():
                for leaf in in_turn(child, self._tier, self._stood_for):
                    self._stood_for[leaf.shape] = None
                    yield leaf
            self._past[branch.order] = entry
