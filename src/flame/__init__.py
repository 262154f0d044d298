"""Flame: a distributed system for intelligent workloads.

A function is enough to begin with:

    import flame

    def double(data: bytes) -> bytes:
        return data * 2

    with flame.connect() as client, client.create_session(double) as session:
        print(session.invoke(b"ab"))
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from flame.model.errors import (
    AlreadyExists,
    FlameError,
    InvalidConfiguration,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimedOut,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from flame.model.resources import Resources
from flame.model.service import ApplicationContext, FlameService, SessionContext, TaskContext
from flame.model.specs import (
    ApplicationSpec,
    Durability,
    Event,
    ExecutorState,
    NodeState,
    SessionSpec,
    SessionState,
    ShimKind,
    TaskState,
)
from flame.model.tenants import TenantSpec
from flame.model.volumes import Volume

if _TYPE_CHECKING:
    from flame.sdk import aio
    from flame.sdk.admin_calls import TenantInfo, TokenInfo
    from flame.sdk.client import Client, connect
    from flame.sdk.future import Future
    from flame.sdk.results import Result
    from flame.sdk.service import run_service
    from flame.sdk.session import Session
    from flame.sdk.views import Application, Executor, Logs, Node, Package, SessionInfo, Task
    from flame.sdk.waiting import (
        ALL_COMPLETED,
        FIRST_COMPLETED,
        FIRST_EXCEPTION,
        as_completed,
        wait,
    )

__version__ = "0.1.0"

# The client needs gRPC; who only defines a service, or is one of Flame's own processes, does not.
_LAZY = {
    "ALL_COMPLETED": "flame.sdk.waiting",
    "FIRST_COMPLETED": "flame.sdk.waiting",
    "FIRST_EXCEPTION": "flame.sdk.waiting",
    "Application": "flame.sdk.views",
    "Client": "flame.sdk.client",
    "Executor": "flame.sdk.views",
    "Future": "flame.sdk.future",
    "Logs": "flame.sdk.views",
    "Node": "flame.sdk.views",
    "Package": "flame.sdk.views",
    "Result": "flame.sdk.results",
    "Session": "flame.sdk.session",
    "SessionInfo": "flame.sdk.views",
    "Task": "flame.sdk.views",
    "TenantInfo": "flame.sdk.admin_calls",
    "TokenInfo": "flame.sdk.admin_calls",
    "as_completed": "flame.sdk.waiting",
    "connect": "flame.sdk.client",
    "run_service": "flame.sdk.service",
    "wait": "flame.sdk.waiting",
}


def __getattr__(name: str) -> object:
    if name == "aio":
        value: object = _import_module("flame.aio")
    elif name in _LAZY:
        value = getattr(_import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module 'flame' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    # A cluster and its sessions
    "connect",
    "Client",
    "Session",
    "Future",
    "wait",
    "as_completed",
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "aio",
    # Services
    "FlameService",
    "ApplicationContext",
    "SessionContext",
    "TaskContext",
    "run_service",
    # What is shown and given
    "Application",
    "ApplicationSpec",
    "Durability",
    "Event",
    "Executor",
    "ExecutorState",
    "Logs",
    "Node",
    "NodeState",
    "Package",
    "Resources",
    "Result",
    "SessionInfo",
    "SessionSpec",
    "SessionState",
    "ShimKind",
    "Task",
    "TaskState",
    "TenantInfo",
    "TenantSpec",
    "TokenInfo",
    "Volume",
    # Errors
    "FlameError",
    "AlreadyExists",
    "InvalidConfiguration",
    "InvalidRequest",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskTimedOut",
    "Unauthenticated",
    "Unavailable",
    "WrongState",
    "__version__",
]
