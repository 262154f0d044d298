"""The tree of tenants with their sessions as leaves: who has how much, and who is next.

Every branch keeps its hungry children sorted by how well they are served, per tier, so that the next
session is found by walking down and one change costs O(depth · log children).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

from flame.model.ids import NodeName
from flame.model.resources import Resources
from flame.model.tenants import TenantSpec
from flame.scheduling.facts import Wish
from flame.scheduling.sharing import Sharing

#: Prices are rounded; a difference by less than this part is none.
EXACT = 1e-6
#: (0: below what is guaranteed, 1: its turn, 2: others; share, order, child): no two siblings have the
#: same order.
Entry = tuple[int, float, int, Union["Leaf", "Branch"]]


@dataclass(slots=True, eq=False)
class Shape:
    """What has to be found at once.

    Attributes:
        blocked_at: Nothing was found at this count of the ledger's ``growths``; -1: not looked yet.
        none_spare_at: Nothing was to come at this count of its ``comings``.
        hungry: Sessions of this shape that want more.
    """

    request: Resources
    batch_size: int
    requires: tuple[tuple[str, str], ...]
    blocked_at: int = -1
    none_spare_at: int = -1
    hungry: int = 0


_NONE: dict[Shape, object] = {}


@dataclass(slots=True)
class Standing:
    """Where somebody stands among its siblings, as it was when turns were last looked at.

    Attributes:
        deserved: What it deserves, in the unit of prices.
        owed: Turns (:mod:`flame.scheduling.turns`) that it is owed; None: nobody knows yet.
        turn: Whether it is its turn.
    """

    deserved: float = 0.0
    owed: float | None = None
    turn: bool = False


@dataclass(slots=True, eq=False)
class Leaf:
    """A session.

    Attributes:
        price: What one executor counts.
        tips: What it had more than it deserved, in the unit of prices, decayed.
        kept: Executors it has, those on their way out excluded.
        standing_by: Idle executors that it can have back as they are.
        promised: Room that is set aside for it; it counts as if it had it.
        rooms: Its kept executors by node.
        promises: The room set aside for it, by node.
        expected: Executors of the last plan that the core has not reported yet, by node.
        gave_at: The circumstances in which somebody last took what it had work for.
        standing: Among the sessions of its tenant.
    """

    wish: Wish
    tier: int
    parent: "Branch"
    shape: Shape
    price: int
    tips: float = 0.0
    kept: int = 0
    promised: int = 0
    standing_by: int = 0
    rooms: dict[NodeName, int] = field(default_factory=dict)
    promises: dict[NodeName, int] = field(default_factory=dict)
    expected: dict[NodeName, int] = field(default_factory=dict)
    entry: Entry | None = None
    gave_at: int = -1
    standing: Standing = field(default_factory=Standing)

    @property
    def taken(self) -> int:
        """Executors it has or was promised."""
        return self.kept + self.promised

    @property
    def used(self) -> int:
        """What it has, in the unit of prices."""
        return (self.kept + self.promised) * self.price

    @property
    def weight(self) -> float:
        """Its part relative to its siblings."""
        return self.wish.weight

    @property
    def hungry(self) -> bool:
        """Whether it could use more, a gang's worth if it comes in gangs."""
        return self.wish.wanted >= self.kept + self.promised + self.wish.batch_size

    @property
    def surplus(self) -> int:
        """Executors it has no work for and does not reserve, in whole gangs."""
        over = self.taken - max(self.wish.wanted, self.wish.reserved)
        return over // self.wish.batch_size * self.wish.batch_size if over > 0 else 0


@dataclass(slots=True, eq=False)
class Branch:
    """A tenant.

    Attributes:
        guaranteed: Its quota, or what its children's quotas need.
        used: The sum over its leaves.
        amount: The same as resources; kept only where a quota or limit needs it.
        balance: What it had more than it deserved, in the unit of prices, decayed.
        tips: The same, as far as it tips the scales.
        tipped: What ``tips`` was when it last changed by much.
        leaving: What its executors take that are on their way out.
        standing: Among its siblings.
        keeping: Those of its leaves that have an executor.
        hungry: Children that want more, per tier, the least served first.
        wanted: Shapes of the hungry below it, per tier, and how many want each.
    """

    spec: TenantSpec
    order: int
    parent: "Branch | None"
    guaranteed: Resources | None = None
    used: int = 0
    balance: float = 0.0
    tips: float = 0.0
    tipped: float = 0.0
    amount: Resources | None = None
    leaving: Resources = field(default_factory=Resources)
    standing: Standing = field(default_factory=Standing)
    children: list["Branch"] = field(default_factory=list)
    leaves: dict[int, Leaf] = field(default_factory=dict)
    keeping: dict[int, Leaf] = field(default_factory=dict)
    hungry: dict[int, list[Entry]] = field(default_factory=dict)
    wanted: dict[int, dict[Shape, int]] = field(default_factory=dict)
    entry: Entry | None = None
    listed: dict[int, None] = field(default_factory=dict)

    @property
    def weight(self) -> float:
        """Its part relative to its siblings."""
        return self.spec.weight


class Tree:
    """Keeps every branch's order right while leaves gain and lose executors."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self.unit = 1  # the price of an ordinary executor
        self.touched: dict[int, Branch] = {}  # by order: where shares moved since the last plan
        self.wanted: dict[Shape, None] = {}  # shapes of the hungry
        self.ready: dict[int, Leaf] = {}  # by order: the hungry for which executors stand by

    def clear(self) -> None:
        """Forget whoever is listed: the branches are made anew."""
        self.touched.clear()
        for shape in self.wanted:
            shape.hungry = 0
        self.wanted.clear()
        self.ready.clear()

    def key(self, child: Leaf | Branch) -> Entry:
        """Return where the child belongs among its siblings."""
        # Webster's rule: with half of the next executor, whole executors stay nearest to the share.
        if isinstance(child, Leaf):
            wish, price, taken = child.wish, child.price, child.kept + child.promised
            share = self._sharing.share(taken * price + child.tips + price / 2, wish.weight)
            below, order = taken < wish.reserved, wish.order
        else:
            share = self._sharing.share(child.used + child.tips + self.unit / 2, child.weight)
            below, order = is_below(child), child.order
        level = 0 if below else 1 if child.standing.turn and is_due(child) else 2
        return (level, share, order, child)

    def charge(self, leaf: Leaf, count: int) -> None:
        """Correct everything above after the leaf's ``taken`` changed by ``count``."""
        price = count * leaf.price
        self.place(leaf)
        if leaf.kept:
            leaf.parent.keeping[leaf.wish.order] = leaf
        else:
            leaf.parent.keeping.pop(leaf.wish.order, None)
        branch: Branch | None = leaf.parent
        while branch is not None:
            branch.used += price
            if branch.amount is not None:
                branch.amount = branch.amount + leaf.wish.request * count
            self.touched[branch.order] = branch
            if branch.listed:
                self._move(branch)
            branch = branch.parent

    def recount(self, branch: Branch | None, used: int) -> None:
        """Correct the use of the branch and of all above, after prices changed."""
        while branch is not None:
            branch.used += used
            self.touched[branch.order] = branch
            if branch.listed:
                self._move(branch)
            branch = branch.parent

    def sort_again(self, branches: Iterable[Branch]) -> None:
        """Put branches where they belong, after ``unit`` changed."""
        for branch in branches:
            if branch.listed:
                self._move(branch)

    def remove(self, leaf: Leaf) -> None:
        """Take the leaf off its parent's list."""
        old, parent = leaf.entry, leaf.parent
        if old is None:
            return
        leaf.entry = None
        self.note_ready(leaf)
        self._count_hungry(leaf, -1)
        entries = parent.hungry[leaf.tier]
        del entries[bisect_left(entries, old)]
        if not entries:
            self._unlist(parent, leaf.tier)

    def place(self, leaf: Leaf) -> None:
        """List the leaf among the hungry where it belongs, or nowhere if it wants no more."""
        fresh = self.key(leaf) if leaf.hungry else None
        old, parent, tier = leaf.entry, leaf.parent, leaf.tier
        if fresh == old:
            return
        leaf.entry = fresh
        if old is None or fresh is None:
            self.note_ready(leaf)
            self._count_hungry(leaf, -1 if fresh is None else 1)
        entries = parent.hungry.get(tier)
        if entries is None:
            entries = parent.hungry[tier] = []
        if old is not None:
            del entries[bisect_left(entries, old)]
        if fresh is not None:
            insort(entries, fresh)
            if tier not in parent.listed:
                self._list(parent, tier)
        elif not entries:
            self._unlist(parent, tier)

    def note_ready(self, leaf: Leaf) -> None:
        """The leaf has become hungry, or is no longer; or executors stand by for it, or none does."""
        if leaf.standing_by and leaf.entry is not None and leaf.wish.batch_size == 1:
            self.ready[leaf.wish.order] = leaf
        else:
            self.ready.pop(leaf.wish.order, None)

    def _count_hungry(self, leaf: Leaf, change: int) -> None:
        shape = leaf.shape
        branch: Branch | None = leaf.parent
        while branch is not None:
            wanted = branch.wanted.setdefault(leaf.tier, {})
            left = wanted.get(shape, 0) + change
            if left:
                wanted[shape] = left
            else:
                del wanted[shape]
            branch = branch.parent
        shape.hungry += change
        if shape.hungry:
            self.wanted[shape] = None
        else:
            del self.wanted[shape]

    def _list(self, branch: Branch, tier: int) -> None:
        branch.listed[tier] = None
        above = branch.parent
        if above is None:
            return
        if branch.entry is None:
            branch.entry = self.key(branch)
        insort(above.hungry.setdefault(tier, []), branch.entry)
        if tier not in above.listed:
            self._list(above, tier)

    def _unlist(self, branch: Branch, tier: int) -> None:
        if branch.listed.pop(tier, 0) == 0 or branch.parent is None:
            return
        entries = branch.parent.hungry[tier]
        if branch.entry is not None:
            del entries[bisect_left(entries, branch.entry)]
        if not branch.listed:
            branch.entry = None
        if not entries:
            self._unlist(branch.parent, tier)

    def _move(self, branch: Branch) -> None:
        above, old = branch.parent, branch.entry
        if above is None or old is None:
            return
        fresh = branch.entry = self.key(branch)
        if fresh[:2] == old[:2]:
            branch.entry = old
            return
        for tier in branch.listed:
            entries = above.hungry[tier]
            del entries[bisect_left(entries, old)]
            insort(entries, fresh)


def is_below(branch: Branch) -> bool:
    """Whether the tenant has less than what it is guaranteed, of every resource in that."""
    if branch.guaranteed is None or branch.amount is None:
        return False
    return branch.amount.dominant_share(branch.guaranteed) < 1.0


def is_due(child: Leaf | Branch, less: float = 0.0) -> bool:
    """Whether it is its turn, and it would have less than it deserves without ``less``."""
    standing = child.standing
    return standing.turn and (child.used - less) * (1 + EXACT) < standing.deserved


def gives_turn(giver: Leaf | Branch, taker: Leaf | Branch, *, had: int) -> bool:
    """Whether it has more than it deserves, and is owed a turn less than the other one.

    Where executors differ in size, or come in gangs, nobody may have more than it deserves, and one still
    have none. ``had``: what the taker had before it took the first of a gang.
    """
    theirs, mine = giver.standing, taker.standing
    if theirs.owed is None or mine.owed is None or mine.owed - theirs.owed < 1.0 - EXACT:
        return False
    return not had or giver.used > theirs.deserved * (1 + EXACT)


def in_turn(branch: Branch, tier: int, besides: Mapping[Shape, object] = _NONE) -> Iterator[Leaf]:
    """Yield hungry leaves, the least served first. Stop iterating before anything changes.

    ``besides``: not those of these shapes. It may grow meanwhile.
    """
    for entry in branch.hungry.get(tier, ()):
        child = entry[3]
        if isinstance(child, Leaf):
            if child.shape not in besides:
                yield child
        elif not besides or not child.wanted[tier].keys() <= besides.keys():
            yield from in_turn(child, tier, besides)


def comes_before(first: Leaf, second: Leaf) -> bool:
    """Whether the first of two hungry leaves of a tier is in turn before the second."""
    above = {branch.order: child for branch, child in _steps_up(second)}
    for branch, child in _steps_up(first):
        other = above.get(branch.order)
        if other is not None:
            return child.entry is not None and other.entry is not None and child.entry < other.entry
    return False


def _steps_up(leaf: Leaf) -> Iterator[tuple[Branch, Leaf | Branch]]:
    child: Leaf | Branch = leaf
    while child.parent is not None:
        yield child.parent, child
        child = child.parent


def leaves_of(branch: Branch) -> Iterator[Leaf]:
    """Yield every leaf below."""
    yield from branch.leaves.values()
    for child in branch.children:
        yield from leaves_of(child)


def chain(leaf: Leaf) -> list[Branch]:
    """Return the branches above the leaf, the nearest first."""
    found: list[Branch] = []
    branch: Branch | None = leaf.parent
    while branch is not None:
        found.append(branch)
        branch = branch.parent
    return found
