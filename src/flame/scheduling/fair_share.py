"""Weighted fair sharing between sessions, by dominant resource.

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, Algorithm 1, with a session in the
place of a user. Executors are handed out whole, so shares are fair to within one. Higher priorities
are filled first.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from flame.model.ids import NodeName, SessionNumber
from flame.model.resources import Resources
from flame.scheduling.snapshot import (
    Assign,
    Evict,
    IdleExecutor,
    Plan,
    Release,
    Reuse,
    SessionDemand,
    Snapshot,
    Step,
)


class FairShare:
    """Give every session its share of whole executors, and take back what exceeds it.

    A session keeps more than its share as long as nobody else can use it. Equal shares go to the
    older session. O(E (log S + N)) for E executors, S sessions and N nodes.
    """

    def plan(self, snapshot: Snapshot) -> Plan:
        """Return the steps towards the fair shares."""
        targets = fair_targets(snapshot)
        if all(s.wanted <= s.bound for s in snapshot.sessions):
            return ()
        short = [s for s in snapshot.sessions if targets[s.session] > s.bound]
        room = _Room(snapshot)
        steps: list[Step] = []
        for session, missing in _by_turns(short, targets):
            for _ in range(missing):
                if not room.place(session, steps):
                    room.owe(session, steps)
        if room.owed:
            steps.extend(_releases(snapshot, targets, room))
        else:
            steps.extend(_leftovers(snapshot, targets, room))
        return tuple(steps)


def fair_targets(snapshot: Snapshot) -> dict[SessionNumber, int]:
    """Return how many executors each session should have.

    Progressive filling over the whole cluster's resources: the session with the smallest weighted
    dominant share gets the next executor, until nothing fits or nobody wants more.
    """
    targets = {s.session: 0 for s in snapshot.sessions}
    left = snapshot.total
    for priority in sorted({s.priority for s in snapshot.sessions}, reverse=True):
        heap: list[tuple[bool, float, int, SessionDemand]] = [
            (s.reserved == 0, 0.0, s.order, s)
            for s in snapshot.sessions
            if s.priority == priority and s.wanted > 0
        ]
        heapify(heap)
        while heap:
            _, _, _, s = heappop(heap)
            step = s.request * s.batch_size
            if not step.fits_in(left):
                continue
            left = left - step
            targets[s.session] += s.batch_size
            got = targets[s.session]
            if got < s.wanted:
                share = (s.request * got).dominant_share(snapshot.total) / s.weight
                heappush(heap, (got >= s.reserved, share, s.order, s))
    return targets


def _by_turns(
    short: list[SessionDemand], targets: dict[SessionNumber, int]
) -> list[tuple[SessionDemand, int]]:
    ordered = sorted(short, key=lambda s: (-s.priority, s.bound / s.weight, s.order))
    return [(s, targets[s.session] - s.bound) for s in ordered]


class _Room:
    """What is free, while a plan is being made."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._free: dict[NodeName, Resources] = {n.node: n.free for n in snapshot.nodes}
        self._idle: list[IdleExecutor] = list(snapshot.idle)
        returning = Resources()
        for node in snapshot.nodes:
            returning = returning + node.returning
        self._returning = returning
        self.owed: list[SessionDemand] = []

    def place(self, session: SessionDemand, steps: list[Step]) -> bool:
        """Find one executor for the session; False if there is no room now."""
        for index, idle in enumerate(self._idle):
            if (
                idle.tenant == session.tenant
                and idle.application == session.application
                and idle.resources == session.request
            ):
                del self._idle[index]
                steps.append(Reuse(session.session, idle.executor))
                return True
        node = self._roomiest(session.request)
        if node is not None:
            self._free[node] = self._free[node] - session.request
            steps.append(Assign(session.session, node))
            return True
        return False

    def owe(self, session: SessionDemand, steps: list[Step]) -> None:
        """Note an executor that could not be placed, unless what is returning will do.

        Idle processes are stopped for it; their resources come back when they have ended.
        """
        while self._idle and not session.request.fits_in(self._returning):
            idle = self._idle.pop(0)
            steps.append(Evict(idle.executor))
            self._returning = self._returning + idle.resources
        if session.request.fits_in(self._returning):
            self._returning = self._returning - session.request
        else:
            self.owed.append(session)

    def _roomiest(self, request: Resources) -> NodeName | None:
        best: NodeName | None = None
        for node, free in self._free.items():
            if request.fits_in(free) and (
                best is None or free.cpu_millis > self._free[best].cpu_millis
            ):
                best = node
        return best


def _leftovers(
    snapshot: Snapshot, targets: dict[SessionNumber, int], room: _Room
) -> Iterator[Step]:
    """Give what nobody is owed to whoever can use it, above its share.

    There is some when executors that count towards a share are on nodes that are away, or when what
    is left on each node is too little for those whose share it is.
    """
    for session in sorted(snapshot.sessions, key=lambda s: (-s.priority, s.bound, s.order)):
        extra: list[Step] = []
        had = max(session.bound, targets[session.session])
        while session.batch_size == 1 and had < session.wanted and room.place(session, extra):
            had += 1
        yield from extra


def _releases(snapshot: Snapshot, targets: dict[SessionNumber, int], room: _Room) -> list[Release]:
    """Take from sessions above their share what the others are owed, lowest priority first."""
    if not room.owed:
        return []
    needed = Resources()
    for session in room.owed:
        needed = needed + session.request
    over = sorted(
        (s for s in snapshot.sessions if s.bound > targets[s.session]),
        key=lambda s: (s.priority, -(s.bound - targets[s.session]), -s.order),
    )
    releases: list[Release] = []
    for session in over:
        count = 0
        while count < session.bound - targets[session.session] and _is_positive(needed):
            needed = needed - session.request
            count += 1
        if count:
            releases.append(Release(session.session, count))
    return releases


def _is_positive(amount: Resources) -> bool:
    return amount.cpu_millis > 0 or amount.memory_bytes > 0 or amount.gpus > 0
