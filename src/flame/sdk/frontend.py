"""The public API's unary rpcs, as coroutines that take and return our own values.

A call is repeated, with back-off, while the session manager cannot be reached: all of them are safe to
repeat, if a repetition that finds its own work done counts as a success. (``CreateTask`` would not
be; tasks are only submitted over the task channel.)
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from flame.model.errors import AlreadyExists, FlameError, NotFound, Unavailable
from flame.model.ids import TaskId
from flame.model.logs import KEPT_LOG_BYTES, TaskLog
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.runtime.backoff import Backoff
from flame.runtime.tasks import is_cancelled
from flame.sdk import views
from flame.sdk.channel_calls import ChannelCalls
from flame.sdk.configuration import Credential
from flame.wire import admin, codec, v1
from flame.wire.channels import Endpoint
from flame.wire.managers import CEILING_AMONG_SEVERAL, Managers
from flame.wire.packages import PART_BYTES, UPLOAD, FindPackage, Package, UploadPart
from flame.wire.status import error_of

CALL_TIMEOUT = 30.0  # seconds that one try of a call may take
SLOWEST_UPLOAD = 256 * 1024  # bytes a second; slower than that counts as no answer

#: Those of the public API, those of operators (``flame.sdk.admin``), and how packages travel.
_RPCS = {
    **v1.FRONTEND,
    **admin.ADMIN,
    "FindPackage": UPLOAD["Find"],
    "UploadPackage": UPLOAD["Upload"],
}

PAGE_BYTES = 4 * 1024 * 1024  # of listed tasks that are held at a time


def backoff_among(managers: Managers) -> Backoff:
    """Return the delays between rounds through the session managers."""
    return Backoff(ceiling=CEILING_AMONG_SEVERAL) if managers.several else Backoff()


class Frontend:
    """One client's calls. All methods run on the I/O thread's loop.

    Attributes:
        managers: Who is asked.
        channel: Takes some of the calls, while it can; None: nobody does.
        retry_seconds: For how long a call is repeated while nobody answers.
    """

    def __init__(
        self,
        managers: Managers,
        credential: Credential,
        *,
        retry_seconds: float,
        max_receive: int,
    ) -> None:
        self.managers = managers
        self.retry_seconds = retry_seconds
        self._metadata = (*credential.metadata, (v1.MAX_RECEIVE_KEY, str(max_receive)))
        self.channel: ChannelCalls | None = None
        self._under_way: dict[Any, Endpoint] = {}
        managers.on_moved.append(self._give_up)

    # --- applications ---------------------------------------------------------------------------

    async def register_application(self, name: str, spec: ApplicationSpec) -> None:
        message = codec.application_spec_to(spec)
        request = v1.RegisterApplicationRequest(name=name, application=message)
        await self.call("RegisterApplication", request, done=AlreadyExists)

    async def update_application(self, name: str, spec: ApplicationSpec) -> None:
        message = codec.application_spec_to(spec)
        request = v1.UpdateApplicationRequest(name=name, application=message)
        await self.call("UpdateApplication", request)

    async def unregister_application(self, name: str) -> None:
        request = v1.UnregisterApplicationRequest(name=name)
        await self.call("UnregisterApplication", request, done=NotFound)

    async def get_application(self, name: str) -> views.Application:
        answer = await self.call("GetApplication", v1.GetApplicationRequest(name=name))
        return views.application_of(answer)

    async def list_applications(self) -> list[views.Application]:
        answer = await self.call("ListApplication", v1.ListApplicationRequest())
        return [views.application_of(message) for message in answer.applications]

    # --- packages -------------------------------------------------------------------------------

    async def has_package(self, sha256: str) -> bool:
        answer = await self.call("FindPackage", FindPackage(sha256=sha256))
        return bool(answer.present)

    async def upload_package(
        self, archive: Path, sha256: str, size: int, progress: Callable[[int], None]
    ) -> None:
        """Send a package; ``progress`` is told, in this thread, how many bytes have gone."""

        async def parts() -> AsyncIterator[UploadPart]:
            yield UploadPart(header=Package(sha256=sha256, size=size))
            sent = 0
            with archive.open("rb") as file:
                while data := await asyncio.to_thread(file.read, PART_BYTES):
                    yield UploadPart(data=data)
                    sent += len(data)
                    progress(sent)

        timeout = CALL_TIMEOUT + size / SLOWEST_UPLOAD
        await self.call("UploadPackage", parts, timeout=timeout)

    # --- executors and nodes --------------------------------------------------------------------

    async def list_executors(self) -> list[views.Executor]:
        answer = await self.call("ListExecutor", v1.ListExecutorRequest())
        return [views.executor_of(message) for message in answer.executors]

    async def list_nodes(self) -> list[views.Node]:
        answer = await self.call("ListNodes", v1.ListNodesRequest())
        return [views.node_of(message) for message in answer.nodes]

    async def get_node(self, name: str) -> views.Node:
        answer = await self.call("GetNode", v1.GetNodeRequest(name=name))
        return views.node_of(answer.node)

    # --- sessions -------------------------------------------------------------------------------

    async def create_session(
        self, name: str, spec: SessionSpec, *, default_resources: bool
    ) -> views.SessionInfo:
        request = v1.CreateSessionRequest(
            session_id=name, session=_spec_message(spec, default_resources)
        )
        answer = await self.call("CreateSession", request, done=AlreadyExists)
        if answer is None:  # our own first try made it, and its answer was lost
            return await self.get_session(name)
        return views.session_of(answer)

    async def open_session(
        self, name: str, spec: SessionSpec | None, *, default_resources: bool
    ) -> views.SessionInfo:
        message = None if spec is None else _spec_message(spec, default_resources)
        request = v1.OpenSessionRequest(session_id=name, session=message)
        return views.session_of(await self.call("OpenSession", request))

    async def get_session(self, name: str) -> views.SessionInfo:
        request = v1.GetSessionRequest(session_id=name)
        return views.session_of(await self.call("GetSession", request))

    async def list_sessions(self, *, all_tenants: bool) -> list[views.SessionInfo]:
        answer = await self.call("ListSession", v1.ListSessionRequest(all_tenants=all_tenants))
        return [views.session_of(message) for message in answer.sessions]

    async def close_session(self, name: str, *, cancel_running: bool) -> views.SessionInfo:
        request = v1.CloseSessionRequest(session_id=name, cancel_running=cancel_running)
        return views.session_of(await self.call("CloseSession", request))

    async def delete_session(self, name: str) -> None:
        request = v1.DeleteSessionRequest(session_id=name)
        await self.call("DeleteSession", request, done=NotFound)

    # --- tasks ----------------------------------------------------------------------------------

    async def get_task(self, session: str, task_id: int) -> views.Task:
        request = v1.GetTaskRequest(task_id=str(task_id), session_id=session)
        return views.task_of(await self.call("GetTask", request))

    async def list_logs(
        self, session: str, *, after: int, limit: int = 0
    ) -> tuple[list[TaskLog], bool]:
        """Return logs of tasks above ``after``, and whether the session's oldest were dropped."""
        request = admin.ListTaskLogsRequest(session_id=session, after=after, limit=limit)
        answer = await self.call("ListTaskLogs", request)
        logs = [
            TaskLog(TaskId(log.task_id), log.attempt, log.stdout, log.stderr) for log in answer.logs
        ]
        return logs, answer.dropped

    async def logs_of(self, session: str, task_id: int) -> views.Logs:
        """Return what a task wrote.

        Raises:
            NotFound: There is no such task, or what it wrote is no longer kept.
        """
        found, dropped = await self.list_logs(session, after=max(task_id - 1, 0), limit=1)
        if found and found[0].task_id == task_id:
            return views.Logs(found[0].stdout, found[0].stderr)
        task = await self.get_task(session, task_id)
        if dropped and task.state.is_final:
            raise NotFound(
                f"task {task_id} of session {session!r} has no log: it wrote nothing, or what it wrote "
                f"is no longer kept, as the session's tasks wrote more than {KEPT_LOG_BYTES >> 20} MiB"
            )
        return views.Logs(b"", b"")

    async def list_tasks(
        self, session: str, *, after: int, limit: int
    ) -> tuple[list[views.Task], bool]:
        """Return the next tasks above ``after``, and whether there may be more.

        Up to ``limit`` of them, fewer if they are large.
        """
        tasks: list[views.Task] = []
        size = 0
        backoff = backoff_among(self.managers)
        deadline = time.monotonic() + self.retry_seconds
        while True:
            request = v1.ListTaskRequest(
                session_id=session,
                after=tasks[-1].id if tasks else after,
                limit=limit - len(tasks),
            )
            try:
                async for message in self.stream("ListTask", request):
                    tasks.append(views.task_of(message))
                    size += message.ByteSize()
                    if size >= PAGE_BYTES:
                        return tasks, True
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(backoff.next_delay())
            else:
                return tasks, len(tasks) == limit
            if len(tasks) == limit:
                return tasks, True

    async def watch_task(self, session: str, task_id: int) -> AsyncGenerator[views.Task, None]:
        """Yield the task as it is, then once per change, and end after its final state.

        A lost connection is not the end: the watch starts again, and what was told is not repeated.
        """
        request = v1.WatchTaskRequest(task_id=str(task_id), session_id=session)
        task = await self.get_task(session, task_id)
        yield task
        told = task.state
        backoff = backoff_among(self.managers)
        deadline = time.monotonic() + self.retry_seconds
        while not told.is_final:
            try:
                async for message in self.stream("WatchTask", request):
                    deadline = time.monotonic() + self.retry_seconds
                    task = views.task_of(message)
                    if task.state is not told:
                        told = task.state
                        yield task
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(backoff.next_delay())

    # --- calls ----------------------------------------------------------------------------------

    # also for ``flame.sdk.admin``

    async def call(
        self,
        name: str,
        request: Message | Callable[[], AsyncIterator[Message]],
        *,
        done: type[FlameError] | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> Any:
        """Call, and again while nobody answers; a stream of requests is made anew each time.

        ``done`` is the error that a *repeated* call gets whose first try did its work: no error
        then, and no answer.
        """
        deadline = time.monotonic() + self.retry_seconds
        repeated = False
        if self.channel is not None and self.channel.takes(request, name):
            try:
                answered = await self.channel.call(name, request, timeout)
                return v1.FRONTEND[name].response.FromString(answered)
            except Unavailable:
                repeated = True
        backoff = backoff_among(self.managers)
        while True:
            endpoint = self.managers.current
            sent = request() if callable(request) else request
            rpc = _RPCS[name].on(self.managers.channels[endpoint])
            call = rpc(sent, metadata=self._metadata, timeout=timeout)
            self._under_way[call] = endpoint
            try:
                answer = await call
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as failure:
                error = _error_of(failure)
                if repeated and done is not None and isinstance(error, done):
                    return None
                if not isinstance(error, Unavailable):
                    raise error from None
                if time.monotonic() >= deadline:
                    raise type(error)(
                        f"{name}: no session manager answered at {self.managers} within "
                        f"{self.retry_seconds:g} s ({error})"
                    ) from None
            else:
                if isinstance(answer, v1.Result) and answer.return_code:
                    error = error_of(
                        grpc.StatusCode.UNKNOWN, answer.message, await call.trailing_metadata()
                    )
                    if repeated and done is not None and isinstance(error, done):
                        return None
                    raise error
                return answer
            finally:
                del self._under_way[call]
            repeated = True
            if self.managers.failed(endpoint):
                await asyncio.sleep(backoff.next_delay())

    async def stream(self, name: str, request: Message) -> AsyncIterator[Any]:
        endpoint = self.managers.current
        rpc = _RPCS[name].on(self.managers.channels[endpoint])
        call = rpc(request, metadata=self._metadata)
        self._under_way[call] = endpoint
        try:
            async for message in call:
                yield message
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as failure:
            error = _error_of(failure)
            if isinstance(error, Unavailable):
                self.managers.failed(endpoint)
            raise error from None
        finally:
            del self._under_way[call]
            call.cancel()

    def _give_up(self, endpoint: Endpoint) -> None:
        """Ask elsewhere what was asked there: it is stopped, maybe, and would not say so."""
        for call, asked in list(self._under_way.items()):
            if asked == endpoint:
                call.cancel()


def _error_of(failure: grpc.aio.AioRpcError | asyncio.CancelledError) -> FlameError:
    """Return what a call failed with.

    Raises:
        CancelledError: It was not the call that was cancelled, but who waited for it.
    """
    if isinstance(failure, grpc.aio.AioRpcError):
        return error_of(failure.code(), failure.details() or "", failure.trailing_metadata())
    if is_cancelled():
        raise failure
    return Unavailable("the connection was given up, for another or a new one")


def _spec_message(spec: SessionSpec, default_resources: bool) -> v1.SessionSpec:
    message = codec.session_spec_to(spec)
    if default_resources:
        message.ClearField("resreq")  # the cluster's default, whatever that is
    return message
