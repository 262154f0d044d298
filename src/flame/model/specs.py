"""What clients ask for: applications and sessions, and the states everybody reads."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from flame.model.labels import Labels, Preferences
from flame.model.resources import UNIT, Resources
from flame.model.volumes import Volume

DEFAULT_MAX_INPUT_BYTES = 16 * 1024 * 1024
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_DELAY_RELEASE = 30.0  # seconds
DEFAULT_STANDBY = 60.0  # seconds
#: Tasks that an executor wants in hand, at most, when it begins with another session, whatever the
#: last one's were like.
WINDOW_AT_BINDING = 128


class SessionState(IntEnum):
    """The wire's numbers."""

    OPEN = 0
    CLOSED = 1


class TaskState(IntEnum):
    """The wire's numbers; the last three are final."""

    PENDING = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELLED = 4

    @property
    def is_final(self) -> bool:
        """Whether the task never changes again."""
        return self >= TaskState.SUCCEEDED


class ExecutorState(IntEnum):
    """The wire's numbers."""

    UNKNOWN = 0
    VOID = 1
    IDLE = 2
    BINDING = 3
    BOUND = 4
    UNBINDING = 5
    RELEASING = 6
    RELEASED = 7


class NodeState(IntEnum):
    """The wire's numbers."""

    UNKNOWN = 0
    READY = 1
    NOT_READY = 2


class ShimKind(IntEnum):
    """How an executor talks to a service; the wire's numbers."""

    UNSPECIFIED = 0
    HOST = 1
    WASM = 2
    PYTHON = 3
    GRPC = 4
    HTTP = 5
    STDIO = 6
    SHELL = 7
    LOG = 8
    CUSTOM = 9  # provided by a package on the node; the option ``kind`` names it


class Sandbox(StrEnum):
    """What contains an application's services; the wire's words."""

    NONE = ""
    STRICT = "strict"  # and no network
    NETWORK = "network"


class Durability(IntEnum):
    """What an acknowledged task survives; the wire's numbers."""

    DURABLE = 0  # the death of any process
    SYNC = 1  # and the loss of power
    MEMORY = 2  # neither


class EventCode(IntEnum):
    """The code of an event in a task's or session's history. 0 to 4 follow TaskState."""

    FAILED = 3
    CANCELLED = 4
    LOST = 5
    BIND_FAILED = 1001
    BIND_GIVEN_UP = 1002
    PAYLOAD_OMITTED = 1003  # the answer would have been larger than the client receives
    ATTEMPT_SPENT = 1004  # a run of the task ended without an outcome
    TIMED_OUT = 1005  # it ran for longer than its session allows
    DEADLINE_PASSED = 1006  # it was not final in the time that its session allows
    CLIENT_LOST = 1007  # the session was closed because no client was left
    CHANGES_SKIPPED = 1008  # a slow watcher was not told of every change of its task


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in ``created_ms`` milliseconds since the epoch.

    Attributes:
        executor: To which it happened; empty: to none, or it is not known.
    """

    code: int
    message: str
    created_ms: int
    executor: str = ""


@dataclass(frozen=True, slots=True)
class ApplicationSpec:
    """How to start an application's service, and how its executors behave.

    Attributes:
        shim: How the executor talks to the service.
        command: The program, with ``arguments``. ``${NAME}`` is expanded.
        entry_point: Python shim: ``package.module:attribute``.
        pickled_service: Python shim: a cloudpickled service, read by executors only.
        pickled_with: The Python that pickled it, like ``3.11``; executors must run the same.
        local_modules: A zip of modules that it imports and that are not installed.
        environments: Name and value pairs.
        max_instances: At most this many executors per session; None: no limit of its own.
        delay_release: Seconds that an executor without a task stays bound; None: the default.
        standby: Seconds that it may stay bound after that while nobody else wants it; None: the
            default.
        reusable: A process may serve other sessions of this application and tenant later.
        shim_options: Name and value pairs, each name once; what they mean is the shim's affair.
        sandbox: What contains its services.
        preload: Python shim with an entry point: later executors start from a process that has
            imported its module.
        volumes: Directories of a node that its services may use.
    """

    shim: ShimKind = ShimKind.HOST
    description: str | None = None
    labels: tuple[str, ...] = ()
    image: str | None = None
    command: str | None = None
    arguments: tuple[str, ...] = ()
    environments: tuple[tuple[str, str], ...] = ()
    working_directory: str | None = None
    max_instances: int | None = None
    delay_release: int | None = None
    schema_input: str | None = None
    schema_output: str | None = None
    schema_common_data: str | None = None
    has_schema: bool = False
    url: str | None = None
    installer: str | None = None
    entry_point: str = ""
    reusable: bool = False
    pickled_service: bytes = b""
    shim_options: tuple[tuple[str, str], ...] = ()
    sandbox: Sandbox = Sandbox.NONE
    preload: bool = False
    pickled_with: str = ""
    local_modules: bytes = b""
    volumes: tuple[Volume, ...] = ()
    standby: int | None = None


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session runs and how much it may take.

    Attributes:
        application: Its name.
        common_data: Given to ``on_session_enter`` of every executor.
        min_instances: Executors kept while the session is open, even without tasks.
        max_instances: At most this many executors; None: as many as are fair.
        batch_size: Executors that only make sense together (1: each by itself).
        priority: Higher goes first.
        resources: What one executor takes.
        durability: What an acknowledged task survives.
        max_attempts: Starts of a task before a lost executor makes it Failed.
        task_timeout_ms: How long a task may run; 0: for ever.
        deadline_ms: How long a task may take from its creation to its end; 0: for ever.
        retry_on_failure: How often a task that its service failed is tried again.
        retry_on: Which failures those are; see ``model.retries``. Empty: any.
        client_lost_ms: The session is closed so long after its last client has gone; None: never.
        standby: Seconds that an executor may stay bound after its delay of release while nobody else
            wants it; None: as its application says.
        require: Labels that a node must have.
        prefer: Labels that a node had better have.
        near: Nodes that hold the session's data, and had better be used.
    """

    application: str
    common_data: bytes | None = None
    min_instances: int = 0
    max_instances: int | None = None
    batch_size: int = 1
    priority: int = 0
    resources: Resources = UNIT
    durability: Durability = Durability.DURABLE
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    task_timeout_ms: int = 0
    deadline_ms: int = 0
    retry_on_failure: int = 0
    client_lost_ms: int | None = None
    require: Labels = ()
    prefer: Preferences = ()
    near: tuple[str, ...] = ()
    retry_on: tuple[str, ...] = ()
    standby: int | None = None


class TaskLimits(NamedTuple):
    """Limits of one task, in milliseconds, which count instead of its session's; 0: the session's."""

    timeout_ms: int = 0
    deadline_ms: int = 0


#: Why a task did not succeed: (state, event code, message).
Failure = tuple[TaskState, int, str]
