"""What the SDK shows of a cluster, with defaults, so that a test says only what matters."""

from typing import Any

from flame.model.resources import GIB, UNIT, Resources
from flame.model.specs import (
    ApplicationSpec,
    Event,
    ExecutorState,
    NodeState,
    SessionSpec,
    SessionState,
    ShimKind,
    TaskState,
)
from flame.sdk.views import Application, ApplicationState, Executor, Node, SessionInfo, Task

CREATED_MS = 1_700_000_000_000


def a_session(
    *,
    name: str = "flmping-x1y2z3",
    number: int = 1,
    application: str = "flmping",
    state: SessionState = SessionState.OPEN,
    resources: Resources = UNIT,
    priority: int = 0,
    common_data: bytes | None = None,
    succeeded: int = 0,
    tenant: str = "default",
) -> SessionInfo:
    return SessionInfo(
        name=name,
        number=number,
        tenant=tenant,
        spec=SessionSpec(
            application, common_data=common_data, priority=priority, resources=resources
        ),
        state=state,
        pending=0,
        running=0,
        succeeded=succeeded,
        failed=0,
        cancelled=0,
        created_ms=CREATED_MS,
        completed_ms=CREATED_MS + 1 if state is SessionState.CLOSED else None,
        events=(),
    )


def a_task(
    *,
    id: int = 1,
    state: TaskState = TaskState.SUCCEEDED,
    input: bytes | None = None,
    message: str | None = None,
) -> Task:
    return Task(
        id=id,
        session="s",
        state=state,
        input=input,
        output=None,
        attempt=1,
        created_ms=CREATED_MS,
        completed_ms=CREATED_MS + 5,
        events=() if message is None else (Event(3, message, CREATED_MS + 5),),
    )


def an_application(
    *, name: str = "pi", spec: ApplicationSpec | None = None, **values: Any
) -> Application:
    return Application(
        name, spec or ApplicationSpec(**values), ApplicationState.ENABLED, CREATED_MS
    )


def an_executor() -> Executor:
    return Executor(
        "executor-1", "node-1", UNIT, ExecutorState.BOUND, "flmping-x1y2z3", ShimKind.HOST
    )


def a_node() -> Node:
    return Node(
        name="node-1",
        hostname="host-1",
        state=NodeState.READY,
        capacity=Resources(2000, 4 * GIB, 1),
        allocatable=Resources(1000, 3 * GIB),
        arch="x86_64",
        os="linux",
        addresses=(("InternalIP", "10.0.0.1"),),
        last_heartbeat=CREATED_MS // 1000,
        labels=(("arch", "x86_64"), ("zone", "a")),
        isolation="memory by watching; user nobody",
    )
