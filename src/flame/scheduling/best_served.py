"""Those below one tenant that have something, the best served first: who is asked to give."""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from flame.scheduling.tree import Branch, Leaf, leaves_of


class BestServed:
    """The children of a tenant. Their shares may change meanwhile.

    Args:
        share: How well somebody is served, by what it has and its weight.
    """

    def __init__(self, branch: Branch, share: Callable[[float, float], float]) -> None:
        self._share = share
        best: list[tuple[float, int, Leaf | Branch]] = [
            (-share(c.used + c.tips, c.spec.weight), -c.order, c) for c in branch.children if c.used
        ]
        best += [
            (-share(leaf.used + leaf.tips, leaf.wish.weight), -leaf.wish.order, leaf)
            for leaf in branch.keeping.values()
        ]
        heapify(best)
        self._best = best

    def __bool__(self) -> bool:
        return bool(self._best)

    def _served(self, child: Leaf | Branch) -> float:
        return self._share(child.used + child.tips, child.weight)

    def _left(self, child: Leaf | Branch) -> float:
        """How well a session is served when it has given what it gives at once; a tenant, before."""
        if isinstance(child, Branch):
            return self._served(child)
        return self._share(
            child.used + child.tips - lost(child, child.wish.batch_size), child.weight
        )

    def any_above(self, after: float, mine: Leaf | Branch, tier: int, most: int) -> bool:
        """Whether one of the first ``most`` to be asked may have more left than the taker would have.

        Those of higher tiers are not asked.
        """
        best = self._best
        aside: list[tuple[float, int, Leaf | Branch]] = []
        found = False
        while best and most and not found:
            negative, order, child = best[0]
            now = self._served(child)
            if -negative != now:
                heappop(best)
                heappush(best, (-now, order, child))
                continue
            if now <= after:
                break
            aside.append(heappop(best))
            if child is not mine and (isinstance(child, Branch) or child.tier <= tier):
                found = self._left(child) > after
                most -= 1
        for entry in aside:
            heappush(best, entry)
        return found

    def givers(self, mine: Leaf | Branch, tier: int, most: int) -> list[Leaf]:
        """Return who is asked to give, in turn: of the best served, the lowest tier first.

        At least ``most``, if there are so many.
        """
        best = self._best
        givers: list[Leaf] = []
        aside: list[tuple[float, int, Leaf | Branch]] = []
        while best and len(givers) < most:
            negative, order, child = heappop(best)
            now = self._served(child)
            if -negative != now:
                heappush(best, (-now, order, child))
                continue
            aside.append((negative, order, child))
            if child is mine:
                continue
            below: Iterable[Leaf] = [child] if isinstance(child, Leaf) else leaves_of(child)
            givers += sorted(
                (g for g in below if g.kept and g.tier <= tier),
                key=lambda g: (
                    g.tier,
                    g.kept <= g.wish.reserved,
                    -self._served(g),
                    -g.wish.order,
                ),
            )
        for entry in aside:
            heappush(best, entry)
        return givers


def lost(giver: Leaf, count: int) -> float:
    """What a session is taken to lose with ``count`` executors, in the unit of prices.

    By Webster's rule an executor counts half; a gang counts as a whole.
    """
    return count * giver.price / (2 if giver.wish.batch_size == 1 else 1)
