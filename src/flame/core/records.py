"""What is stored: the records that a group commit holds.

A record is a fact, written once and never edited; the store may keep it in whatever shape reads
well (see ``flame.storage``). A batch of tasks is one record: parallel lists, never a row per task.
Times are milliseconds since the epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flame.model.attempts import Attempt, Loss
from flame.model.credentials import TokenId, TokenSpec
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import TaskLog
from flame.model.specs import (
    ApplicationSpec,
    Event,
    Failure,
    SessionSpec,
    SessionState,
    TaskLimits,
    TaskState,
)
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.model.tenants import TenantSpec


@dataclass(frozen=True, slots=True)
class ApplicationPut:
    """An application exists, with this specification."""

    tenant: Tenant
    name: str
    spec: ApplicationSpec
    created_ms: int


@dataclass(frozen=True, slots=True)
class ApplicationDeleted:
    """The application is gone."""

    tenant: Tenant
    name: str


@dataclass(frozen=True, slots=True)
class SessionPut:
    """A session exists, in this state; replaces what was known of it."""

    session: SessionNumber
    tenant: Tenant
    name: str
    spec: SessionSpec
    state: SessionState
    created_ms: int
    closed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    """A session and everything under it is gone; its number is never used again."""

    session: SessionNumber


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """Something happened to a session that its user should read."""

    session: SessionNumber
    event: Event


@dataclass(frozen=True, slots=True)
class TasksSubmitted:
    """Tasks first_id, first_id + 1, ... exist, one for each input.

    ``submitter`` is empty for a caller that does not number its submits; otherwise its numbers
    first_number, first_number + 1, ... belong to these tasks. ``limits`` has those of the tasks that
    have some of their own, by their index.
    """

    session: SessionNumber
    submitter: bytes
    first_number: int
    first_id: TaskId
    inputs: Sequence[bytes | None]
    created_ms: int
    limits: Mapping[int, TaskLimits] | None = None
    notes: Mapping[int, TaskNotes] | None = None


@dataclass(frozen=True, slots=True)
class OutcomesRecorded:
    """Tasks are final. They take positions first_position, ... of their session's outcome log.

    ``outputs`` is parallel to ``task_ids``; ``failures`` maps the index of a task that did not
    succeed to (state, event code, message). All others succeeded.
    """

    session: SessionNumber
    first_position: int
    task_ids: Sequence[TaskId]
    outputs: Sequence[bytes | None]
    failures: dict[int, Failure]
    finished_ms: int


@dataclass(frozen=True, slots=True)
class OutcomesAcknowledged:
    """Every subscriber has taken the outcomes below ``position``.

    Only written for sessions with ``Durability.MEMORY``: the store may then drop finished tasks.
    """

    session: SessionNumber
    position: int


@dataclass(frozen=True, slots=True)
class TasksLogged:
    """Tasks have written something; a later attempt's log replaces that of an earlier one.

    The store keeps the newest logs of a session, up to ``model.logs.KEPT_LOG_BYTES``.
    """

    session: SessionNumber
    logs: Sequence[TaskLog]


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """An executor no longer has these tasks; they were queued again.

    Its incarnation ended; or, with ``Cause.RAISED``, its service failed the one task, which its
    session wants tried again. ``charged`` (0: none) is the one that was running: it spent its
    attempt number ``attempt``.
    """

    session: SessionNumber
    executor: ExecutorId
    incarnation: int
    task_ids: Sequence[TaskId]
    charged: TaskId
    attempt: int
    loss: Loss
    lost_ms: int
    node: NodeName = NodeName("")


@dataclass(frozen=True, slots=True)
class BindingPut:
    """An executor's incarnation serves a session (or, with ``session`` None, waits for one)."""

    executor: ExecutorId
    incarnation: int
    node: NodeName
    session: SessionNumber | None
    application: str
    tenant: Tenant


@dataclass(frozen=True, slots=True)
class BindingDeleted:
    """The executor is gone."""

    executor: ExecutorId


@dataclass(frozen=True, slots=True)
class TenantPut:
    """A tenant exists, with this specification; replaces what was known of it."""

    spec: TenantSpec
    created_ms: int


@dataclass(frozen=True, slots=True)
class TenantDeleted:
    """The tenant is gone."""

    name: Tenant


@dataclass(frozen=True, slots=True)
class TokenPut:
    """A token opens what its specification says."""

    token: TokenId
    spec: TokenSpec
    created_ms: int


@dataclass(frozen=True, slots=True)
class TokenDeleted:
    """The token opens nothing any more."""

    token: TokenId


@dataclass(frozen=True, slots=True)
class CordonPut:
    """Nothing new starts on the node; with ``drain``, its executors also leave."""

    node: NodeName
    drain: bool
    since_ms: int


@dataclass(frozen=True, slots=True)
class CordonDeleted:
    """The node may be used again."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class Barrier:
    """Nothing to store: its effect waits for everything stored before it."""


Record = (
    ApplicationPut
    | ApplicationDeleted
    | SessionPut
    | SessionDeleted
    | SessionEvent
    | TasksSubmitted
    | OutcomesRecorded
    | OutcomesAcknowledged
    | TasksLogged
    | LeaseLost
    | BindingPut
    | BindingDeleted
    | TenantPut
    | TenantDeleted
    | TokenPut
    | TokenDeleted
    | CordonPut
    | CordonDeleted
    | Barrier
)


@dataclass(frozen=True, slots=True)
class SubmittedRange:
    """A submitter's numbers first_number .. first_number+count-1 are tasks first_id and up."""

    first_number: int
    first_id: TaskId
    count: int


@dataclass(slots=True)
class RecoveredSession:
    """A session as the store holds it at start-up.

    Attributes:
        next_task_id: The id that the next submitted task gets.
        log_end: How many outcomes its log holds.
        submitters: For each, its ranges by rising number; adjacent ranges are merged.
        pending: Not final, by rising id: (id, input, created_ms, attempts spent). Read once.
        history: The spent attempts of those that are pending; few tasks have any.
        limits: Of those that are pending and have their own; filled while ``pending`` is read.
    """

    put: SessionPut
    next_task_id: TaskId
    log_end: int
    succeeded: int
    failed: int
    cancelled: int
    events: list[Event] = field(default_factory=list)
    submitters: dict[bytes, list[SubmittedRange]] = field(default_factory=dict)
    pending: Iterable[tuple[TaskId, bytes | None, int, int]] = ()
    history: dict[TaskId, list[Attempt]] = field(default_factory=dict)
    limits: dict[TaskId, TaskLimits] = field(default_factory=dict)
    notes: dict[TaskId, TaskNotes] = field(default_factory=dict)


@dataclass(slots=True)
class Recovered:
    """Everything that the core needs of the store at start-up.

    Attributes:
        epoch: This start's number, larger than that of every start before; already stored.
        next_session: A number that no session ever had.
        next_incarnation: A number that no incarnation ever had.
    """

    epoch: int
    next_session: int
    next_incarnation: int
    applications: list[ApplicationPut] = field(default_factory=list)
    sessions: list[RecoveredSession] = field(default_factory=list)
    bindings: list[BindingPut] = field(default_factory=list)
    tenants: list[TenantPut] = field(default_factory=list)
    tokens: list[TokenPut] = field(default_factory=list)
    cordons: list[CordonPut] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task as the store knows it: final, or else PENDING (whatever the core says of it)."""

    task_id: TaskId
    input: bytes | None
    created_ms: int
    state: TaskState
    output: bytes | None = None
    failure: Failure | None = None
    finished_ms: int | None = None
    attempts: int = 0
    history: tuple[Attempt, ...] = ()
    notes: TaskNotes = NO_NOTES
