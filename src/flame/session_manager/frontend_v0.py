"""The API of version 0.2.0, ``flame.Frontend``, as a translation over the same engine.

    0.2.0                             here
    ────────────────────────────────  ─────────────────────────────────────────────────────────
    session id "7"                    session number 7, whatever made it and whatever its name
    slots                             so many unit executors per instance
    seconds                           milliseconds, rounded down
    a task is Failed                  it failed, or was cancelled
    stdio application                 shim Stdio with ``frames: none``: a process for each task
    shim Grpc of an application       also Host, Python, Http and Custom, which it does not know

Its server answered whatever its storage refused with UNKNOWN; here it is FAILED_PRECONDITION,
NOT_FOUND or ALREADY_EXISTS, and its clients treat all of them alike.
"""

import uuid
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from flame.core import events
from flame.core.events import Reply
from flame.model.errors import FlameError, InvalidRequest, WrongState
from flame.model.ids import SessionNumber, Tenant, check_name, parse_task_id
from flame.model.resources import UNIT, format_bytes
from flame.model.specs import (
    DEFAULT_MAX_INPUT_BYTES,
    SessionSpec,
    SessionState,
)
from flame.session_manager import serving
from flame.session_manager.access import Caller
from flame.session_manager.call import Call
from flame.session_manager.frontend import Manager as _Manager
from flame.session_manager.replies import Watches
from flame.session_manager.serving import Context
from flame.session_manager.task_calls import Creation, Dialect, watch
from flame.session_manager.views_v0 import (
    application_message,
    application_spec_of,
    encode_task,
    session_message,
)
from flame.wire import v0, v1
from flame.wire.status import code_of

MAX_SLOTS = 1_000_000


class Manager(_Manager, Protocol):
    """What it needs of the session manager."""

    def session_name(self, tenant: Tenant, number: SessionNumber) -> str:
        """Return the name of the tenant's session of this number, or raise NotFound."""


#: There is no field for how many states were skipped.
DIALECT = Dialect(lambda view, call, _skipped: encode_task(view, call), code_of)


class FrontendV0:
    """The handlers of the fifteen rpcs.

    Args:
        manager: Where the answers come from.
        max_input_bytes: The largest input, output and common data.
        watches: Counts the tasks that are watched at once.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
        watches: Watches | None = None,
    ) -> None:
        self._manager = manager
        self._watches = watches or Watches()
        self._max_input_bytes = max_input_bytes

    def handler(self) -> Any:
        """Return what a gRPC server needs to serve it."""
        answers: dict[str, serving.Answer] = {
            "RegisterApplication": self._register_application,
            "UnregisterApplication": self._unregister_application,
            "UpdateApplication": self._update_application,
            "GetApplication": self._get_application,
            "ListApplication": self._list_application,
            "CreateSession": self._create_session,
            "DeleteSession": self._delete_session,
            "OpenSession": self._open_session,
            "CloseSession": self._close_session,
            "GetSession": self._get_session,
            "ListSession": self._list_session,
            "GetTask": self._get_task,
        }
        rpcs = v0.FRONTEND
        methods = {rpcs[name].path: serving.unary(rpcs[name], a) for name, a in answers.items()}
        create, watch, delete = rpcs["CreateTask"], rpcs["WatchTask"], rpcs["DeleteTask"]
        methods[create.path] = serving.direct(create, self._create_task)
        methods[watch.path] = serving.direct(watch, self._watch_task, lasting=True)
        methods[delete.path] = serving.refused(
            delete,
            grpc.StatusCode.UNIMPLEMENTED,
            "a task lives as long as its session; delete the session",
        )
        return serving.service(methods)

    # --- applications --------------------------------------------------------------------------

    async def _register_application(
        self, request: v0.RegisterApplicationRequest, caller: Caller, _context: Context
    ) -> v0.Result:
        return await self._put_application(request, caller, replace=False)

    async def _update_application(
        self, request: v0.UpdateApplicationRequest, caller: Caller, _context: Context
    ) -> v0.Result:
        return await self._put_application(request, caller, replace=True)

    async def _put_application(
        self,
        request: v0.RegisterApplicationRequest | v0.UpdateApplicationRequest,
        caller: Caller,
        *,
        replace: bool,
    ) -> v0.Result:
        try:
            name = check_name(request.name, "application")
            spec = application_spec_of(request.application)
            await self._manager.call(
                lambda reply: events.RegisterApplication(caller.tenant, name, spec, reply, replace)
            )
        except FlameError as error:
            return v0.Result(return_code=-1, message=str(error))
        return v0.Result()

    async def _unregister_application(
        self, request: v0.UnregisterApplicationRequest, caller: Caller, _context: Context
    ) -> v0.Result:
        try:
            name = check_name(request.name, "application")
            await self._manager.call(
                lambda reply: events.UnregisterApplication(caller.tenant, name, reply)
            )
        except FlameError as error:
            return v0.Result(return_code=-1, message=str(error))
        return v0.Result()

    async def _get_application(
        self, request: v0.GetApplicationRequest, caller: Caller, _context: Context
    ) -> v0.Application:
        name = check_name(request.name, "application")
        return application_message(self._manager.application(caller.tenant, name))

    async def _list_application(
        self, _request: v0.ListApplicationRequest, caller: Caller, _context: Context
    ) -> v0.ApplicationList:
        found = self._manager.applications(caller.tenant)
        return v0.ApplicationList(applications=[application_message(view) for view in found])

    # --- sessions ------------------------------------------------------------------------------

    async def _create_session(
        self, request: v0.CreateSessionRequest, caller: Caller, _context: Context
    ) -> v0.Session:
        asked = request.session
        if not 1 <= asked.slots <= MAX_SLOTS:
            raise InvalidRequest(f"slots is {asked.slots}; it must be 1 to {MAX_SLOTS}")
        common_data = asked.common_data if asked.HasField("common_data") else None
        self._check_size(common_data, "common_data")
        application = check_name(asked.application, "application")
        spec = SessionSpec(application, common_data, resources=UNIT * asked.slots)
        name = f"v0-{uuid.uuid4().hex}"
        return await self._session(
            lambda reply: events.CreateSession(caller.tenant, name, spec, reply)
        )

    async def _open_session(
        self, request: v0.OpenSessionRequest, caller: Caller, _context: Context
    ) -> v0.Session:
        name = self._name(caller, request.session_id)
        return await self._session(
            lambda reply: events.OpenSession(caller.tenant, name, None, reply)
        )

    async def _close_session(
        self, request: v0.CloseSessionRequest, caller: Caller, _context: Context
    ) -> v0.Session:
        view = self._manager.session(caller.tenant, self._name(caller, request.session_id))
        if view.state is SessionState.OPEN and view.pending + view.running:
            raise WrongState(
                f"session {view.number} has {view.pending + view.running} tasks that are not "
                "final; wait for them before closing it"
            )
        return await self._session(
            lambda reply: events.CloseSession(caller.tenant, view.name, False, reply)
        )

    async def _delete_session(
        self, request: v0.DeleteSessionRequest, caller: Caller, _context: Context
    ) -> v0.Session:
        view = self._manager.session(caller.tenant, self._name(caller, request.session_id))
        await self._manager.call(
            lambda reply: events.DeleteSession(caller.tenant, view.name, reply)
        )
        return session_message(view)

    async def _get_session(
        self, request: v0.GetSessionRequest, caller: Caller, _context: Context
    ) -> v0.Session:
        name = self._name(caller, request.session_id)
        return session_message(self._manager.session(caller.tenant, name))

    async def _list_session(
        self, _request: v0.ListSessionRequest, caller: Caller, _context: Context
    ) -> v0.SessionList:
        found = self._manager.sessions(caller.tenant)
        message = v0.SessionList(sessions=[session_message(view) for view in found])
        if message.ByteSize() > v1.RELEASED_MAX_RECEIVE:  # common data, which a list can do without
            for session in message.sessions:
                session.spec.ClearField("common_data")
        return message

    async def _session(self, event_of: Callable[[Reply], Any]) -> v0.Session:
        return session_message(await self._manager.call(event_of))

    def _name(self, caller: Caller, session_id: str) -> str:
        if not (session_id.isascii() and session_id.isdigit() and int(session_id[:20]) < 2**63):
            raise InvalidRequest(f"session id {session_id[:40]!r} is not a whole number")
        return self._manager.session_name(caller.tenant, SessionNumber(int(session_id)))

    # --- tasks ---------------------------------------------------------------------------------

    def _create_task(self, request: v0.CreateTaskRequest, call: Call) -> None:
        task = request.task
        payload = task.input if task.HasField("input") else None
        self._check_size(payload, "input")
        name = self._name(call.caller, task.session_id)
        self._manager.create(call.caller.tenant, name, payload, Creation(call, DIALECT))

    async def _get_task(
        self, request: v0.GetTaskRequest, caller: Caller, context: Context
    ) -> bytes:
        task_id = parse_task_id(request.task_id)
        name = self._name(caller, request.session_id)
        return encode_task(await self._manager.task(caller.tenant, name, task_id), context)

    def _watch_task(self, request: v0.WatchTaskRequest, call: Call) -> None:
        task_id = parse_task_id(request.task_id)
        name = self._name(call.caller, request.session_id)
        watch(call, name, task_id, DIALECT, self._watches, self._manager.watch)

    def _check_size(self, payload: bytes | None, field: str) -> None:
        if payload is not None and len(payload) > self._max_input_bytes:
            raise InvalidRequest(
                f"{field} has {len(payload)} bytes; "
                f"the limit is {format_bytes(self._max_input_bytes)}"
            )
