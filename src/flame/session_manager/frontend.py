"""The public API, ``flame.v1.Frontend``: eighteen rpcs, as released clients expect them.

A handler decodes, asks the session manager, and encodes the answer; it keeps no state and decides
nothing. Codes are those of the released contract where clients depend on them:

* a wrong state is INVALID_ARGUMENT, and INTERNAL where tasks still run in a session to be closed;
* Register, Update and UnregisterApplication put every error but a malformed request into their
  ``Result``, with return code -1.

In all cases the trailing metadata has the very class of the error (``v1.ERROR_KEY``).
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc

from flame.core import events
from flame.core.effects import ApplicationView, ExecutorView, NodeView, SessionView, TaskView
from flame.core.events import Reply
from flame.model.errors import (
    FlameError,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from flame.model.ids import NodeName, TaskId, Tenant, check_name, parse_task_id
from flame.model.packages import kept_package
from flame.model.resources import UNIT, Resources, format_bytes
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES, SessionSpec
from flame.model.task_notes import NO_NOTES, TaskNotes, task_notes
from flame.session_manager import serving, views
from flame.session_manager.access import Caller
from flame.session_manager.call import Call
from flame.session_manager.replies import Answerable, Watches, Watching
from flame.session_manager.serving import Context
from flame.session_manager.task_calls import Creation, Dialect, watch
from flame.wire import codec, v1
from flame.wire.status import code_of

#: A page of ListTask aims at this many bytes of payload, so that a list of large tasks stays small
#: in memory and one of tiny tasks reads many at a time.
PAGE_BYTES = 1024 * 1024
FIRST_PAGE = 16
LARGEST_PAGE = 1024


class Manager(Protocol):
    """What the Frontend needs of the session manager."""

    async def call(self, event_of: Callable[[Reply], Any]) -> Any:
        """Hand the engine the event made for a reply handle; return the answer's view, or None.

        Raises:
            FlameError: The core refused.
        """

    def applications(self, tenant: Tenant) -> list[ApplicationView]:
        """Return the tenant's applications."""

    def application(self, tenant: Tenant, name: str) -> ApplicationView:
        """Return one of them, or raise NotFound."""

    def packages_of(self, tenant: Tenant, application: str) -> list[v1.NodePackage]:
        """Return how far nodes are with an application's package."""

    def application_changed(self, tenant: Tenant, application: str) -> None:
        """An application was registered or updated."""

    def sessions(self, tenant: Tenant | None) -> list[SessionView]:
        """Return the tenant's sessions, closed ones too; None: those of all tenants."""

    def session(self, tenant: Tenant, name: str) -> SessionView:
        """Return one of them, or raise NotFound."""

    def executors(self) -> list[ExecutorView]:
        """Return all executors."""

    def nodes(self) -> list[NodeView]:
        """Return all nodes."""

    def node(self, name: NodeName) -> NodeView:
        """Return one of them, or raise NotFound."""

    async def task(self, tenant: Tenant, session_name: str, task_id: TaskId) -> TaskView:
        """Return one task, from memory or the store, or raise NotFound."""

    async def tasks(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> list[TaskView]:
        """Return up to ``limit`` tasks above ``after`` by rising id; raise NotFound."""

    def create(
        self,
        tenant: Tenant,
        session_name: str,
        payload: bytes | None,
        reply: Answerable,
        notes: TaskNotes = NO_NOTES,
    ) -> None:
        """Make a task; the reply gets its view, or an error."""

    def watch(
        self, tenant: Tenant, session_name: str, task_id: TaskId, watcher: Watching
    ) -> Callable[[], None]:
        """Tell the watcher of the task's changes from Pending on, and last of its final state.

        It may be told during this call. What is returned ends the watch before that.
        """


def v1_code_of(error: FlameError) -> grpc.StatusCode:
    """Return the status code that released clients expect for an error."""
    if isinstance(error, WrongState):
        return grpc.StatusCode.INVALID_ARGUMENT
    return code_of(error)


def _close_code_of(error: FlameError) -> grpc.StatusCode:
    if isinstance(error, WrongState):  # "Cannot close session with running tasks"
        return grpc.StatusCode.INTERNAL
    return code_of(error)


class Frontend:
    """The handlers of the eighteen rpcs.

    Args:
        manager: Where the answers come from.
        default_resources: What a session gets that does not say.
        max_input_bytes: The largest input, output and common data.
        watches: Counts the tasks that are watched at once.
        now: The clock that ``NodeView.last_heartbeat`` was read from.
        check_package: Raises NotFound for a tenant's package (by its hash) that is not kept here.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        default_resources: Resources = UNIT,
        max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
        watches: Watches | None = None,
        now: Callable[[], float] = time.monotonic,
        check_package: Callable[[Tenant, str], Awaitable[None]] | None = None,
    ) -> None:
        self._manager = manager
        self._default_resources = default_resources
        self._max_input_bytes = max_input_bytes
        self._watches = watches or Watches()
        self._max_answer_bytes = max_input_bytes + 1024 * 1024  # as in wire.channels
        self._now = now
        self._check_package = check_package
        self._dialect = Dialect(self._encode, v1_code_of)

    def handler(self) -> Any:
        """Return what a gRPC server needs to serve the Frontend."""
        answers: dict[str, serving.Answer] = {
            "RegisterApplication": self._register_application,
            "UnregisterApplication": self._unregister_application,
            "UpdateApplication": self._update_application,
            "GetApplication": self._get_application,
            "ListApplication": self._list_application,
            "ListExecutor": self._list_executor,
            "ListNodes": self._list_nodes,
            "GetNode": self._get_node,
            "DeleteSession": self._delete_session,
            "ListSession": self._list_session,
            "GetTask": self._get_task,
            **self.session_answers(),
        }
        streams: dict[str, serving.Stream] = {
            "ListTask": self._list_task,
        }
        rpcs = v1.FRONTEND
        methods = {rpcs[n].path: serving.unary(rpcs[n], a, v1_code_of) for n, a in answers.items()}
        for name, stream in streams.items():
            methods[rpcs[name].path] = serving.streaming(rpcs[name], stream, v1_code_of)
        close = rpcs["CloseSession"]
        methods[close.path] = serving.unary(close, self._close_session, _close_code_of)
        create, watch = rpcs["CreateTask"], rpcs["WatchTask"]
        methods[create.path] = serving.direct(create, self._create_task, v1_code_of)
        methods[watch.path] = serving.direct(watch, self._watch_task, v1_code_of, lasting=True)
        return serving.service(methods)

    def session_answers(self) -> dict[str, serving.Answer]:
        """Return what answers the calls that open and close sessions, for task channels too."""
        return {
            "CreateSession": self._create_session,
            "OpenSession": self._open_session,
            "GetSession": self._get_session,
            "CloseSession": self._close_session,
        }

    # --- applications --------------------------------------------------------------------------

    async def _register_application(
        self, request: v1.RegisterApplicationRequest, caller: Caller, context: Context
    ) -> v1.Result:
        return await self._put_application(request, caller, context, replace=False)

    async def _update_application(
        self, request: v1.UpdateApplicationRequest, caller: Caller, context: Context
    ) -> v1.Result:
        return await self._put_application(request, caller, context, replace=True)

    async def _put_application(
        self,
        request: v1.RegisterApplicationRequest | v1.UpdateApplicationRequest,
        caller: Caller,
        context: Context,
        *,
        replace: bool,
    ) -> v1.Result:
        name = check_name(request.name, "application")
        if not request.HasField("application"):
            raise InvalidRequest(f"application {name!r} has no specification")
        spec = codec.application_spec_of(request.application)
        self._check_size(spec.pickled_service + spec.local_modules, "the pickled service")
        package = kept_package(spec.url)
        if package is not None and self._check_package is not None:
            await self._check_package(caller.tenant, package[0])
        result = await self._result(
            context,
            lambda reply: events.RegisterApplication(caller.tenant, name, spec, reply, replace),
        )
        if result.return_code == 0:
            self._manager.application_changed(caller.tenant, name)
        return result

    async def _unregister_application(
        self, request: v1.UnregisterApplicationRequest, caller: Caller, context: Context
    ) -> v1.Result:
        name = check_name(request.name, "application")
        return await self._result(
            context, lambda reply: events.UnregisterApplication(caller.tenant, name, reply)
        )

    async def _result(self, context: Context, event_of: Callable[[Reply], Any]) -> v1.Result:
        try:
            await self._manager.call(event_of)
        except (InvalidRequest, PermissionDenied, Unauthenticated):
            raise
        except FlameError as error:
            context.set_trailing_metadata(((v1.ERROR_KEY, type(error).__name__),))
            return v1.Result(return_code=-1, message=str(error))
        return v1.Result()

    async def _get_application(
        self, request: v1.GetApplicationRequest, caller: Caller, context: Context
    ) -> bytes:
        name = check_name(request.name, "application")
        view = self._manager.application(caller.tenant, name)
        packages = self._manager.packages_of(caller.tenant, name)
        return views.encode_application(view, self._limit_of(context), packages)

    async def _list_application(
        self, _request: v1.ListApplicationRequest, caller: Caller, context: Context
    ) -> bytes:
        found = self._manager.applications(caller.tenant)
        return views.encode_applications(found, self._limit_of(context))

    # --- executors and nodes -------------------------------------------------------------------

    async def _list_executor(
        self, _request: v1.ListExecutorRequest, caller: Caller, _context: Context
    ) -> v1.ExecutorList:
        found = [view for view in self._manager.executors() if caller.may_be(view.tenant)]
        return v1.ExecutorList(executors=[views.executor_message(view) for view in found])

    async def _list_nodes(
        self, _request: v1.ListNodesRequest, _caller: Caller, _context: Context
    ) -> v1.NodeList:
        return v1.NodeList(nodes=[self.node_message(view) for view in self._manager.nodes()])

    async def _get_node(
        self, request: v1.GetNodeRequest, _caller: Caller, _context: Context
    ) -> v1.GetNodeResponse:
        view = self._manager.node(NodeName(check_name(request.name, "node")))
        return v1.GetNodeResponse(node=self.node_message(view))

    def node_message(self, view: NodeView) -> v1.Node:
        """Write a node."""
        age = self._now() - view.last_heartbeat
        return views.node_message(view, int(time.time() - age))

    # --- sessions ------------------------------------------------------------------------------

    async def _create_session(
        self, request: v1.CreateSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        name = check_name(request.session_id, "session")
        if not request.HasField("session"):
            raise InvalidRequest(f"session {name!r} has no specification")
        spec = self._session_spec(request.session)
        return await self._session(
            context, lambda reply: events.CreateSession(caller.tenant, name, spec, reply)
        )

    async def _open_session(
        self, request: v1.OpenSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        name = check_name(request.session_id, "session")
        spec = self._session_spec(request.session) if request.HasField("session") else None
        return await self._session(
            context, lambda reply: events.OpenSession(caller.tenant, name, spec, reply)
        )

    async def _close_session(
        self, request: v1.CloseSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        name = check_name(request.session_id, "session")
        cancel = request.cancel_running
        return await self._session(
            context, lambda reply: events.CloseSession(caller.tenant, name, cancel, reply)
        )

    async def _delete_session(
        self, request: v1.DeleteSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        name = check_name(request.session_id, "session")
        # The core answers with nothing, since nothing is left; released clients want to see what was.
        view = self._manager.session(caller.tenant, name)
        await self._manager.call(lambda reply: events.DeleteSession(caller.tenant, name, reply))
        return views.encode_session(view, self._limit_of(context))

    async def _get_session(
        self, request: v1.GetSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        view = self._manager.session(caller.tenant, check_name(request.session_id, "session"))
        return views.encode_session(view, self._limit_of(context))

    async def _list_session(
        self, request: v1.ListSessionRequest, caller: Caller, context: Context
    ) -> bytes:
        if request.all_tenants:
            found = [view for view in self._manager.sessions(None) if caller.may_be(view.tenant)]
        else:
            found = self._manager.sessions(caller.tenant)
        return views.encode_sessions(found, self._limit_of(context))

    async def _session(self, context: Context, event_of: Callable[[Reply], Any]) -> bytes:
        view: SessionView = await self._manager.call(event_of)
        return views.encode_session(view, self._limit_of(context))

    def _session_spec(self, message: v1.SessionSpec) -> SessionSpec:
        spec = codec.session_spec_of(message, self._default_resources)
        self._check_size(spec.common_data, "common_data")
        return spec

    # --- tasks ---------------------------------------------------------------------------------

    def _create_task(self, request: v1.CreateTaskRequest, call: Call) -> None:
        if not request.HasField("task"):
            raise InvalidRequest("the request has no task")
        task = request.task
        name = check_name(task.session_id, "session")
        payload = task.input if task.HasField("input") else None
        self._check_size(payload, "input")
        reply = Creation(call, self._dialect)
        notes = NO_NOTES
        if task.labels or task.input_location or task.output_location:
            labels = {label.name: label.value for label in task.labels}
            notes = task_notes(labels, task.input_location, task.output_location)
        self._manager.create(call.caller.tenant, name, payload, reply, notes)

    def _watch_task(self, request: v1.WatchTaskRequest, call: Call) -> None:
        # A cancelled task's stream ends like any other, with OK after the final message: with a
        # status that is not OK, a client's transport may drop the message before it is read.
        task_id = parse_task_id(request.task_id)
        name = check_name(request.session_id, "session")
        watch(call, name, task_id, self._dialect, self._watches, self._manager.watch)

    async def _get_task(
        self, request: v1.GetTaskRequest, caller: Caller, context: Context
    ) -> bytes:
        task_id = parse_task_id(request.task_id)
        name = check_name(request.session_id, "session")
        view = await self._manager.task(caller.tenant, name, task_id)
        return views.encode_task(view, self._limit_of(context))

    async def _list_task(
        self, request: v1.ListTaskRequest, caller: Caller, context: Context
    ) -> None:
        name = check_name(request.session_id, "session")
        limit_of = self._limit_of(context)
        after = request.after
        left = request.limit or 2**63
        page = FIRST_PAGE
        while left > 0:
            asked = min(page, left)
            found = await self._manager.tasks(caller.tenant, name, after, asked)
            size = 0
            for view in found:
                data = views.encode_task(view, limit_of, listed=True)
                size += len(data)
                await context.write(data)
            if len(found) < asked:
                return
            after = found[-1].task_id
            left -= len(found)
            fitting = PAGE_BYTES * len(found) // max(size, 1)
            page = max(1, min(fitting, page * 4, LARGEST_PAGE))

    # --- limits --------------------------------------------------------------------------------

    def _limit_of(self, context: Context) -> Callable[[], int]:
        return lambda: serving.receive_limit(context, self._max_answer_bytes)

    def _encode(self, view: TaskView, call: Call, skipped: int) -> bytes:
        return views.encode_task(view, self._limit_of(call), skipped=skipped)

    def _check_size(self, payload: bytes | None, field: str) -> None:
        if payload is not None and len(payload) > self._max_input_bytes:
            limit = self._max_input_bytes
            raise InvalidRequest(
                f"{field} has {len(payload)} bytes; the limit is {limit} ({format_bytes(limit)})"
            )
