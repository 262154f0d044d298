"""What a user writes: a service, and what it is told about its session and its tasks.

    on_session_enter ──▶ on_task_invoke, once per task ──▶ on_session_leave

A service stays in its process for the whole binding, so what ``on_session_enter`` loads is warm
for every task. All three methods run in the main thread of that process, one at a time.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flame.model.ids import TaskId

_NO_LABELS: Mapping[str, str] = MappingProxyType({})
_NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ApplicationContext:
    """The application that a service belongs to, as it was registered."""

    name: str
    image: str | None = None
    command: str | None = None
    working_directory: str | None = None
    url: str | None = None
    installer: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of a gang. ``address`` is where its node can be reached."""

    executor: str
    node: str
    address: str


@dataclass(frozen=True, slots=True)
class SessionContext:
    """The session that a service is bound to.

    Attributes:
        session_id: The name that its client gave it.
        common_data: The bytes given when the session was opened, or None.
        rank: Of a gang (``batch_size``): this member's number, from 0.
        peers: All its members, this one too, by rank; empty: it is alone.
    """

    session_id: str
    application: ApplicationContext
    common_data: bytes | None = None
    rank: int = 0
    peers: tuple[Peer, ...] = ()


class TaskContext:
    """One task, as its service sees it. Made once per task, so it is as small as it can be.

    Attributes:
        task_id: Its number within the session, from 1.
        session_id: The session's name.
        input: What the client sent, or None.
        attempt: Which start of the task this is, from 1: above 1 an earlier executor died.
        labels: What its client said of it.
        input_path: Where its input is on a volume, as an absolute path; None: its client named no place.
        output_path: The same of its output.
    """

    __slots__ = ("attempt", "input", "session_id", "task_id", "_cancelled")

    # Of a NotedTaskContext alone they are the task's own.
    labels: Mapping[str, str] = _NO_LABELS
    input_path: str | None = None
    output_path: str | None = None

    def __init__(
        self,
        task_id: TaskId,
        session_id: str,
        input: bytes | None,
        attempt: int = 1,
        cancelled: Container[int] = _NOTHING,
    ) -> None:
        self.task_id = task_id
        self.session_id = session_id
        self.input = input
        self.attempt = attempt
        self._cancelled = cancelled

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the result any more; a long task may look and return early."""
        return self.task_id in self._cancelled

    def __repr__(self) -> str:
        size = "no input" if self.input is None else f"{len(self.input)} bytes"
        return f"<TaskContext {self.session_id}/{self.task_id} attempt {self.attempt}, {size}>"


class NotedTaskContext(TaskContext):
    """A task of which its client said something."""

    __slots__ = ("input_path", "labels", "output_path")

    def __init__(
        self,
        task: TaskContext,
        labels: Mapping[str, str],
        input_path: str | None,
        output_path: str | None,
    ) -> None:
        super().__init__(task.task_id, task.session_id, task.input, task.attempt, task._cancelled)
        self.labels = labels
        self.input_path = input_path
        self.output_path = output_path


class FlameService:
    """The base of a user's service.

    An exception in ``on_session_enter`` refuses the binding; one in ``on_task_invoke`` fails that
    task with its traceback, and the session goes on.
    """

    def on_session_enter(self, context: SessionContext) -> None:
        """Get ready for a session: load models, open files, read the common data."""

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        """Do one task and return its output."""
        raise NotImplementedError(f"{type(self).__qualname__} does not define on_task_invoke")

    def on_session_leave(self) -> None:
        """Let go of what ``on_session_enter`` took."""
