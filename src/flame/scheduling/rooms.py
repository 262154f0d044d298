"""The nodes' room, sorted, so that a place is found without looking at every node.

A *shelf* holds nodes by the free part of their scarcest resource. There is one shelf for all nodes,
one for nodes with nothing special (no GPU, no extras: ordinary work goes there first), and, made when
first asked for, one for each label, extra and for GPUs.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from flame.model.ids import ExecutorId, NodeName, SessionNumber
from flame.model.labels import Labels, match
from flame.model.resources import Resources
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.placement import score, terms

#: Nodes that are compared where more than the room decides.
CANDIDATES = 8
_NOTHING = Resources()
_GPU = ("gpu",)


class Asked(Protocol):
    """What decides where an executor may be: a session's wish, or the shape of many."""

    @property
    def request(self) -> Resources:
        """What it takes."""

    @property
    def requires(self) -> Labels:
        """Labels that its node must have."""


@dataclass(slots=True, eq=False)
class Room:
    """One node.

    Attributes:
        free: Capacity less all executors on it, those on their way out included.
        open: ``free`` less what is promised: what anybody may take. It may be below zero.
        leaving: What is on its way back.
        promises: Who was promised how many places of which size.
        kept: Executors per session, those on their way out excluded.
        idle: Warm executors that serve nobody.
    """

    machine: Machine
    free: Resources
    open: Resources
    leaving: Resources = _NOTHING
    promises: dict[SessionNumber, int] = field(default_factory=dict)
    kept: dict[SessionNumber, int] = field(default_factory=dict)
    idle: dict[ExecutorId, Holding] = field(default_factory=dict)
    shelves: list["Shelf"] = field(default_factory=list)
    emptiness: float = 0.0

    @property
    def coming(self) -> Resources:
        """What anybody may take when those on their way out are gone."""
        leaving = self.leaving
        if leaving.cpu_millis or leaving.memory_bytes or leaving.gpus or leaving.extras:
            return self.open + leaving
        return self.open


@dataclass(slots=True, eq=False)
class Shelf:
    """Nodes sorted by emptiness; ``cpu`` and ``memory`` are the most that one of them has."""

    entries: list[tuple[float, NodeName, Room]] = field(default_factory=list)
    cpu: int = 0
    memory: int = 0

    def least(self, request: Resources) -> float:
        """Return an emptiness below which nothing fits."""
        parts = []
        if request.cpu_millis:
            parts.append(request.cpu_millis / max(1, self.cpu))
        if request.memory_bytes:
            parts.append(request.memory_bytes / max(1, self.memory))
        return min(parts, default=0.0) * (1.0 - 1e-9)

    def fitting(self, wish: Wish, *, spread: bool) -> Iterator[Room]:
        """Yield nodes that have room, the emptiest first to spread, the fullest first to pack."""
        request, requires, entries = wish.request, wish.requires, self.entries
        least = self.least(request)
        first = bisect_left(entries, (least,))
        for index in (
            range(len(entries) - 1, first - 1, -1) if spread else range(first, len(entries))
        ):
            room: Room = entries[index][2]
            if request.fits_in(room.open) and (
                not requires or match(requires, room.machine.labels)
            ):
                yield room


class Rooms:
    """All nodes."""

    def __init__(self, *, spread: bool) -> None:
        self.by_node: dict[NodeName, Room] = {}
        self._spread = spread
        self._all = Shelf()
        self._plain = Shelf()
        self._special: dict[tuple[str, ...], Shelf] = {}

    def add(self, room: Room) -> None:
        """Take in a node."""
        self.by_node[room.machine.node] = room
        if room.machine.cordoned:
            return
        room.emptiness = _emptiness(room)
        for shelf in (self._all, self._plain, *self._special.values()):
            if shelf is self._all or self._belongs(shelf, room):
                self._put(shelf, room)

    def remove(self, room: Room) -> None:
        """Forget a node."""
        for shelf in room.shelves:
            del shelf.entries[bisect_left(shelf.entries, _entry(room))]
        room.shelves.clear()
        del self.by_node[room.machine.node]

    def update(self, room: Room) -> None:
        """Sort a node in again, after its ``open`` changed."""
        emptiness = _emptiness(room)
        if emptiness == room.emptiness:
            return
        name = room.machine.node
        old, fresh = (room.emptiness, name), (emptiness, name, room)
        room.emptiness = emptiness
        for shelf in room.shelves:
            del shelf.entries[bisect_left(shelf.entries, old)]
            insort(shelf.entries, fresh)

    def take(self, room: Room, amount: Resources) -> None:
        """Leave less to others, for as long as somebody tries whether all of a gang fits."""
        room.open = room.open - amount
        self.update(room)

    def give_back(self, room: Room, amount: Resources) -> None:
        """Undo :meth:`take`."""
        room.open = room.open + amount
        self.update(room)

    def find(self, wish: Wish) -> Room | None:
        """Return the best node with room for one executor, or None."""
        request = wish.request
        shelves: list[Shelf] = []
        narrow = self._narrowest(wish)
        if narrow is None and not request.gpus and not request.extras:
            shelves = [self._plain, self._all]
        else:
            shelves = [narrow or self._all]
        if not wish.prefers and not wish.locality:
            for shelf in shelves:
                for room in shelf.fitting(wish, spread=self._spread):
                    return room
            return None
        return self._best(wish, shelves)

    def _best(self, wish: Wish, shelves: list[Shelf]) -> Room | None:
        candidates: dict[NodeName, Room] = {}
        for shelf in [
            self._shelf(("label", name, value)) for name, value, _ in wish.prefers
        ] + shelves:
            for count, room in enumerate(shelf.fitting(wish, spread=self._spread), 1):
                candidates[room.machine.node] = room
                if count == CANDIDATES:
                    break
        for node in wish.locality:
            near = self.by_node.get(node)
            if near is not None and self._fits(wish, near):
                candidates[node] = near
        ranked = [
            (self.score(wish, room), -index, room)
            for index, (_, room) in enumerate(sorted(candidates.items()))
        ]
        return max(ranked)[2] if ranked else None

    def roomiest(self) -> Iterator[Room]:
        """Yield the nodes that are not cordoned, the emptiest first."""
        return (room for _, _, room in reversed(self._all.entries))

    def score(self, wish: Wish, room: Room) -> float:
        """Return how good the node is for the session."""
        machine = room.machine
        return score(terms(wish, machine.node, machine.labels, room.emptiness, spread=self._spread))

    def suits(self, asked: Asked, room: Room) -> bool:
        """Whether such executors may be there at all, once there is room."""
        machine = room.machine
        return (
            not machine.cordoned
            and match(asked.requires, machine.labels)
            and asked.request.fits_in(machine.capacity)
        )

    def _fits(self, wish: Wish, room: Room) -> bool:
        return self.suits(wish, room) and wish.request.fits_in(room.open)

    def _narrowest(self, wish: Wish) -> Shelf | None:
        keys: list[tuple[str, ...]] = [("label", *pair) for pair in wish.requires]
        keys += [("extra", name) for name, _ in wish.request.extras]
        if wish.request.gpus:
            keys.append(_GPU)
        return min(map(self._shelf, keys), key=lambda s: len(s.entries), default=None)

    def _shelf(self, key: tuple[str, ...]) -> Shelf:
        shelf = self._special.get(key)
        if shelf is None:
            shelf = self._special[key] = Shelf()
            for room in self.by_node.values():
                if not room.machine.cordoned and self._belongs(shelf, room):
                    self._put(shelf, room)
        return shelf

    def _belongs(self, shelf: Shelf, room: Room) -> bool:
        capacity = room.machine.capacity
        if shelf is self._plain:
            return not capacity.gpus and not capacity.extras
        key = next(k for k, s in self._special.items() if s is shelf)
        if key == _GPU:
            return capacity.gpus > 0
        if key[0] == "label":
            return key[1:] in room.machine.labels
        return capacity.amount_of(key[1]) > 0

    def _put(self, shelf: Shelf, room: Room) -> None:
        capacity = room.machine.capacity
        shelf.cpu = max(shelf.cpu, capacity.cpu_millis)
        shelf.memory = max(shelf.memory, capacity.memory_bytes)
        insort(shelf.entries, _entry(room))
        room.shelves.append(shelf)


def _entry(room: Room) -> tuple[float, NodeName, Room]:
    return (room.emptiness, room.machine.node, room)


def _emptiness(room: Room) -> float:
    """The free part of the scarcer of CPU and memory; what else there is, is few and looked at."""
    capacity, left = room.machine.capacity, room.open
    if not capacity.cpu_millis:
        return left.memory_bytes / capacity.memory_bytes if capacity.memory_bytes else 0.0
    cpu = left.cpu_millis / capacity.cpu_millis
    if not capacity.memory_bytes:
        return cpu
    memory = left.memory_bytes / capacity.memory_bytes
    return cpu if cpu < memory else memory
