"""The shim of Python services: the service is an object in the executor's own process."""

import hashlib
import importlib
import io
import os
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import cloudpickle

from flame.executor_manager.shims import ServiceUnusable, ShimRequest
from flame.executor_manager.shims.options import Options
from flame.model.service import SessionContext, TaskContext


class PythonShim:
    """Hosts a FlameService, or a plain function of one task's input.

    Raises:
        ServiceUnusable: There is neither an entry point nor a pickled service, or what they name
            is no service.
        Exception: Whatever importing or unpickling the user's code raises.
    """

    def __init__(self, request: ShimRequest) -> None:
        Options(request.application.shim_options).end()
        service = _load(request)
        if isinstance(service, type):
            service = service()
        #: The user's own method: the main loop calls it with nothing in between.
        self.invoke: Callable[[TaskContext], bytes | None]
        if callable(getattr(service, "on_task_invoke", None)):
            self._service: Any = service
            self.invoke = service.on_task_invoke
        elif callable(service):
            self._service = None
            function: Callable[[bytes | None], bytes | None] = service

            def invoke(context: TaskContext) -> bytes | None:
                return function(context.input)

            self.invoke = invoke
        else:
            raise ServiceUnusable(
                f"application {request.application_name!r}: the service is a "
                f"{type(service).__qualname__}; a flame.FlameService (class or object) or a "
                "function of the task's input is needed"
            )

    def enter(self, session: SessionContext) -> None:
        """Call the service's on_session_enter, if it has one."""
        enter = getattr(self._service, "on_session_enter", None)
        if enter is not None:
            enter(session)

    def leave(self) -> None:
        """Call the service's on_session_leave, if it has one."""
        leave = getattr(self._service, "on_session_leave", None)
        if leave is not None:
            leave()

    def close(self) -> None:
        """Nothing to do: the object goes with the process, or is collected."""


def _load(request: ShimRequest) -> Any:
    application = request.application
    if not application.entry_point:
        if not application.pickled_service:
            raise ServiceUnusable(
                f"application {request.application_name!r} has neither an entry_point nor a "
                "pickled service; a Python application needs one of them"
            )
        _check_python(request)
        if application.local_modules:
            _add_modules(application.local_modules, request.assignment.directory)
        return cloudpickle.loads(application.pickled_service)
    return import_entry_point(application.entry_point)


def import_entry_point(entry_point: str) -> Any:
    """Return what ``package.module:attribute`` names.

    Raises:
        ServiceUnusable: It is not of that form, or the module has no such attribute.
        Exception: Whatever importing the module raises.
    """
    module_name, _, attribute = entry_point.partition(":")
    if not module_name or not attribute:
        raise ServiceUnusable(
            f"entry_point {entry_point!r} is not of the form 'package.module:attribute'"
        )
    if module_name not in sys.modules:
        importlib.invalidate_caches()
    found: Any = importlib.import_module(module_name)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = getattr(sys.modules[module_name], "__file__", "built in")
            raise ServiceUnusable(
                f"entry_point {entry_point!r}: module {module_name} ({where}) has no {attribute!r}"
            ) from None
    return found


def _check_python(request: ShimRequest) -> None:
    """A pickle holds byte code, which another minor version misreads without noticing."""
    theirs = request.application.pickled_with
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs and theirs != ours:
        raise ServiceUnusable(
            f"application {request.application_name!r} was pickled by Python {theirs}, and this "
            f"executor runs Python {ours}: create the session from Python {ours}, or deploy the "
            "service as a package with an entry point (flmctl deploy)"
        )


def _add_modules(archive: bytes, directory: str) -> None:
    """Make the modules that came with a service importable."""
    name = f"modules-{hashlib.sha256(archive).hexdigest()[:16]}"
    place = os.path.join(directory, name)
    if place not in sys.path:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            files.extractall(place)
        sys.path.insert(0, place)
        importlib.invalidate_caches()
