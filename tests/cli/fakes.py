"""A client without a cluster: it answers what the test says, and records what it was asked."""

from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

from flame.model.errors import FlameError, NotFound, WrongState
from flame.model.specs import SessionState

Service = Callable[[bytes | None], bytes | None]


class FakeFuture:
    """A future whose outcome is there from the start."""

    def __init__(self, task_id: int, outcome: bytes | BaseException | None) -> None:
        self.task_id = task_id
        self._outcome = outcome

    def result(self, timeout: float | None = None) -> bytes | None:
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def add_done_callback(self, callback: Callable[["FakeFuture"], object]) -> None:
        callback(self)


class FakeSession:
    """A session whose service is a function of this process."""

    def __init__(self, info: Any, service: Service, tasks: dict[int, Any]) -> None:
        self.name: str = info.name
        self._info = info
        self._service = service
        self._tasks = tasks
        self.inputs: list[bytes | None] = []
        self.closed: list[bool] = []

    @property
    def number(self) -> int:
        number: int = self._info.number
        return number

    @property
    def is_closed(self) -> bool:
        return bool(self.closed)

    def info(self) -> Any:
        return self._info

    def run(self, input: bytes | None) -> FakeFuture:
        self.inputs.append(input)
        outcome: bytes | BaseException | None
        try:
            outcome = self._service(input)
        except (FlameError, KeyboardInterrupt) as error:
            outcome = error
        return FakeFuture(len(self.inputs), outcome)

    def get_task(self, task_id: int) -> Any:
        if task_id not in self._tasks:
            raise NotFound(f"no task {task_id} in session {self._info.name}")
        return self._tasks[task_id]

    def close(self, cancel_running: bool = False) -> Any:
        if getattr(self._info, "running", 0) and not cancel_running:
            raise WrongState("Cannot close session with running tasks")
        self.closed.append(cancel_running)
        self._info = replace(self._info, state=SessionState.CLOSED)
        return self._info

    def __enter__(self) -> "FakeSession":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(cancel_running=kind is not None)


class FakeClient:
    """Serves lists that the test fills."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []
        self.others_sessions: list[Any] = []  # those of other tenants
        self.applications: list[Any] = []
        self.executors: list[Any] = []
        self.nodes: list[Any] = []
        self.tasks: dict[int, Any] = {}
        self.service: Service = lambda input: input
        self.connected_with: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.opened: list[FakeSession] = []
        self.changes: list[tuple[Any, ...]] = []
        self.error: FlameError | None = None

    def connect(self, *args: Any, **kwargs: Any) -> "FakeClient":
        """Stand in for ``flame.connect``."""
        self.connected_with = args, kwargs
        if self.error is not None:
            raise self.error
        return self

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.changes.append(("leave",))

    def create_session(self, application: str, **options: Any) -> FakeSession:
        self.created.append((application, options))
        return self._open(self.sessions[0])

    def get_session(self, name: str) -> FakeSession:
        return self._open(_named(self.sessions, name, "session"))

    def delete_session(self, name: str) -> None:
        _named(self.sessions, name, "session")
        last = next((each for each in reversed(self.opened) if each.name == name), None)
        if last is None or last.info().state is not SessionState.CLOSED:
            raise WrongState(f"session {name!r} is open; close it before it is deleted")
        self.changes.append(("delete", name))

    def list_sessions(self, *, all_tenants: bool = False) -> list[Any]:
        return self.sessions + (self.others_sessions if all_tenants else [])

    def get_application(self, name: str) -> Any:
        return _named(self.applications, name, "application")

    def list_applications(self) -> list[Any]:
        return self.applications

    def register_application(self, name: str, spec: Any) -> None:
        self.changes.append(("register", name, spec))

    def update_application(self, name: str, spec: Any) -> None:
        self.changes.append(("update", name, spec))

    def unregister_application(self, name: str) -> None:
        self.changes.append(("unregister", name))

    def list_executors(self) -> list[Any]:
        return self.executors

    def list_nodes(self) -> list[Any]:
        return self.nodes

    def get_node(self, name: str) -> Any:
        return _named(self.nodes, name, "node")

    def _open(self, info: Any) -> FakeSession:
        session = FakeSession(info, self.service, self.tasks)
        self.opened.append(session)
        return session


def _named(things: list[Any], name: str, what: str) -> Any:
    for thing in things:
        if thing.name == name:
            return thing
    raise NotFound(f"there is no {what} {name!r}")
