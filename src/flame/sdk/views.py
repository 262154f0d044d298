"""What callers are shown of sessions, tasks, applications, executors and nodes: frozen values, as they
were when they were asked for. Times are milliseconds since the epoch; ``created`` is the same as a
datetime in UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import NamedTuple

from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.specs import (
    ApplicationSpec,
    Event,
    EventCode,
    ExecutorState,
    NodeState,
    SessionSpec,
    SessionState,
    ShimKind,
    TaskState,
)
from flame.wire import codec, v1


class ApplicationState(IntEnum):
    """The wire's numbers."""

    ENABLED = 0
    DISABLED = 1


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session: its name, what it runs, and how many of its tasks are in which state.

    Attributes:
        name: The text that its creator chose; unique among the tenant's sessions.
        number: Unique in the cluster, and never used again.
        running: Tasks that have really started; everything else handed out is still pending.
        preempted: Runs of its tasks that were thrown away for others, since the manager started.
        preempted_seconds: What those had run for.
        waiting: Why it has fewer executors than it could use; empty in lists.
        standing_by: Executors that it has no work for, whose services stay warm while nobody else wants
            their room.
    """

    name: str
    number: int
    tenant: str
    spec: SessionSpec
    state: SessionState
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    created_ms: int
    completed_ms: int | None
    events: tuple[Event, ...]
    waiting: str = ""
    preempted: int = 0
    preempted_seconds: float = 0.0
    standing_by: int = 0

    @property
    def application(self) -> str:
        """The application's name."""
        return self.spec.application

    @property
    def created(self) -> datetime:
        """When it was created, in UTC."""
        return _utc(self.created_ms)


class Logs(NamedTuple):
    """What a task wrote: all of it, or of each stream the beginning and the end."""

    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a session.

    Attributes:
        session: The session's name.
        attempt: Which start of the task this is or was, from 1; 0: it was not started yet.
    """

    id: int
    session: str
    state: TaskState
    input: bytes | None
    output: bytes | None
    attempt: int
    created_ms: int
    completed_ms: int | None
    events: tuple[Event, ...]
    labels: tuple[tuple[str, str], ...] = ()
    input_location: str = ""
    output_location: str = ""

    @property
    def created(self) -> datetime:
        """When it was created, in UTC."""
        return _utc(self.created_ms)

    @property
    def failure(self) -> str | None:
        """Why it did not succeed; None if it did, or is not final."""
        if self.state not in (TaskState.FAILED, TaskState.CANCELLED):
            return None
        causes = [e.message for e in self.events if e.code != EventCode.PAYLOAD_OMITTED]
        return causes[0] if causes else ""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that the session manager keeps; an application refers to it by its ``url``.

    Attributes:
        sha256: Of its bytes.
        size: In bytes.
        uploaded: Whether it had to be sent; the same content was there already if not.
    """

    url: str
    sha256: str
    size: int
    uploaded: bool


@dataclass(frozen=True, slots=True)
class NodePackage:
    """How far a node is with an application's package.

    Attributes:
        state: ``preparing``, ``ready`` or ``failed``.
        message: What is being done, or why it failed.
        log: The end of what its installer printed.
        since_ms: When that began, in milliseconds since the epoch.
    """

    node: str
    url: str
    state: str
    message: str
    log: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Application:
    """A registered application.

    Attributes:
        packages: How far nodes are with its package; empty in lists.
    """

    name: str
    spec: ApplicationSpec
    state: ApplicationState
    created_ms: int
    packages: tuple[NodePackage, ...] = ()

    @property
    def created(self) -> datetime:
        """When it was registered, in UTC."""
        return _utc(self.created_ms)


@dataclass(frozen=True, slots=True)
class Executor:
    """An executor, and the name of the session that it serves.

    Attributes:
        gpu_ids: The GPUs that its node gave it.
        rank: Its number in its gang, if it is in one.
        standby: Its session has no work for it, and anybody may have it.
    """

    id: str
    node: str
    resources: Resources
    state: ExecutorState
    session: str | None
    shim: ShimKind
    gpu_ids: tuple[str, ...] = ()
    rank: int | None = None
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node: what it has, and what of that can be handed out.

    Attributes:
        addresses: (type, address) pairs.
        labels: (name, value) pairs.
        last_heartbeat: Seconds since the epoch.
        isolation: What limits and contains its executors, for people.
        cordoned: Nothing new starts on it.
        draining: Its executors also leave; once there are none it is drained.
        executors: How many it has.
    """

    name: str
    hostname: str
    state: NodeState
    capacity: Resources
    allocatable: Resources
    arch: str
    os: str
    addresses: tuple[tuple[str, str], ...]
    last_heartbeat: int
    labels: Labels = ()
    isolation: str = ""
    cordoned: bool = False
    draining: bool = False
    executors: int = 0


def session_of(message: v1.Session) -> SessionInfo:
    """Read a session."""
    status = message.status
    return SessionInfo(
        name=message.metadata.id,
        number=status.number,
        tenant=status.tenant,
        spec=codec.session_spec_of(message.spec),
        state=SessionState(status.state),
        pending=status.pending,
        running=status.running,
        succeeded=status.succeed,
        failed=status.failed,
        cancelled=status.cancelled,
        created_ms=status.creation_time,
        completed_ms=status.completion_time if status.HasField("completion_time") else None,
        events=codec.events_of(status.events),
        waiting=status.waiting,
        preempted=status.preempted,
        preempted_seconds=status.preempted_ms / 1000,
        standing_by=status.standing_by,
    )


def task_of(message: v1.Task) -> Task:
    """Read a task."""
    spec, status = message.spec, message.status
    return Task(
        id=int(message.metadata.id),
        session=spec.session_id,
        state=TaskState(status.state),
        input=spec.input if spec.HasField("input") else None,
        output=spec.output if spec.HasField("output") else None,
        attempt=status.attempt,
        created_ms=status.creation_time,
        completed_ms=status.completion_time if status.HasField("completion_time") else None,
        events=codec.events_of(status.events),
        labels=tuple((label.name, label.value) for label in spec.labels),
        input_location=spec.input_location,
        output_location=spec.output_location,
    )


def application_of(message: v1.Application) -> Application:
    """Read an application."""
    return Application(
        name=message.metadata.name,
        spec=codec.application_spec_of(message.spec),
        state=ApplicationState(message.status.state),
        created_ms=message.status.creation_time,
        packages=tuple(
            NodePackage(p.node, p.url, p.state, p.message, p.log, p.since)
            for p in message.status.packages
        ),
    )


def executor_of(message: v1.Executor) -> Executor:
    """Read an executor."""
    spec, status = message.spec, message.status
    return Executor(
        id=message.metadata.id,
        node=spec.node,
        resources=codec.resources_of(spec.resreq),
        state=ExecutorState(status.state),
        session=status.session_id if status.HasField("session_id") else None,
        shim=ShimKind.WASM if spec.shim == v1.Shim.Wasm else ShimKind.HOST,
        gpu_ids=tuple(status.gpu_ids),
        rank=status.rank if status.HasField("rank") else None,
        standby=status.standby,
    )


def node_of(message: v1.Node) -> Node:
    """Read a node."""
    status = message.status
    return Node(
        name=message.metadata.name,
        hostname=message.spec.hostname,
        state=NodeState(status.state),
        capacity=codec.resources_of(status.capacity),
        allocatable=codec.resources_of(status.allocatable),
        arch=status.info.arch,
        os=status.info.os,
        addresses=tuple((address.type, address.address) for address in status.addresses),
        last_heartbeat=status.last_heartbeat_time,
        cordoned=status.cordoned,
        draining=status.draining,
        executors=status.executors,
        labels=codec.labels_of(message.spec.labels, "labels"),
        isolation=status.isolation,
    )


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
