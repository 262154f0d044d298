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
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

import grpc

from flame.core import events
from flame.core.effects import ApplicationView, SessionView, TaskView
from flame.core.events import Reply
from flame.model.errors import FlameError, InvalidRequest, ResourceExhausted, WrongState
from flame.model.ids import SessionNumber, Tenant, check_name, parse_task_id
from flame.model.resources import UNIT, format_bytes, slots_of
from flame.model.specs import (
    DEFAULT_MAX_INPUT_BYTES,
    ApplicationSpec,
    SessionSpec,
    SessionState,
    ShimKind,
    TaskState,
)
from flame.session_manager import serving
from flame.session_manager.access import Caller
from flame.session_manager.call import Call
from flame.session_manager.frontend import Manager as _Manager
from flame.session_manager.replies import Watches
from flame.session_manager.serving import Context
from flame.wire import codec, v0, v1
from flame.wire.status import code_of

MAX_SLOTS = 1_000_000

_SHIM_OF: Mapping[int, ShimKind] = {
    v0.Shim.Log: ShimKind.LOG,
    v0.Shim.Stdio: ShimKind.STDIO,
    v0.Shim.Wasm: ShimKind.WASM,
    v0.Shim.Shell: ShimKind.SHELL,
    v0.Shim.Grpc: ShimKind.GRPC,
}
_SHIM_TO: Mapping[ShimKind, int] = {shim: number for number, shim in _SHIM_OF.items()}


class Manager(_Manager, Protocol):
    """What it needs of the session manager."""

    def session_name(self, tenant: Tenant, number: SessionNumber) -> str:
        """Return the name of the tenant's session of this number, or raise NotFound."""


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
        self._manager.create(call.caller.tenant, name, payload, _Creation(call))

    async def _get_task(
        self, request: v0.GetTaskRequest, caller: Caller, context: Context
    ) -> bytes:
        task_id = parse_task_id(request.task_id)
        name = self._name(caller, request.session_id)
        return encode_task(await self._manager.task(caller.tenant, name, task_id), context)

    def _watch_task(self, request: v0.WatchTaskRequest, call: Call) -> None:
        task_id = parse_task_id(request.task_id)
        name = self._name(call.caller, request.session_id)
        self._watches.begin()
        watch = _Watch(call, self._watches.end)
        stop = self._manager.watch(call.caller.tenant, name, task_id, watch)

        def gone() -> None:
            watch.end()
            stop()

        if not call.is_over:
            call.on_gone = gone

    def _check_size(self, payload: bytes | None, field: str) -> None:
        if payload is not None and len(payload) > self._max_input_bytes:
            raise InvalidRequest(
                f"{field} has {len(payload)} bytes; "
                f"the limit is {format_bytes(self._max_input_bytes)}"
            )


class _Creation:
    """One CreateTask call, as the core's reply handle."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def answer(self, view: TaskView) -> None:
        try:
            self._call.finish(encode_task(view, self._call))
        except FlameError as error:
            self.refuse(error)

    def refuse(self, error: FlameError) -> None:
        serving.end(self._call, error, code_of)


class _Watch:
    """One WatchTask call. A state that could not be sent yet is replaced by a newer one."""

    __slots__ = ("_call", "_ended", "_sending", "_waiting")

    def __init__(self, call: Call, ended: Callable[[], None]) -> None:
        self._call = call
        self._ended: Callable[[], None] | None = ended
        self._sending = False
        self._waiting: TaskView | None = None

    def notify(self, view: TaskView) -> None:
        if self._sending:
            self._waiting = view
            return
        try:
            data = encode_task(view, self._call)
        except FlameError as error:
            self.refuse(error)
            return
        if view.state.is_final:
            self._call.finish(data)
            self.end()
        else:
            self._sending = True
            self._call.send(data, self._sent)

    def refuse(self, error: FlameError) -> None:
        serving.end(self._call, error, code_of)
        self.end()

    def end(self) -> None:
        """Nothing more will be told."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def _sent(self) -> None:
        self._sending = False
        view, self._waiting = self._waiting, None
        if view is not None:
            self.notify(view)


# --- the model's values as messages ---------------------------------------------------------------


def application_spec_of(message: v0.ApplicationSpec) -> ApplicationSpec:
    """Read how an application's service is started.

    Raises:
        InvalidRequest: A field has a value that can never work.
    """
    shim = _SHIM_OF.get(message.shim)
    if shim is None:
        raise InvalidRequest(f"shim is {message.shim}; version 0.2.0 knows 0 to 4")
    environments = []
    for text in message.environments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidRequest(f"environment {text!r} is not NAME=value")
        environments.append((name, value))
    spec = ApplicationSpec(
        shim=shim,
        url=message.url if message.HasField("url") else None,
        command=message.command if message.HasField("command") else None,
        arguments=tuple(message.arguments),
        environments=tuple(environments),
        working_directory=message.working_directory or None,
        shim_options=(("frames", "none"),) if shim is ShimKind.STDIO else (),
    )
    return codec.application_spec_of(codec.application_spec_to(spec))  # which checks it


def application_message(view: ApplicationView) -> v0.Application:
    """Write an application."""
    spec = view.spec
    return v0.Application(
        metadata=v0.Metadata(id=view.name, name=view.name),
        spec=v0.ApplicationSpec(
            shim=cast(v0.Shim, _SHIM_TO.get(spec.shim, v0.Shim.Grpc)),
            url=spec.url,
            command=spec.command,
            arguments=spec.arguments,
            environments=[f"{name}={value}" for name, value in spec.environments],
            working_directory=spec.working_directory,
        ),
        status=v0.ApplicationStatus(
            state=v0.ApplicationState.Enabled, creation_time=view.created_ms // 1000
        ),
    )


def session_message(view: SessionView) -> v0.Session:
    """Write a session."""
    text = str(view.number)
    return v0.Session(
        metadata=v0.Metadata(id=text, name=text),
        spec=v0.SessionSpec(
            application=view.spec.application,
            slots=slots_of(view.spec.resources),
            common_data=view.spec.common_data,
        ),
        status=v0.SessionStatus(
            state=cast(v0.SessionState, int(view.state)),
            creation_time=view.created_ms // 1000,
            completion_time=None if view.closed_ms is None else view.closed_ms // 1000,
            pending=view.pending,
            running=view.running,
            succeed=view.succeeded,
            failed=view.failed + view.cancelled,
        ),
    )


def task_message(view: TaskView) -> v0.Task:
    """Write a task. There is no field for why it failed."""
    text = str(view.task_id)
    session = str(view.session)
    state = TaskState.FAILED if view.state is TaskState.CANCELLED else view.state
    return v0.Task(
        metadata=v0.Metadata(id=text, name=text, owner=session),
        spec=v0.TaskSpec(session_id=session, input=view.input, output=view.output),
        status=v0.TaskStatus(
            state=cast(v0.TaskState, int(state)),
            creation_time=view.created_ms // 1000,
            completion_time=None if view.finished_ms is None else view.finished_ms // 1000,
        ),
    )


def encode_task(view: TaskView, context: Context) -> bytes:
    """Return the message's bytes, without its input where the client could not receive it.

    Raises:
        ResourceExhausted: The output alone is more than the client receives.
    """
    message = task_message(view)
    if message.ByteSize() > v1.RELEASED_MAX_RECEIVE:
        limit = serving.receive_limit(context, 2**31)
        if message.ByteSize() > limit:
            message.spec.ClearField("input")
        if message.ByteSize() > limit:
            raise ResourceExhausted(
                f"task {view.task_id} of session {view.session} takes {message.ByteSize()} bytes; "
                f"this client receives at most {limit}"
            )
    return message.SerializeToString()
