"""A session manager without an engine: it records what it is asked and answers what it is told."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flame.core import events
from flame.core.effects import ApplicationView, ExecutorView, NodeView, SessionView, TaskView
from flame.core.events import Reply
from flame.model.errors import FlameError, NotFound
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.resources import UNIT
from flame.model.specs import (
    ApplicationSpec,
    ExecutorState,
    NodeState,
    SessionSpec,
    SessionState,
    TaskState,
)
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.session_manager.replies import Answerable, Watching
from flame.wire import v1


def a_session(name: str = "s1", **fields: Any) -> SessionView:
    view = SessionView(
        number=SessionNumber(7),
        tenant=DEFAULT_TENANT,
        name=name,
        spec=SessionSpec("flmping"),
        state=SessionState.OPEN,
        created_ms=1_700_000_000_123,
        closed_ms=None,
        pending=1,
        running=2,
        succeeded=3,
        failed=4,
        cancelled=5,
        events=(),
    )
    return replace(view, **fields)


def a_task(task_id: int = 1, **fields: Any) -> TaskView:
    view = TaskView(
        session=SessionNumber(7),
        session_name="s1",
        task_id=TaskId(task_id),
        state=TaskState.PENDING,
        input=b"in",
        output=None,
        created_ms=1_700_000_000_123,
        finished_ms=None,
        failure=None,
        attempt=0,
    )
    return view._replace(**fields)


def an_application(name: str = "flmping", **fields: Any) -> ApplicationView:
    view = ApplicationView(DEFAULT_TENANT, name, ApplicationSpec(command="ping"), 1_700_000_000_123)
    return replace(view, **fields)


AN_EXECUTOR = ExecutorView(
    ExecutorId("e-1"), NodeName("n1"), UNIT, ExecutorState.BOUND, "s1", 3, 2, DEFAULT_TENANT
)
A_NODE = NodeView(
    NodeName("n1"),
    "host",
    NodeState.READY,
    UNIT * 4,
    UNIT,
    "x86_64",
    "linux",
    (("ip", "::1"),),
    90.0,
)


class FakeManager:
    """Answers every call with ``answer``, or raises it if it is an exception."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.events: list[Any] = []
        self.tenants: list[Tenant] = []
        self.known_tasks: list[TaskView] = []
        self.known_sessions: list[SessionView] = []
        self.known_applications: list[ApplicationView] = []
        self.changed: list[tuple[Tenant, str]] = []
        self.pages: list[tuple[int, int]] = []
        self.changes: list[TaskView] = []  # told at once to whoever watches
        self.watcher: Watching | None = None
        self.watching = asyncio.Event()
        self.unwatched = asyncio.Event()

    async def call(self, event_of: Callable[[Reply], Any]) -> Any:
        self.events.append(event_of(object()))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def applications(self, tenant: Tenant) -> list[ApplicationView]:
        self.tenants.append(tenant)
        return self.known_applications

    def application(self, tenant: Tenant, name: str) -> ApplicationView:
        for view in self.applications(tenant):
            if view.name == name:
                return view
        raise NotFound(f"no application {name!r}")

    def sessions(self, tenant: Tenant | None) -> list[SessionView]:
        if tenant is not None:
            self.tenants.append(tenant)
        return self.known_sessions

    def session(self, tenant: Tenant, name: str) -> SessionView:
        for view in self.sessions(tenant):
            if view.name == name:
                return view
        raise NotFound(f"no session {name!r}")

    def packages_of(self, tenant: Tenant, application: str) -> list[v1.NodePackage]:
        return [v1.NodePackage(node="n1", state="ready")] if application == "packaged" else []

    def application_changed(self, tenant: Tenant, application: str) -> None:
        self.changed.append((tenant, application))

    def executors(self) -> list[ExecutorView]:
        return [AN_EXECUTOR]

    def nodes(self) -> list[NodeView]:
        return [A_NODE]

    def node(self, name: NodeName) -> NodeView:
        if name == A_NODE.node:
            return A_NODE
        raise NotFound(f"no node {name!r}")

    async def task(self, tenant: Tenant, session_name: str, task_id: TaskId) -> TaskView:
        self.tenants.append(tenant)
        for view in self.known_tasks:
            if view.task_id == task_id:
                return view
        raise NotFound(f"no task {task_id} in session {session_name!r}")

    async def tasks(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> list[TaskView]:
        self.pages.append((after, limit))
        if session_name != "s1":
            raise NotFound(f"no session {session_name!r}")
        return [view for view in self.known_tasks if view.task_id > after][:limit]

    def create(
        self,
        tenant: Tenant,
        session_name: str,
        payload: bytes | None,
        reply: Answerable,
        notes: TaskNotes = NO_NOTES,
    ) -> None:
        self.events.append(events.CreateTask(tenant, session_name, payload, reply, notes=notes))
        if isinstance(self.answer, FlameError):
            reply.refuse(self.answer)
        elif isinstance(self.answer, Exception):
            raise self.answer
        else:
            reply.answer(self.answer)

    def watch(
        self, tenant: Tenant, session_name: str, task_id: TaskId, watcher: Watching
    ) -> Callable[[], None]:
        if all(view.task_id != task_id for view in self.known_tasks):
            watcher.refuse(NotFound(f"no task {task_id} in session {session_name!r}"))
        self.watcher = watcher
        for view in self.changes:
            watcher.notify(view)
        self.watching.set()
        return self.unwatched.set
