"""The session: a queue of tasks, the executors bound to it, and the log of its outcomes.

Only tasks that are not final are in memory. Counts and the end of the outcome log speak of what is
committed; ``next_id`` and ``next_position`` also of what is on its way into the store.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from flame.core.backlog import Backlog
from flame.core.events import AttachmentId, Reply
from flame.core.executor import Executor
from flame.core.outcome_log import Attachment, Tail
from flame.core.submitter import Submitter
from flame.core.task import FINISHING, QUEUED, Task
from flame.model.attempts import Attempt
from flame.model.ids import ExecutorId, SessionNumber, TaskId, Tenant
from flame.model.specs import (
    Durability,
    Event,
    ExecutorState,
    SessionSpec,
    SessionState,
    TaskLimits,
)
from flame.model.task_notes import TaskNotes

MAX_EVENTS = 100


@dataclass(slots=True)
class Closing:
    """A close that waits for what was submitted before it, then for handed-out tasks.

    ``begun``: everything submitted before is in the queue, and tasks were asked back.
    """

    replies: list[Reply]
    cancel_running: bool
    begun: bool = False


@dataclass(slots=True, eq=False)
class Session:
    """One session.

    Attributes:
        backlog: Its tenant's: what is queued here is counted there, too.
        live: Every task that is not final and stored, by id.
        queue: Tasks to hand out, lowest id first; those not QUEUED any more are skipped.
        queued, queued_bytes: Tasks in ``queue`` that are QUEUED, and their inputs' size.
        running: Executors whose task counts as started.
        roomy, empty, ahead: Executors that have room for a task, have it and hold none, hold more than
            one. Who does not, or is not usable, is dropped when it is looked at; nobody is missing.
        starting: The same of those that are BINDING.
        leaving: Those that were asked to leave.
        acknowledged: Of a session in memory, the first position that is kept.
        away: Its submitters that are not attached: what they have taken, and until when that counts.
        first_new_id: Tasks from this one on were submitted since the session manager's start.
        standing_by: How many of its executors stand by.
        unreported: Executors that the store says are bound but which have not told, since the
            manager started, what they hold. No task is handed out while there are any.
        history: The attempts that live tasks spent without an outcome. Few tasks have any.
        limits: Of live tasks that have some of their own. Few tasks have any.
        dues: A heap of (when, task), in milliseconds, of those with a deadline of their own, and of
            some that are final.
        resting: Tasks that will be queued again at a time, by id.
        preempted: How often live tasks were thrown away for others, since the manager started.
        preemptions, preempted_seconds: Runs of its tasks that were thrown away for others since the
            manager started, and how long they had run.
        bind_failures: In a row, since an executor was bound.
        start_seconds: The least that a service of it took to enter; 0: not known.
    """

    number: SessionNumber
    tenant: Tenant
    name: str
    spec: SessionSpec
    created_ms: int
    backlog: Backlog
    state: SessionState = SessionState.OPEN
    closed_ms: int | None = None
    live: dict[TaskId, Task] = field(default_factory=dict)
    queue: deque[Task] = field(default_factory=deque)
    queued: int = 0
    queued_bytes: int = 0
    running: int = 0
    next_id: int = 1
    first_new_id: int = 1
    next_position: int = 0
    log_end: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    events: list[Event] = field(default_factory=list)
    submitters: dict[bytes, Submitter] = field(default_factory=dict)
    attachments: dict[AttachmentId, Attachment] = field(default_factory=dict)
    was_attached: bool = False
    acknowledged: int = 0
    away: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    tail: Tail = field(default_factory=Tail)
    executors: dict[ExecutorId, Executor] = field(default_factory=dict)
    roomy: dict[ExecutorId, Executor] = field(default_factory=dict)
    empty: dict[ExecutorId, Executor] = field(default_factory=dict)
    ahead: dict[ExecutorId, Executor] = field(default_factory=dict)
    starting: dict[ExecutorId, Executor] = field(default_factory=dict)
    leaving: dict[ExecutorId, Executor] = field(default_factory=dict)
    standing_by: int = 0
    unreported: dict[ExecutorId, None] = field(default_factory=dict)
    watchers: dict[TaskId, list[Reply]] = field(default_factory=dict)
    history: dict[TaskId, list[Attempt]] = field(default_factory=dict)
    limits: dict[TaskId, TaskLimits] = field(default_factory=dict)
    notes: dict[TaskId, TaskNotes] = field(default_factory=dict)
    dues: list[tuple[int, TaskId]] = field(default_factory=list)
    resting: dict[TaskId, float] = field(default_factory=dict)
    preempted: dict[TaskId, int] = field(default_factory=dict)
    preemptions: int = 0
    preempted_seconds: float = 0.0
    bind_failures: int = 0
    start_seconds: float = 0.0
    retry_at: float = 0.0
    closing: Closing | None = None
    storing_close: bool = False

    @property
    def is_volatile(self) -> bool:
        """Whether its records go to memory only."""
        return self.spec.durability is Durability.MEMORY

    @property
    def is_sync(self) -> bool:
        """Whether its commits must survive a loss of power."""
        return self.spec.durability is Durability.SYNC

    @property
    def accepts(self) -> bool:
        """Whether new tasks may be submitted."""
        return self.state is SessionState.OPEN and self.closing is None and not self.storing_close

    @property
    def unfinished(self) -> int:
        """Tasks without an outcome, those excluded whose outcome is on its way into the store."""
        return len(self.live) - (self.next_position - self.log_end)

    def enqueue(self, tasks: list[Task]) -> None:
        """Add new tasks behind all others."""
        self.queue.extend(tasks)
        self.count_queued(len(tasks), sum([len(t.input) for t in tasks if t.input is not None]))

    def requeue(self, tasks: Iterable[Task]) -> None:
        """Put tasks that were handed out back in front, lowest id first."""
        count = size = 0
        for task in sorted(tasks, key=lambda t: t.id, reverse=True):
            task.stage = QUEUED
            task.holder = None
            self.queue.appendleft(task)
            count += 1
            size += len(task.input or b"")
        self.count_queued(count, size)

    @property
    def has_starting(self) -> bool:
        """Whether one of its executors is BINDING."""
        starting = self.starting
        while starting:
            executor_id, executor = next(iter(starting.items()))
            if executor.state is ExecutorState.BINDING:
                return True
            del starting[executor_id]
        return False

    def count_starting(self) -> int:
        """Return how many of its executors are BINDING."""
        self.starting = {
            executor_id: executor
            for executor_id, executor in self.starting.items()
            if executor.state is ExecutorState.BINDING
        }
        return len(self.starting)

    def has_room(self, executor: Executor) -> None:
        """An executor holds less than before, or can be handed tasks again."""
        self.roomy[executor.id] = executor
        if not executor.held:
            self.empty[executor.id] = executor

    def holds_more(self, executor: Executor) -> None:
        """An executor holds more than before."""
        if executor.held:
            self.empty.pop(executor.id, None)
            if len(executor.held) > 1:
                self.ahead[executor.id] = executor

    def drop_executor(self, executor: Executor) -> None:
        """An executor serves the session no more."""
        for index in (
            self.executors,
            self.roomy,
            self.empty,
            self.ahead,
            self.starting,
            self.leaving,
        ):
            index.pop(executor.id, None)

    def withdraw(self, task: Task) -> None:
        """Take a QUEUED task out: it is about to get an outcome. The queue drops it later."""
        self.count_queued(-1, -len(task.input or b""))
        task.stage = FINISHING

    def count_queued(self, tasks: int, size: int) -> None:
        """Note that so many more (or fewer, below zero) are QUEUED, here and in the tenant's backlog."""
        self.queued += tasks
        self.queued_bytes += size
        self.backlog.add(tasks, size)

    def note(self, event: Event) -> None:
        """Remember an event; only the newest are kept."""
        self.events.append(event)
        del self.events[:-MAX_EVENTS]
