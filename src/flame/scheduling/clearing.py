"""Room is cleared for one session: of what is spare, and of what others have to leave.

All of a gang, or nothing. The clearing is only assumed, for the rest of the plan: what the core does of
it, it reports.
"""

from collections.abc import Callable, Iterator, Sequence

from flame.model.ids import ExecutorId, NodeName
from flame.model.resources import Resources
from flame.scheduling.facts import Holding
from flame.scheduling.ledger import Ledger
from flame.scheduling.limits import ceiling_of, relieves
from flame.scheduling.rooms import Room
from flame.scheduling.steps import Evict, Release, Step
from flame.scheduling.tree import Leaf

#: Nodes and givers looked at for one executor.
NODES_TRIED = 16
GIVERS_TRIED = 16
#: Nodes that are tried to be cleared for something larger than any one giver there has.
CLEARED = 4
NODES_SUMMED = 48

_NOTHING = Resources()

#: Whether a session may give so many executors.
MayGive = Callable[[Leaf, int], bool]
#: Who is asked, in turn, as things are now.
Givers = Callable[[], list[Leaf]]


def these(givers: list[Leaf]) -> Givers:
    """Always the same."""
    return lambda: givers


class Clearing:
    """The clearings of one plan."""

    def __init__(self, ledger: Ledger, steps: list[Step]) -> None:
        self._ledger = ledger
        self._steps = steps
        self._undo: list[Callable[[], None]] = []  # at the end of the plan
        # By a shape's id: nodes where more was to come since nothing was found there, when they were
        # listed, and the last one that was found.
        self._places: dict[int, Iterator[Room]] = {}
        self._listed_at: dict[int, int] = {}
        self._looked_at: dict[int, Room] = {}

    def end(self) -> None:
        """Forget what was assumed, but for who gave."""
        for undo in reversed(self._undo):
            undo()
        for step in self._steps:
            if isinstance(step, Release):
                giver = self._ledger.leaves[step.session]
                self._note_giver(giver, step.count)
                self._ledger.ask(giver, step.count)

    def promised(self) -> None:
        """Have idle executors leave the room that is promised, where that is enough."""
        ledger, line = self._ledger, self._ledger.line
        with_idle = [room for _, room in sorted(ledger.with_idle.items())]
        for room in with_idle:
            if room.promises:
                kept = line.promises.get(room.machine.node, 0) if line is not None else 0
                if line is not None and kept:  # there may never be enough for both
                    self._evict(room, line.wish.request * -kept, 0)
                self._evict(room, _NOTHING, 0)
        for room in with_idle:
            while ledger.slots.coming < 0 and self._evict(room, _NOTHING, 1):
                pass

    def make_room(
        self,
        leaf: Leaf,
        givers: Givers,
        may_give: MayGive,
        *,
        graceful: bool = False,
    ) -> bool:
        """Set room aside for the session's next executor, or its next gang, or for none of it."""
        ledger = self._ledger
        if leaf is not ledger.line:
            return self._make_room(leaf, givers, may_give, graceful=graceful)
        kept = dict(leaf.promises)
        ledger.forget_promises(leaf)
        made = self._make_room(leaf, givers, may_give, graceful=graceful)
        if not made:
            ledger.keep_line(leaf, kept)
        return made

    def _make_room(self, leaf: Leaf, givers: Givers, may_give: MayGive, *, graceful: bool) -> bool:
        ledger = self._ledger
        steps, undone = len(self._steps), len(self._undo)
        relieved = self._relieve(leaf, givers, may_give, graceful=graceful)
        if relieved is None:
            self._roll_back(steps, undone)
            return False
        promised: list[Room] = []
        for _ in range(leaf.wish.batch_size):
            room = self._left_free(leaf, relieved) if relieved else None
            room = room or self._spare(leaf)
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

    def _relieve(
        self,
        leaf: Leaf,
        givers: Givers,
        may_give: MayGive,
        *,
        graceful: bool,
    ) -> list[Room] | None:
        """Have others leave until ceilings allow all that the session gets; return where they leave.

        None: they cannot. All givers are below the tenant whose ceiling it is.
        """
        gang = leaf.wish.batch_size
        relieved: list[Room] = []
        while (full := ceiling_of(leaf, gang)) is not None:
            for giver in givers()[:GIVERS_TRIED]:
                count = giver.wish.batch_size
                if (
                    giver is not leaf
                    and giver.kept >= count
                    and relieves(giver, full, leaf.wish.request * gang)
                    and may_give(giver, count)
                ):
                    node = self._best_place(leaf, giver)
                    self._release(leaf, giver, node, count, graceful=graceful)
                    relieved.append(self._ledger.rooms.by_node[node])
                    break
            else:
                return None
        return relieved

    def _best_place(self, leaf: Leaf, giver: Leaf) -> NodeName:
        """Return a node of the giver's, if possible one where the request fits when it has left."""
        rooms, places = self._ledger.rooms, sorted(giver.rooms)
        for node in places[:NODES_TRIED]:
            room = rooms.by_node[node]
            fits = leaf.wish.request.fits_in(room.coming + giver.wish.request)
            if fits and rooms.suits(leaf.wish, room):
                return node
        return places[0]

    def _left_free(self, leaf: Leaf, relieved: list[Room]) -> Room | None:
        """Return a node with room where others leave for the session, else one that has it already."""
        ledger, wish = self._ledger, leaf.wish
        if ledger.slots.coming >= 1:
            for room in relieved:
                if ledger.rooms.suits(wish, room) and wish.request.fits_in(room.coming):
                    return room
        return ledger.rooms.find(wish) if ledger.slots.open > 0 else None

    def may_have_spare(self, leaf: Leaf) -> bool:
        """Whether one executor's room is spare. Of a gang, there may not be enough for all."""
        steps, undone = len(self._steps), len(self._undo)
        found = self._spare(leaf) is not None
        self._roll_back(steps, undone)
        return found

    def _roll_back(self, steps: int, undone: int) -> None:
        for undo in reversed(self._undo[undone:]):
            undo()
        del self._undo[undone:], self._steps[steps:]

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
        asked: list[Leaf] = []
        for giver in givers[:GIVERS_TRIED]:
            if giver is leaf or not may_give(giver, giver.wish.batch_size):
                continue
            asked.append(giver)
            missing = request - giver.wish.request
            for node in sorted(giver.rooms)[:NODES_TRIED]:
                room = ledger.rooms.by_node[node]
                if missing.fits_in(room.coming) and ledger.rooms.suits(leaf.wish, room):
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
