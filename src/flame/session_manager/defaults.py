"""The applications that every cluster has."""

from collections.abc import Callable
from typing import Any, Protocol

from flame.core.events import RegisterApplication, Reply
from flame.model.errors import AlreadyExists
from flame.model.ids import DEFAULT_TENANT
from flame.model.specs import ApplicationSpec, ShimKind

DEFAULT_APPLICATIONS = {
    "flmping": ApplicationSpec(
        shim=ShimKind.PYTHON,
        description="Answers at once, or after the duration that the session's common data says.",
        entry_point="flame.executor_manager.services.ping:PingService",
    ),
    "flmexec": ApplicationSpec(
        shim=ShimKind.PYTHON,
        description="Runs the shell or Python script that a task's input holds.",
        entry_point="flame.executor_manager.services.script:ScriptService",
        has_schema=True,
        schema_input='{"language": "shell | python", "code": "...", "input": [bytes]}',
        schema_output='{"data": [bytes]}',
        reusable=True,
    ),
}


class _Caller(Protocol):
    async def call(self, event_of: Callable[[Reply], Any]) -> Any: ...


async def register_default_applications(manager: _Caller) -> None:
    """Register what is not there yet; what a user registered under the same name stays."""
    for name, spec in DEFAULT_APPLICATIONS.items():

        def event_of(
            reply: Reply, name: str = name, spec: ApplicationSpec = spec
        ) -> RegisterApplication:
            return RegisterApplication(DEFAULT_TENANT, name, spec, reply)

        try:
            await manager.call(event_of)
        except AlreadyExists:
            continue
