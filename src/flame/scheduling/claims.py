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
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from flame.model.ids import ExecutorId, NodeName
from flame.model.resources import Resources
from flame.scheduling.facts import Holding
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import is_entitled, may_lose, within_ceilings
from flame.scheduling.rooms import Room
from flame.scheduling.steps import Evict, Release, Step
from flame.scheduling.tree import (
    EXACT,
    Branch,
    Leaf,
    chain,
    gives_turn,
    in_turn,
    is_due,
    leaves_of,
)

#: Sessions that may fail to find a giver at one tenant before the others there are not tried.
ATTEMPTS = 2
#: Nodes and givers looked at for one executor.
NODES_TRIED = 16
GIVERS_TRIED = 16
#: Nodes that are tried to be cleared for something larger than any one giver there has.
CLEARED = 4
NODES_SUMMED = 48
#: Shapes for which nothing spare was found before the others are not tried.
SPARE_TRIED = 16

_NOTHING = Resources()

#: Whether a session may give so many executors.
MayGive = Callable[[Leaf, int], bool]


class Claims:
    """The claims of one plan. What it assumes of releases is undone at its end: the core reports them."""

    def __init__(self, ledger: Ledger, steps: list[Step], limited: dict[int, None]) -> None:
        self._ledger = ledger
        self._steps = steps
        self._limited = limited
        self._undo: list[Callable[[], None]] = []  # at the end of the plan
        # By a shape's id: nodes where more was to come since nothing was found there, when they were
        # listed, and the last one that was found.
        self._places: dict[int, Iterator[Room]] = {}
        self._listed_at: dict[int, int] = {}
        self._looked_at: dict[int, Room] = {}

    def run(self, tiers: Sequence[int]) -> None:
        """Add the steps that make room."""
        ledger = self._ledger
        if ledger.line is not None and ledger.with_idle:
            self._clear_line(ledger.line)
        if ledger.returning or ledger.with_idle or ledger.surplus:
            for tier in tiers:
                self._from_spare(tier)
        if ledger.policies.sharing.takes_back:
            for index, tier in enumerate(tiers):
                if index + 1 < len(tiers):
                    self._from_lower_tiers(tier)
            for branch in [b for _, b in sorted(ledger.tree.touched.items())]:
                for tier in sorted(branch.listed, reverse=True):
                    self._from_better_served(branch, tier)
        for undo in reversed(self._undo):
            undo()
        for step in self._steps:
            if isinstance(step, Release):
                self._note_giver(ledger.leaves[step.session], step.count)

    # --- whose claim, on whom ---------------------------------------------------------------------

    def _clear_line(self, line: Leaf) -> None:
        """Have idle executors leave the room that is kept, where that is enough."""
        ledger = self._ledger
        for node in sorted(line.promises):
            self._evict(ledger.rooms.by_node[node], _NOTHING, 0)
        for _, room in sorted(ledger.with_idle.items()):
            while ledger.slots.coming < 0 and self._evict(room, _NOTHING, 1):
                pass

    def _from_spare(self, tier: int) -> None:
        def surplus_only(giver: Leaf, count: int) -> bool:
            return count <= giver.surplus

        failed: dict[int, None] = {}
        while len(failed) < SPARE_TRIED:
            leaf = self._first_with_spare(tier, failed)
            if leaf is None:
                return
            givers = [g for _, g in sorted(self._ledger.surplus.items()) if g is not leaf]
            if not self._make_room(leaf, lambda g=givers: g, surplus_only, graceful=True):  # type: ignore[misc]
                failed[id(leaf.shape)] = None

    def _from_lower_tiers(self, tier: int) -> None:
        ledger = self._ledger
        failed: dict[int, None] = {}
        givers: list[Leaf] | None = None
        while len(failed) < SPARE_TRIED:
            leaf = self._first(ledger.root, tier, failed, by_shape=True)
            if leaf is None:
                return
            if givers is None:
                givers = sorted(
                    (g for g in ledger.leaves.values() if g.tier < tier and g.kept),
                    key=lambda g: (g.tier, -g.used / g.weight, -g.wish.order),
                )
            above = chain(leaf)

            def may_give(giver: Leaf, count: int, above: list[Branch] = above) -> bool:
                below = [b for b in chain(giver) if b not in above]
                return may_lose(below, giver.wish.request * count)

            if not givers or not self._make_room(leaf, lambda g=givers: g, may_give):  # type: ignore[misc]
                failed[id(leaf.shape)] = None

    def _from_better_served(self, branch: Branch, tier: int) -> None:
        """Let the least served below this tenant take from the best served below it."""
        ledger = self._ledger
        share = ledger.policies.sharing.share
        children: list[Leaf | Branch] = [c for c in branch.children if c.used]
        children += branch.keeping.values()
        if not children:
            return

        def served(child: Leaf | Branch) -> float:
            return share(child.used + child.tips, child.weight)

        best = [(-served(c), -_order(c), c) for c in children]
        heapify(best)
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
            above = may_take_back and self._anybody_above(best, after, mine, served)
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
                mine: Leaf | Branch = mine,
            ) -> bool:
                below = chain(giver)
                below = below[: below.index(branch)]
                theirs: Leaf | Branch = below[-1] if below else giver
                lost = count * giver.price / (2 if giver.wish.batch_size == 1 else 1)
                if not may_lose(below, giver.wish.request * count):
                    return False
                if entitled and below:
                    return True
                if giver.kept - count < giver.wish.protected:
                    return False
                if not below and giver.taken - count < giver.wish.reserved:
                    return False
                if due and gives_turn(theirs, mine):
                    return True
                if is_due(theirs, count * giver.price):
                    return False
                if not may_take_back:
                    return False
                left = share(theirs.used + theirs.tips - lost, theirs.weight)
                # Not for the last digit: both would be after the other for ever.
                return left - after > EXACT * abs(left)

            # A guarantee holds against higher tiers, too.
            highest = max(ledger.tiers) if entitled else tier

            def givers(mine: Leaf | Branch = mine, highest: int = highest) -> list[Leaf]:
                return self._givers(best, mine, highest, served)

            # Within one tenant, and for a turn, nobody's work is thrown away.
            graceful = not path or not (entitled or above)
            if not self._make_room(leaf, givers, may_give, graceful=graceful):
                failed[leaf.wish.order] = None

    @staticmethod
    def _anybody_above(
        best: list[tuple[float, int, "Leaf | Branch"]],
        after: float,
        mine: "Leaf | Branch",
        served: Callable[["Leaf | Branch"], float],
    ) -> bool:
        """Whether the best served, the taker aside, has more than the taker would have."""
        aside: list[tuple[float, int, Leaf | Branch]] = []
        found = False
        while best:
            negative, order, child = best[0]
            now = served(child)
            if -negative != now:
                heappop(best)
                heappush(best, (-now, order, child))
            elif child is mine:
                aside.append(heappop(best))
            else:
                found = now > after
                break
        for entry in aside:
            heappush(best, entry)
        return found

    @staticmethod
    def _givers(
        best: list[tuple[float, int, "Leaf | Branch"]],
        mine: "Leaf | Branch",
        tier: int,
        served: Callable[["Leaf | Branch"], float],
    ) -> list[Leaf]:
        """Return who is asked to give: of the best served, the lowest tier first."""
        givers: list[Leaf] = []
        aside: list[tuple[float, int, Leaf | Branch]] = []
        while best and len(givers) < GIVERS_TRIED:
            negative, order, child = heappop(best)
            now = served(child)
            if -negative != now:
                heappush(best, (-now, order, child))
                continue
            aside.append((negative, order, child))
            if child is mine:
                continue
            below: Iterable[Leaf] = [child] if isinstance(child, Leaf) else leaves_of(child)
            givers += sorted(
                (g for g in below if g.kept and g.tier <= tier),
                key=lambda g: (g.tier, g.kept <= g.wish.reserved, -served(g), -g.wish.order),
            )
        for entry in aside:
            heappush(best, entry)
        return givers

    def _first_with_spare(self, tier: int, failed: dict[int, None]) -> Leaf | None:
        """Return the first in turn for which one executor's room is spare, or may be."""
        ledger = self._ledger
        for leaf in in_turn(ledger.root, tier):
            wish = leaf.wish
            if id(leaf.shape) in failed or wish.order in self._limited or leaf is ledger.line:
                continue
            if not within_ceilings(leaf, wish.batch_size):
                self._limited[wish.order] = None
            elif ledger.surplus or self._may_have_spare(leaf):
                return leaf
            else:
                failed[id(leaf.shape)] = None
                if len(failed) == SPARE_TRIED:
                    return None
        return None

    def _may_have_spare(self, leaf: Leaf) -> bool:
        steps, undone = len(self._steps), len(self._undo)
        found = self._spare(leaf) is not None
        self._roll_back(steps, undone)  # of a gang, there may not be enough for all
        return found

    def _roll_back(self, steps: int, undone: int) -> None:
        for undo in reversed(self._undo[undone:]):
            undo()
        del self._undo[undone:], self._steps[steps:]

    def _first(
        self, branch: Branch, tier: int, failed: dict[int, None], *, by_shape: bool = False
    ) -> Leaf | None:
        for leaf in in_turn(branch, tier):
            wish = leaf.wish
            if (
                wish.order in self._limited
                or (id(leaf.shape) if by_shape else wish.order) in failed
            ):
                continue
            if within_ceilings(leaf, wish.batch_size):
                return leaf
            self._limited[wish.order] = None
        return None

    # --- making room ------------------------------------------------------------------------------

    def _make_room(
        self,
        leaf: Leaf,
        givers: Callable[[], list[Leaf]],
        may_give: MayGive,
        *,
        graceful: bool = False,
    ) -> bool:
        """Set room aside for the session's next executor, or its next gang, or for none of it."""
        ledger = self._ledger
        steps, undone = len(self._steps), len(self._undo)
        if leaf is ledger.line:
            return False  # what there is, is kept for it already
        promised: list[Room] = []
        for _ in range(leaf.wish.batch_size):
            room = self._spare(leaf)
            if room is None:
                room = self._taken(leaf, givers(), may_give, graceful=graceful)
            if room is None:
                for place in promised:
                    ledger.promise(leaf, place, -1)
                self._roll_back(steps, undone)
                return False
            ledger.promise(leaf, room, 1)
            promised.append(room)
        for room in promised:
            ledger.changed[room.machine.node] = room
        return True

    def _spare(self, leaf: Leaf) -> Room | None:
        """Return a node with room that is on its way back, or that an idle executor has to leave."""
        ledger, request, shape = self._ledger, leaf.wish.request, leaf.shape
        bound = ledger.slots.open < 1
        if bound and ledger.slots.coming > 0:  # there is room, and somebody leaves some other
            anywhere = ledger.rooms.find(leaf.wish)
            if anywhere is not None:
                return anywhere
        least = 1 if bound and ledger.slots.coming < 1 else 0
        key = id(shape)
        places = self._places.get(key)
        if places is None:
            places = self._places[key] = iter(ledger.spare_since(shape.none_spare_at))
            self._listed_at[key] = ledger.comings
        room = self._looked_at.get(key) or next(places, None)
        while room is not None:
            if ledger.rooms.suits(leaf.wish, room) and (
                (not least and request.fits_in(room.coming)) or self._evict(room, request, least)
            ):
                self._looked_at[key] = room
                return room
            room = next(places, None)
        self._looked_at.pop(key, None)
        if not least:  # with a slot more, there may be
            shape.none_spare_at = self._listed_at[key]
        return None

    def _evict(self, room: Room, request: Resources, least: int) -> bool:
        evicted: list[ExecutorId] = []
        coming = room.coming
        # Who stands by for a session is of more use than who does not.
        for executor, idle in sorted(room.idle.items(), key=_use):
            if request.fits_in(coming) and len(evicted) >= least:
                break
            coming = coming + idle.resources
            evicted.append(executor)
        if not request.fits_in(coming) or len(evicted) < least:
            return False
        for executor in evicted:
            idle = room.idle.pop(executor)
            self._leave(room, idle.resources, 1)
            self._undo.append(lambda e=executor, i=idle: self._back(room, e, i))  # type: ignore[misc]
            self._steps.append(Evict(executor))
        return True

    def _taken(
        self, leaf: Leaf, givers: Sequence[Leaf], may_give: MayGive, *, graceful: bool
    ) -> Room | None:
        """Have others leave a node until the request fits there; return the node."""
        ledger, request = self._ledger, leaf.wish.request
        asked = [g for g in givers[:GIVERS_TRIED] if g is not leaf]
        asked = [g for g in asked if may_give(g, g.wish.batch_size)]
        for giver in asked:
            for node in sorted(giver.rooms)[:NODES_TRIED]:
                room = ledger.rooms.by_node[node]
                if request.fits_in(room.coming + giver.wish.request) and ledger.rooms.suits(
                    leaf.wish, room
                ):
                    self._release(leaf, giver, node, giver.wish.batch_size, graceful=graceful)
                    return room
        for node in self._promising(leaf, asked):
            room = ledger.rooms.by_node[node]
            steps, undone = len(self._steps), len(self._undo)
            on_node = [g for g in asked if g.rooms.get(node)]
            if self._clear(leaf, room, on_node, may_give, graceful=graceful):
                return room
            self._roll_back(steps, undone)
        return None

    def _promising(self, leaf: Leaf, givers: Sequence[Leaf]) -> list[NodeName]:
        """Return nodes that would have the room if everybody there gave everything, best first."""
        ledger, request = self._ledger, leaf.wish.request
        could: dict[NodeName, Resources] = {}
        count = 0
        for giver in givers:
            for node, executors in giver.rooms.items():
                amount = giver.wish.request
                if executors > 1:
                    amount = amount * executors
                there = could.get(node)
                could[node] = amount if there is None else there + amount
                count += 1
            if count > NODES_SUMMED:
                break
        found = [
            (-ledger.rooms.by_node[node].emptiness, node)
            for node, amount in could.items()
            if request.fits_in(ledger.rooms.by_node[node].coming + amount)
            and ledger.rooms.suits(leaf.wish, ledger.rooms.by_node[node])
        ]
        return [node for _, node in sorted(found)[:CLEARED]]

    def _clear(
        self,
        leaf: Leaf,
        room: Room,
        givers: Sequence[Leaf],
        may_give: MayGive,
        *,
        graceful: bool,
    ) -> bool:
        request, node = leaf.wish.request, room.machine.node
        for giver in givers:
            gang = giver.wish.batch_size
            while not request.fits_in(room.coming) and giver.rooms.get(node):
                if not may_give(giver, gang):
                    break
                self._release(leaf, giver, node, gang, graceful=graceful)
            if request.fits_in(room.coming):
                return True
        return False

    def _release(
        self, leaf: Leaf, giver: Leaf, node: NodeName, count: int, *, graceful: bool
    ) -> None:
        ledger = self._ledger
        before = giver.gave_at
        self._undo.append(lambda: setattr(giver, "gave_at", before))
        self._note_giver(giver, count)
        left = count
        places = [node]
        if giver.rooms[node] < count:
            places += [n for n in sorted(giver.rooms) if n != node]
        for place in places:
            room = ledger.rooms.by_node[place]
            fewer = min(left, giver.rooms.get(place, 0))
            if not fewer:
                continue
            ledger.hold(giver, room, -fewer)
            self._undo.append(lambda r=room, k=fewer: ledger.hold(giver, r, k))  # type: ignore[misc]
            self._leave(room, giver.wish.request * fewer, fewer)
            left -= fewer
            if not left:
                break
        grace = None if graceful and giver.tier >= leaf.tier else ledger.policies.grace
        self._steps.append(Release(giver.wish.session, count, node, grace))

    def _note_giver(self, giver: Leaf, count: int) -> None:
        if giver.surplus < count:
            giver.gave_at = self._ledger.circumstances

    def _leave(self, room: Room, amount: Resources, count: int) -> None:
        slots = self._ledger.slots
        room.leaving = room.leaving + amount
        slots.freed += count

        def undo() -> None:
            room.leaving = room.leaving - amount
            slots.freed -= count

        self._undo.append(undo)

    def _back(self, room: Room, executor: ExecutorId, idle: Holding) -> None:
        room.idle[executor] = idle
        self._ledger.note_coming(room)


def _use(entry: tuple[ExecutorId, Holding]) -> tuple[bool, ExecutorId]:
    executor, idle = entry
    return (idle.standby is not None, executor)


def _order(child: "Leaf | Branch") -> int:
    return child.wish.order if isinstance(child, Leaf) else child.order
