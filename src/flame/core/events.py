"""What can happen to a cluster.

One event may carry a whole batch (parallel lists). ``reply`` and ``attachment`` are handles that the
shell chose; the core only hands them back inside effects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flame.core.records import OutcomesRecorded
from flame.model.credentials import TokenId, TokenSpec
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, Failure, SessionSpec, TaskLimits
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.model.tenants import TenantSpec

Reply = object  # whatever the shell needs to answer one call
AttachmentId = int  # one client channel's use of one session; chosen by the shell, never reused


# --- applications and sessions -----------------------------------------------------------------


@dataclass(slots=True)
class RegisterApplication:
    """Answered with Done, or AlreadyExists; ``replace``: must exist, gets the new spec."""

    tenant: Tenant
    name: str
    spec: ApplicationSpec
    reply: Reply
    replace: bool = False


@dataclass(slots=True)
class UnregisterApplication:
    """Answered with Done; WrongState while an open session uses it."""

    tenant: Tenant
    name: str
    reply: Reply


@dataclass(slots=True)
class CreateSession:
    """Answered with a SessionView once stored."""

    tenant: Tenant
    name: str
    spec: SessionSpec
    reply: Reply


@dataclass(slots=True)
class OpenSession:
    """Get the open session of this name; with a spec, create it or compare the spec."""

    tenant: Tenant
    name: str
    spec: SessionSpec | None
    reply: Reply


@dataclass(slots=True)
class CloseSession:
    """Cancel what is pending and close; answered once handed-out tasks are back and it is stored.

    A task that still runs refuses the close, unless ``cancel_running``.
    """

    tenant: Tenant
    name: str
    cancel_running: bool
    reply: Reply


@dataclass(slots=True)
class DeleteSession:
    """Forget a closed session and its tasks."""

    tenant: Tenant
    name: str
    reply: Reply


# --- clients: submits and outcomes -------------------------------------------------------------


@dataclass(slots=True)
class Attach:
    """A client channel uses a session; answered with an AttachedView."""

    attachment: AttachmentId
    tenant: Tenant
    name: str
    submitter: bytes
    subscribe: bool
    position: int
    credit: int  # bytes
    reply: Reply
    own: bool = False  # only parts of the log that hold tasks of this submitter


@dataclass(slots=True)
class Detach:
    """The client channel is gone or has no more use for the session."""

    attachment: AttachmentId


@dataclass(slots=True)
class SubmitTasks:
    """New tasks from an attachment; answered by an Accepted or a SubmitRefused effect.

    ``limits`` has those of the tasks that have some of their own, by their index.
    """

    attachment: AttachmentId
    first_number: int
    inputs: Sequence[bytes | None]
    limits: Mapping[int, TaskLimits] | None = None
    notes: Mapping[int, TaskNotes] | None = None


@dataclass(slots=True)
class CreateTask:
    """One task from a caller that does not number its submits; answered with a TaskView.

    The watcher, if there is one, is told of the task's changes as by a WatchTask.
    """

    tenant: Tenant
    name: str
    input: bytes | None
    reply: Reply
    watcher: Reply | None = None
    notes: TaskNotes = NO_NOTES


@dataclass(slots=True)
class GrantOutcomes:
    """The client took everything below ``position`` and may be sent ``credit`` bytes more."""

    attachment: AttachmentId
    position: int
    credit: int


@dataclass(slots=True)
class OutcomesFetched:
    """What the store had for a FetchOutcomes effect; None: nothing is kept at that position."""

    attachment: AttachmentId
    batch: OutcomesRecorded | None
    first_kept: int = 0


@dataclass(slots=True)
class CancelTasks:
    """Make these tasks final as cancelled; answered with Done when each is final."""

    attachment: AttachmentId
    task_ids: Sequence[TaskId]
    reply: Reply


@dataclass(slots=True)
class WatchTask:
    """Tell ``watcher`` of each change of state, by NotifyTask effects. Ended by UnwatchTask.

    Refused with NotFound if the session or the task never existed. If the task is final, the core
    answers with a FinalTask effect and the shell reads it from the store.
    """

    tenant: Tenant
    name: str
    task_id: TaskId
    watcher: Reply


@dataclass(slots=True)
class UnwatchTask:
    """The watcher has gone."""

    session: SessionNumber
    task_id: TaskId
    watcher: Reply


# --- what operators do -------------------------------------------------------------------------


@dataclass(slots=True)
class PutTenant:
    """Answered with Done. ``must_be_new``: AlreadyExists; ``must_exist``: NotFound."""

    spec: TenantSpec
    reply: Reply
    must_be_new: bool = False
    must_exist: bool = False


@dataclass(slots=True)
class DeleteTenant:
    """Answered with Done; WrongState while somebody is it, or below it."""

    name: Tenant
    reply: Reply


@dataclass(slots=True)
class CreateToken:
    """Answered with Done. The shell chose the id, which must be new, and keeps the secret."""

    token: TokenId
    spec: TokenSpec
    reply: Reply


@dataclass(slots=True)
class RevokeToken:
    """Answered with Done, or NotFound."""

    token: TokenId
    reply: Reply


@dataclass(slots=True)
class CordonNode:
    """Start nothing new on the node; with ``drain``, have its executors leave. Answered with Done."""

    node: NodeName
    drain: bool
    reply: Reply


@dataclass(slots=True)
class UncordonNode:
    """Use the node again. Answered with Done."""

    node: NodeName
    reply: Reply


# --- nodes -------------------------------------------------------------------------------------


@dataclass(slots=True)
class NodeConnected:
    """A node's executor manager registered; ``executors`` are (id, incarnation) it still has."""

    node: NodeName
    instance: bytes
    capacity: Resources
    executors: Sequence[tuple[ExecutorId, int]]
    hostname: str = ""
    arch: str = ""
    os: str = ""
    addresses: Sequence[tuple[str, str]] = ()
    labels: Labels = ()
    isolation: str = ""


@dataclass(slots=True)
class NodeRenewed:
    """The node's executor manager is alive, and so are the executors it did not report exited."""

    node: NodeName


@dataclass(slots=True)
class NodeDisconnected:
    """The node's channel broke; its lease runs on for a short while."""

    node: NodeName
    instance: bytes


@dataclass(slots=True)
class NodeLeft:
    """The node goes away on purpose; its executors are stopped."""

    node: NodeName


@dataclass(slots=True)
class ExecutorExited:
    """A node saw an executor's process end. ``task_id`` (0: none) is the task that was running.

    ``log``: what that task had written to stdout and stderr.
    """

    node: NodeName
    executor: ExecutorId
    incarnation: int
    task_id: TaskId
    attempt: int
    cause: str
    detail: str
    pid: int = 0
    exit_code: int = 0
    signal: int = 0
    log: tuple[bytes, bytes] = (b"", b"")


@dataclass(slots=True)
class StartDelayed:
    """A node starts an executor's process within so many seconds only: it prepares its package.

    0: the process starts now.
    """

    executor: ExecutorId
    incarnation: int
    seconds: float


# --- executors ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ExecutorConnected:
    """An executor process opened its channel and says what it has in hand."""

    executor: ExecutorId
    incarnation: int
    bound: bool
    session: SessionNumber
    window: int
    task_ids: Sequence[TaskId] = ()
    attempts: Sequence[int] = ()
    running: TaskId = TaskId(0)
    running_for: float = 0.0  # seconds
    gpu_ids: tuple[str, ...] = ()  # that its node gave it
    takes_early: bool = False  # tasks may follow a binding at once


@dataclass(slots=True)
class ExecutorDisconnected:
    """Its channel broke; it may come back."""

    executor: ExecutorId
    incarnation: int


@dataclass(slots=True)
class BindDone:
    """on_session_enter returned (0), or why it did not."""

    executor: ExecutorId
    incarnation: int
    return_code: int
    message: str


@dataclass(slots=True)
class WindowChanged:
    """How many tasks the executor wants in hand."""

    executor: ExecutorId
    incarnation: int
    window: int


@dataclass(slots=True)
class TaskStarted:
    """A task has been running for more than 10 ms."""

    executor: ExecutorId
    incarnation: int
    task_id: TaskId
    attempt: int


@dataclass(slots=True)
class TasksFinished:
    """Results of a batch; ``failures``, their ``kinds`` and ``logs`` map indexes.

    ``attempts`` empty: all are 1. ``window``: as in ``WindowChanged``; 0: as before.
    """

    executor: ExecutorId
    incarnation: int
    sequence: int
    task_ids: Sequence[TaskId]
    outputs: Sequence[bytes | None]
    failures: dict[int, Failure] = field(default_factory=dict)
    attempts: Sequence[int] = ()
    kinds: dict[int, Sequence[str]] = field(default_factory=dict)
    logs: Mapping[int, tuple[bytes, bytes]] = field(default_factory=dict)  # stdout, stderr
    window: int = 0


@dataclass(slots=True)
class TasksTakenBack:
    """The executor gave these up unstarted."""

    executor: ExecutorId
    incarnation: int
    request: int
    task_ids: Sequence[TaskId]


@dataclass(slots=True)
class ExecutorUnbound:
    """on_session_leave returned; the process is still there."""

    executor: ExecutorId
    incarnation: int


# --- the shell itself --------------------------------------------------------------------------


@dataclass(slots=True)
class Tick:
    """Time has reached ``Cluster.next_deadline()``."""
