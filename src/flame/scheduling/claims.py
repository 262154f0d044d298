"""Claims: room is made, and set aside, for those who are owed it.

Room comes, in this order, from what is on its way back anyway, from warm executors that serve nobody,
from executors whose session has no work for them, from lower tiers, and at last from whoever is
better served. The last only if the giver is *after* the move still at least as well served as the
taker is then: the opposite move is then never justified, so nothing goes back and forth. (Compared
are the two children of the lowest tenant that both belong to, as in Kueue's fair sharing.) Where
executors differ in size, what is left over of a large one may go to a third session, and a circle could
close: so whoever gave in a claim takes nothing back in one, from its equals, before the circumstances
change; it may have what is free. A gang counts what it would lose as a whole; for its first gang a
session is judged by one executor, because otherwise a gang larger than its share would never run.
Shares are no whole numbers of executors: who is owed one more for a while gets it from somebody who is
ahead (:mod:`flame.scheduling.turns`).

Whom a tenant's ceiling stops may still be owed something by those below the same tenant, and only by
them: they leave until the ceiling allows all that it is to get, a whole gang if it comes in gangs.

So nothing goes round for ever where nothing changes. Of equals only those take who did not give; these
lose nothing unless they give, and then they take no more: every claim either lets one of them grow, up to
the size of the cluster, or makes them fewer. What a plan has leave is no change of circumstances, also
where it is gone in the same moment (:meth:`~flame.scheduling.promises.Promises.ask`).
"""

from collections.abc import Iterable, Mapping, Sequence

from flame.scheduling.best_served import BestServed, lost
from flame.scheduling.clearing import GIVERS_TRIED, Clearing, MayGive, these
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import allows, ceiling_of, is_entitled, may_lose
from flame.scheduling.steps import Step
from flame.scheduling.tree import (
    EXACT,
    Branch,
    Leaf,
    Shape,
    chain,
    gives_turn,
    in_turn,
    is_due,
    leaves_of,
)

#: Sessions that may fail to find a giver at one tenant before the others there are not tried.
ATTEMPTS = 2
#: Shapes for which nothing spare was found before the others are not tried.
SPARE_TRIED = 16

_NONE: dict[Shape, object] = {}


class Claims:
    """The claims of one plan."""

    def __init__(
        self, ledger: Ledger, steps: list[Step], limited: dict[int, Branch | None]
    ) -> None:
        self._ledger = ledger
        self._limited = limited
        self._clearing = Clearing(ledger, steps)

    def run(self, tiers: Sequence[int]) -> None:
        """Add the steps that make room."""
        ledger = self._ledger
        if ledger.slots.promised and ledger.with_idle:
            self._clearing.promised()
        if ledger.returning or ledger.with_idle or ledger.surplus:
            for tier in tiers:
                self._from_spare(tier)
        touched = [b for _, b in sorted(ledger.tree.touched.items())]
        for branch in touched:
            if branch.spec.ceiling is not None:
                for tier in sorted(branch.listed, reverse=True):
                    self._within_ceiling(branch, tier)
        if ledger.policies.sharing.takes_back:
            for index, tier in enumerate(tiers):
                if index + 1 < len(tiers):
                    self._from_lower_tiers(tier)
            for branch in touched:
                for tier in sorted(branch.listed, reverse=True):
                    self._from_better_served(branch, tier)
        self._clearing.end()

    def _from_spare(self, tier: int) -> None:
        failed: dict[Shape, None] = {}
        most = min(SPARE_TRIED, len(self._ledger.tree.wanted))
        while len(failed) < most:
            leaf = self._first_with_spare(tier, failed, most)
            if leaf is None:
                return
            givers = [g for _, g in sorted(self._ledger.surplus.items()) if g is not leaf]
            if not self._clearing.make_room(leaf, these(givers), _surplus_only, graceful=True):
                failed[leaf.shape] = None

    def _within_ceiling(self, full: Branch, tier: int) -> None:
        """Let those whom this tenant's ceiling stops have what others below it need least."""
        ledger = self._ledger
        if all(allows(full, shape.request * shape.batch_size) for shape in full.wanted[tier]):
            return
        takes_back = ledger.policies.sharing.takes_back
        failed: dict[int, None] = {}
        while len(failed) < ATTEMPTS:
            leaf = self._first_capped(full, tier, failed)
            if leaf is None:
                return
            spare = [g for _, g in sorted(ledger.surplus.items()) if full in chain(g)]
            if spare and self._clearing.make_room(leaf, these(spare), _surplus_only, graceful=True):
                continue
            lower: list[Leaf] = []
            if takes_back and min(ledger.tiers) < tier:
                lower = _of_lower_tiers(leaves_of(full), tier)
            if not lower or not self._clearing.make_room(
                leaf, these(lower), _unless_guaranteed(leaf)
            ):
                failed[leaf.wish.order] = None

    def _from_lower_tiers(self, tier: int) -> None:
        ledger = self._ledger
        failed: dict[Shape, None] = {}
        givers: list[Leaf] | None = None
        while len(failed) < min(SPARE_TRIED, len(ledger.tree.wanted)):
            leaf = self._first(ledger.root, tier, {}, failed)
            if leaf is None:
                return
            if givers is None:
                givers = _of_lower_tiers(ledger.leaves.values(), tier)
            if not givers or not self._clearing.make_room(
                leaf, these(givers), _unless_guaranteed(leaf)
            ):
                failed[leaf.shape] = None

    def _from_better_served(self, branch: Branch, tier: int) -> None:
        """Let the least served below this tenant take from the best served below it."""
        ledger = self._ledger
        share = ledger.policies.sharing.share
        best = BestServed(branch, share)
        if not best:
            return
        failed: dict[int, None] = {}
        while len(failed) < ATTEMPTS:
            leaf = self._first(branch, tier, failed)
            if leaf is None:
                return
            path = chain(leaf)
            path = path[: path.index(branch)]
            mine: Leaf | Branch = path[-1] if path else leaf
            asked = leaf.wish.batch_size if leaf.taken else 1
            entitled = is_entitled(path, leaf.wish.request * leaf.wish.batch_size)
            after = share(mine.used + mine.tips + asked * leaf.price / 2, mine.weight)
            may_take_back = leaf.gave_at != ledger.circumstances
            above = may_take_back and best.any_above(after, mine, tier, GIVERS_TRIED)
            due = is_due(mine)
            if not entitled and not above and not due:
                failed[leaf.wish.order] = None
                if len(failed) == 1 and may_take_back:
                    return  # nobody is better served than the least served would be
                continue

            def may_give(
                giver: Leaf,
                count: int,
                after: float = after,
                entitled: bool = entitled,
                may_take_back: bool = may_take_back,
                due: bool = due,
                had: int = mine.used,
                mine: Leaf | Branch = mine,
            ) -> bool:
                below = chain(giver)
                below = below[: below.index(branch)]
                theirs: Leaf | Branch = below[-1] if below else giver
                if not may_lose(below, giver.wish.request * count):
                    return False
                if entitled and below:
                    return True
                if giver.kept - count < giver.wish.protected:
                    return False
                if not below and giver.taken - count < giver.wish.reserved:
                    return False
                if due and gives_turn(theirs, mine, had=had):
                    return True
                if is_due(theirs, count * giver.price):
                    return False
                if not may_take_back:
                    return False
                left = share(theirs.used + theirs.tips - lost(giver, count), theirs.weight)
                # Not for the last digit: both would be after the other for ever.
                return left - after > EXACT * abs(left)

            # A guarantee holds against higher tiers, too.
            highest = max(ledger.tiers) if entitled else tier

            def givers(mine: Leaf | Branch = mine, highest: int = highest) -> list[Leaf]:
                return best.givers(mine, highest, GIVERS_TRIED)

            # Within one tenant, and for a turn, nobody's work is thrown away.
            graceful = not path or not (entitled or above)
            if not self._clearing.make_room(leaf, givers, may_give, graceful=graceful):
                failed[leaf.wish.order] = None

    def _first_with_spare(self, tier: int, failed: dict[Shape, None], most: int) -> Leaf | None:
        """Return the first in turn for which one executor's room is spare, or may be.

        None, too, once so many shapes have failed.
        """
        ledger = self._ledger
        for leaf in in_turn(ledger.root, tier, failed):
            wish = leaf.wish
            if wish.order in self._limited or leaf is ledger.line:
                continue
            full = ceiling_of(leaf, wish.batch_size)
            if full is not None:
                self._limited[wish.order] = full
            elif ledger.surplus or self._clearing.may_have_spare(leaf):
                return leaf
            else:
                failed[leaf.shape] = None
                if len(failed) == most:
                    return None
        return None

    def _first(
        self,
        branch: Branch,
        tier: int,
        failed: Mapping[int, None],
        shapes_failed: Mapping[Shape, object] = _NONE,
    ) -> Leaf | None:
        """Return the first in turn that may have more, if need be in place of others below ``branch``."""
        above = _from_here_up(branch)
        for leaf in in_turn(branch, tier, shapes_failed):
            wish = leaf.wish
            if wish.order in failed:
                continue
            if wish.order not in self._limited:
                full = ceiling_of(leaf, wish.batch_size)
                if full is None:
                    return leaf
                self._limited[wish.order] = full
            if self._limited[wish.order] in above:
                return leaf
        return None

    @staticmethod
    def _first_capped(full: Branch, tier: int, failed: dict[int, None]) -> Leaf | None:
        """Return the first in turn that this tenant's ceiling stops, and none below it."""
        for leaf in in_turn(full, tier):
            wish = leaf.wish
            if wish.order not in failed and ceiling_of(leaf, wish.batch_size) is full:
                return leaf
        return None


def _surplus_only(giver: Leaf, count: int) -> bool:
    return count <= giver.surplus


def _of_lower_tiers(leaves: Iterable[Leaf], tier: int) -> list[Leaf]:
    """Return who has executors in lower tiers, in the order in which they are asked for them."""
    return sorted(
        (g for g in leaves if g.tier < tier and g.kept),
        key=lambda g: (g.tier, -g.used / g.weight, -g.wish.order),
    )


def _unless_guaranteed(taker: Leaf) -> MayGive:
    """Whoever is below another tenant keeps what that one is guaranteed."""
    above = chain(taker)

    def may_give(giver: Leaf, count: int) -> bool:
        below = [b for b in chain(giver) if b not in above]
        return may_lose(below, giver.wish.request * count)

    return may_give


def _from_here_up(branch: Branch) -> list[Branch]:
    found = [branch]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found
