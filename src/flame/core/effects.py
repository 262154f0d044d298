"""What the shell must do, in order.

``Store`` is for the engine: its record goes into the next group commit and, once that is done, comes
back to the core, which then emits what had to wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flame.core.events import AttachmentId, Reply
from flame.core.records import Record
from flame.model.attempts import Attempt
from flame.model.credentials import Role, TokenId
from flame.model.errors import FlameError
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.service import Peer
from flame.model.specs import (
    ApplicationSpec,
    Event,
    ExecutorState,
    Failure,
    NodeState,
    SessionSpec,
    SessionState,
    TaskState,
)
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.model.tenants import TenantSpec


@dataclass(slots=True)
class Store:
    """Commit the record, then give this object back to the core.

    ``cause`` is the core's own note of what to do after the commit.
    """

    record: Record
    cause: object
    volatile: bool = False  # of a MEMORY session: goes to the memory engine
    sync: bool = False  # the group that holds it must survive a loss of power


@dataclass(slots=True)
class Done:
    """Answer a call that has nothing to say but success."""

    reply: Reply


@dataclass(slots=True)
class Refuse:
    """Answer a call with an error."""

    reply: Reply
    error: FlameError


@dataclass(slots=True)
class Answer:
    """Answer a call with a view."""

    reply: Reply
    view: "SessionView | TaskView | AttachedView"


@dataclass(slots=True)
class Accepted:
    """The submit is stored; ``credit`` bytes more may be submitted in its place."""

    attachment: AttachmentId
    first_number: int
    count: int
    first_id: TaskId
    credit: int = 0


@dataclass(slots=True)
class SubmitRefused:
    """The submit is not stored and never will be, unless it is sent again."""

    attachment: AttachmentId
    first_number: int
    count: int
    error: FlameError


@dataclass(slots=True)
class GrantSubmits:
    """The queue has room again: the client may submit this many bytes more."""

    attachment: AttachmentId
    credit: int


@dataclass(slots=True)
class SendOutcomes:
    """Consecutive outcomes from ``position`` on, for one attachment. Lists must not be changed."""

    attachment: AttachmentId
    position: int
    task_ids: Sequence[TaskId]
    outputs: Sequence[bytes | None]
    failures: dict[int, Failure]


@dataclass(slots=True)
class FetchOutcomes:
    """Read the session's log from the store; answer with an OutcomesFetched event."""

    attachment: AttachmentId
    session: SessionNumber
    position: int
    max_bytes: int


@dataclass(slots=True)
class SendSessionClosed:
    """The session is closed and this attachment has all its outcomes."""

    attachment: AttachmentId


@dataclass(slots=True)
class NotifyTask:
    """Tell a watcher the task's state."""

    watcher: Reply
    view: "TaskView"


@dataclass(slots=True)
class FinalTask:
    """The watched task is final: read it from the store and end the watch."""

    watcher: Reply
    session: SessionNumber
    task_id: TaskId


@dataclass(slots=True)
class StartExecutor:
    """Order a node to start a process for this incarnation."""

    node: NodeName
    executor: ExecutorId
    incarnation: int
    tenant: Tenant
    application_name: str
    application: ApplicationSpec
    resources: Resources


@dataclass(slots=True)
class StopExecutor:
    """Order a node to stop (or forget) this incarnation's process."""

    node: NodeName
    executor: ExecutorId
    incarnation: int
    grace: float  # seconds; 0: at once


@dataclass(slots=True)
class SendBind:
    """Tell an executor's process which session it serves."""

    executor: ExecutorId
    incarnation: int
    tenant: Tenant
    session: SessionNumber
    session_name: str
    application_name: str
    application: ApplicationSpec
    common_data: bytes | None
    rank: int = 0  # of a gang, with all its members
    peers: Sequence[Peer] = ()


@dataclass(slots=True)
class SendTasks:
    """Hand tasks to an executor. ``attempts`` is empty when every one is 1."""

    executor: ExecutorId
    task_ids: list[TaskId]
    inputs: list[bytes | None]
    attempts: list[int]
    notes: dict[TaskId, TaskNotes] | None = None


@dataclass(slots=True)
class SendResultsStored:
    """The executor may forget results up to this sequence; ``awaited``: it waits to hear that."""

    executor: ExecutorId
    sequence: int
    awaited: bool = False


@dataclass(slots=True)
class SendTakeBack:
    """Ask the executor to give up unstarted tasks: the named ones, or the last ``count``."""

    executor: ExecutorId
    request: int
    count: int
    task_ids: Sequence[TaskId] = ()


@dataclass(slots=True)
class SendCancel:
    """Tell the executor's service that running tasks are no longer wanted."""

    executor: ExecutorId
    task_ids: Sequence[TaskId]


@dataclass(slots=True)
class SendUnbind:
    """Tell the executor to finish what it holds and leave the session."""

    executor: ExecutorId


@dataclass(slots=True)
class RefuseExecutor:
    """The incarnation has ended: the process must exit."""

    executor: ExecutorId
    incarnation: int
    error: FlameError


@dataclass(slots=True)
class RefuseNode:
    """The node may not register (its name is in use by a live one), or must register again."""

    node: NodeName
    instance: bytes
    error: FlameError


@dataclass(slots=True)
class TokenRevoked:
    """End what was opened with the token."""

    token: TokenId


Effect = (
    Store
    | Done
    | Refuse
    | Answer
    | Accepted
    | SubmitRefused
    | GrantSubmits
    | SendOutcomes
    | FetchOutcomes
    | SendSessionClosed
    | NotifyTask
    | FinalTask
    | StartExecutor
    | StopExecutor
    | SendBind
    | SendTasks
    | SendResultsStored
    | SendTakeBack
    | SendCancel
    | SendUnbind
    | RefuseExecutor
    | RefuseNode
    | TokenRevoked
)


# --- views: what callers are shown ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApplicationView:
    """An application as callers see it."""

    tenant: Tenant
    name: str
    spec: ApplicationSpec
    created_ms: int


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as callers see it; running counts tasks that have really started."""

    number: SessionNumber
    tenant: Tenant
    name: str
    spec: SessionSpec
    state: SessionState
    created_ms: int
    closed_ms: int | None
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    events: tuple[Event, ...]
    waiting: str = ""  # why it has less than it could use; only where one session is asked for
    preemptions: int = 0  # runs that were thrown away for others, since the manager started
    preempted_seconds: float = 0.0  # and what they had run for
    standing_by: int = 0  # executors that it has no work for, and that anybody may have


class TaskView(NamedTuple):
    """A task as callers see it. A tuple, as two are made for every task that has a call of its own."""

    session: SessionNumber
    session_name: str
    task_id: TaskId
    state: TaskState
    input: bytes | None
    output: bytes | None
    created_ms: int
    finished_ms: int | None
    failure: Failure | None
    attempt: int
    history: tuple[Attempt, ...] = ()  # attempts that were spent without an outcome
    notes: TaskNotes = NO_NOTES


@dataclass(frozen=True, slots=True)
class AttachedView:
    """What a client needs to go on with a session."""

    attachment: AttachmentId
    number: SessionNumber
    submitted: int
    submit_credit: int
    closed: bool
    log_end: int


@dataclass(frozen=True, slots=True)
class ExecutorView:
    """An executor as callers see it."""

    executor: ExecutorId
    node: NodeName
    resources: Resources
    state: ExecutorState
    session_name: str | None
    incarnation: int
    held: int
    tenant: Tenant
    gpu_ids: tuple[str, ...] = ()
    rank: int | None = None  # in its gang, if it is in one
    standby: bool = False


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as callers see it."""

    node: NodeName
    hostname: str
    state: NodeState
    capacity: Resources
    allocatable: Resources
    arch: str
    os: str
    addresses: tuple[tuple[str, str], ...]
    last_heartbeat: float  # seconds on the clock that the shell passes as now
    labels: Labels = ()
    cordoned: bool = False
    draining: bool = False
    executors: int = 0
    running: int = 0  # tasks that have started
    held: int = 0  # tasks in executors' hands
    waited_for: tuple[str, ...] = ()  # sessions with tasks there, as TENANT/SESSION
    isolation: str = ""


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant as callers see it. Sums include those below; shares are parts of the cluster."""

    spec: TenantSpec
    declared: bool
    created_ms: int
    got: float
    deserved: float
    usage: float
    usage_deserved: float
    open_sessions: int
    executors: int
    queued_tasks: int
    queued_bytes: int


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token as operators see it."""

    token: TokenId
    role: Role
    tenants: tuple[Tenant, ...]
    note: str
    created_ms: int
