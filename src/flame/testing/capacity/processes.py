"""A simulated executor process: it works through what it is handed, and says so once a batch.

The tasks in its hand run one after the other, so the time at which each begins follows from when the
first one began: nothing happens per task. Results are told when the last of a batch is done, and what
has to be told earlier (tasks to give back, the time to leave) is worked out at that moment.
"""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from flame.core import effects, events
from flame.model.attempts import Cause
from flame.model.ids import SessionNumber, TaskId
from flame.testing.world import World

if TYPE_CHECKING:
    from flame.testing.capacity.sessions import Session

#: Seconds of work that are told in one batch; longer tasks are told one by one.
BATCH = 0.5
#: As the executor manager's: at least one task that runs and one that is next.
LEAST_WINDOW, MOST_WINDOW = 2, 4096
_NO_SESSION = SessionNumber(0)
#: Seconds from which on an executor says that a task runs.
STARTED_AFTER = 0.01
_INSTANT = 1e-6  # times are floats


class Place(Protocol):
    """What a process needs of the simulation around it."""

    world: World

    def post(self, event: object) -> None:
        """Tell the cluster."""

    def ran(self, session: "Session", begins: list[float], ends: float) -> None:
        """Tasks began at these times and are done; the last one ended at ``ends``."""

    def lost(self, session: "Session", tasks: int, seconds: float) -> None:
        """Tasks were thrown away after they had run for so long, all together."""

    def is_bound(self, session: "Session", change: int) -> None:
        """The session has an executor more, or less."""

    def gone(self, process: "Process") -> None:
        """The process has ended."""


class Process:
    """One executor process.

    Attributes:
        since: When it was ordered.
        number: The incarnation that it was started as; its node knows it by that.
        items: Tasks in its hand with their lengths; the first one runs since ``began``.
    """

    __slots__ = (
        "_leaving", "_place", "_plan", "_sequence",
        "alive", "began", "executor", "incarnation", "items", "node", "number", "resources",
        "session", "since", "tenant",
    )  # fmt: skip

    def __init__(self, place: Place, order: effects.StartExecutor) -> None:
        self.executor, self.incarnation = order.executor, order.incarnation
        self.number = order.incarnation
        self.node, self.resources, self.tenant = order.node, order.resources, order.tenant
        self.since = place.world.now
        self.alive = True
        self.session: Session | None = None
        self.items: deque[tuple[TaskId, float]] = deque()
        self.began = 0.0
        self._place = place
        self._plan = 0  # the number of the batch that will be told next; others are void
        self._sequence = 0
        self._leaving = False

    def started(self) -> None:
        """The process has come up."""
        if self.alive:
            self._place.post(
                events.ExecutorConnected(
                    self.executor,
                    self.incarnation,
                    False,
                    _NO_SESSION,
                    LEAST_WINDOW,
                    takes_early=True,
                )
            )

    def bind(self, order: effects.SendBind, session: "Session") -> None:
        """Enter a session. Nothing is in hand."""
        self.incarnation, self.session = order.incarnation, session
        self._sequence, self._leaving = 0, False
        self._place.is_bound(session, 1)
        self._place.post(events.BindDone(self.executor, self.incarnation, 0, ""))
        window = min(MOST_WINDOW, int(BATCH / max(session.length, BATCH / MOST_WINDOW)))
        if window > LEAST_WINDOW:
            self._place.post(events.WindowChanged(self.executor, self.incarnation, window))

    def hand(self, order: effects.SendTasks) -> None:
        """Take tasks in hand."""
        session = self.session
        if session is None:
            return
        was_idle = not self.items
        self.items.extend([(task_id, session.length_of(task_id)) for task_id in order.task_ids])
        if was_idle:
            self.began = self._place.world.now
            self._next()

    def take_back(self, order: effects.SendTakeBack) -> None:
        """Give up tasks that have not begun: those that are named, or the last ones."""
        begun = self._begun()
        free = [task_id for task_id, _ in islice(self.items, begun, None)]
        if order.task_ids:
            wanted = set(order.task_ids)
            given = [task_id for task_id in free if task_id in wanted]
        else:
            given = free[max(0, len(free) - order.count) :]
        if given:
            gone = set(given)
            self.items = deque([item for item in self.items if item[0] not in gone])
            self._tell_at()
        self._place.post(
            events.TasksTakenBack(self.executor, self.incarnation, order.request, given)
        )

    def unbind(self) -> None:
        """Leave when nothing is in hand any more."""
        self._leaving = True
        self._leave_if_done()

    def cancel(self, order: effects.SendCancel) -> None:
        """Nobody wants these results: stop with the one that runs."""
        if self.items and self.items[0][0] in order.task_ids:
            task_id, _ = self.items.popleft()
            self.began = self._place.world.now
            self._finished([task_id])
            self._next()

    def stop(self) -> None:
        """End at once."""
        if not self.alive:
            return
        self.alive = False
        self._plan += 1
        place, session = self._place, self.session
        if session is not None:
            if self.items:
                place.lost(session, self._begun(), place.world.now - self.began)
            place.is_bound(session, -1)
            self.session = None
        self.items.clear()
        place.gone(self)
        place.post(
            events.ExecutorExited(
                self.node, self.executor, self.number, TaskId(0), 0, Cause.STOPPED, ""
            )
        )

    def _next(self) -> None:
        """The first task in hand begins."""
        if self.items:
            task_id, length = self.items[0]
            if length > STARTED_AFTER:
                self._place.post(events.TaskStarted(self.executor, self.incarnation, task_id, 1))
            self._tell_at()
        else:
            self._leave_if_done()

    def _tell_at(self) -> None:
        """Plan when the next batch is told."""
        self._plan += 1
        total, world = 0.0, self._place.world
        for _, length in self.items:
            total += length
            if total >= BATCH:
                break
        world.at(max(world.now, self.began + total), self._tell, self._plan)

    def _tell(self, plan: int) -> None:
        if plan != self._plan or self.session is None:
            return
        ids: list[TaskId] = []
        begins: list[float] = []
        at, now = self.began, self._place.world.now
        while self.items and at + self.items[0][1] <= now + _INSTANT:
            task_id, length = self.items.popleft()
            ids.append(task_id)
            begins.append(at)
            at += length
        self.began = now
        more, session = bool(self.items), self.session
        self._finished(ids)  # new tasks may be handed in before this returns
        self._place.ran(session, begins, now)
        if more:
            self._next()
        else:
            self._leave_if_done()

    def _finished(self, ids: list[TaskId]) -> None:
        self._sequence += 1
        self._place.post(
            events.TasksFinished(
                self.executor, self.incarnation, self._sequence, ids, [None] * len(ids)
            )
        )

    def _begun(self) -> int:
        """How many tasks in hand have begun."""
        count, at, now = 0, self.began, self._place.world.now
        for _, length in self.items:
            if count and at >= now - _INSTANT:
                break
            count += 1
            at += length
        return count

    def _leave_if_done(self) -> None:
        if self._leaving and not self.items and self.session is not None:
            self._leaving = False
            self._place.is_bound(self.session, -1)
            self.session = None
            self._place.post(events.ExecutorUnbound(self.executor, self.incarnation))
