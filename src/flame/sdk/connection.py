"""One client's connection, on the I/O thread: what both faces share.

The faces (``client``, ``session``; ``aio``) add nothing but how to wait and which kind of future a
task gets.
"""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from flame.model.errors import (
    AlreadyExists,
    FlameError,
    InvalidRequest,
    NotFound,
    Unavailable,
    WrongState,
)
from flame.model.packages import package_url
from flame.model.specs import ApplicationSpec
from flame.sdk.admin_calls import AdminCalls
from flame.sdk.configuration import ClientConfiguration, Credential
from flame.sdk.frontend import Frontend
from flame.sdk.io_thread import IoThread, check_not_forked
from flame.sdk.outage import CLOSING, LEFT
from flame.sdk.outage import log as outage_log
from flame.sdk.results import ResultLog, output_of
from flame.sdk.session_options import NewSession
from flame.sdk.session_stream import Deliver, SessionStream, State
from flame.sdk.submitter import submitter_id
from flame.sdk.task_channel import RECEIVE_LIMIT, TaskChannel
from flame.sdk.views import Package, SessionInfo
from flame.wire.managers import Managers

if TYPE_CHECKING:
    from flame.sdk.packing import Packed, Progress

#: Seconds that a closed session's last outcomes may take to arrive.
LAST_OUTCOMES = 10.0
#: Seconds that somebody who gives up is kept for a session manager that is away.
GIVING_UP = 1.0

_live: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection:
    """Channels to a cluster's session managers. Make it with :meth:`open`, on the I/O thread.

    Attributes:
        managers: Who they are, and which one leads.
        max_input_bytes: What the manager takes as a task's input.
        streams: The session streams that are in use.
    """

    def __init__(
        self, io: IoThread, managers: Managers, credential: Credential, retry: float
    ) -> None:
        self.io = io
        self.managers = managers
        self.max_input_bytes = 0
        self.streams: set[SessionStream] = set()
        self.retry_seconds = retry
        self.closed = False
        self.frontend = Frontend(
            managers, credential, retry_seconds=retry, max_receive=RECEIVE_LIMIT
        )
        self.admin = AdminCalls(self.frontend)
        self.tasks = TaskChannel(managers, credential)
        self.frontend.channel = self.tasks.calls
        _live.add(self)

    @classmethod
    async def open(
        cls, io: IoThread, configuration: ClientConfiguration, *, timeout: float, retry: float
    ) -> "Connection":
        """Connect, and return when the manager has said hello.

        Raises:
            Unauthenticated, PermissionDenied: It does not let this client in.
            Unavailable: Nobody answered in ``timeout`` seconds.
        """
        if not configuration.endpoints:
            raise InvalidRequest("there is no endpoint to connect to")
        managers = Managers(
            configuration.endpoints, ca_file=configuration.ca_file, max_input_bytes=RECEIVE_LIMIT
        )
        connection = cls(io, managers, configuration.credential, retry)
        connection.tasks.start()
        try:
            hello = await connection.tasks.wait_connected(timeout)
        except BaseException:
            await connection.close()
            raise
        connection.max_input_bytes = hello.max_input_bytes
        return connection

    async def close(self) -> None:
        """End the streams. Tasks go on in the cluster; their futures here say that we left."""
        if self.closed:
            return
        self.closed = True
        await self.tasks.close()
        left = WrongState("the client was closed before the outcome came; the task itself goes on")
        for stream in list(self.streams):
            stream.end(left)
        self.streams.clear()
        await self.managers.close()

    @property
    def where(self) -> str:
        """The addresses, for messages."""
        return str(self.managers)

    async def upload(self, packed: "Packed", progress: "Progress") -> Package:
        """Send a package, unless the manager has it."""
        url = package_url(packed.sha256, packed.name)
        if await self.frontend.has_package(packed.sha256):
            return Package(url, packed.sha256, packed.size, uploaded=False)
        await self.frontend.upload_package(
            packed.archive, packed.sha256, packed.size, lambda sent: progress(sent, packed.size)
        )
        return Package(url, packed.sha256, packed.size, uploaded=True)

    # --- sessions -------------------------------------------------------------------------------

    async def create_session(
        self, new: NewSession, deliver: Deliver
    ) -> tuple[SessionInfo, SessionStream]:
        """Create a session, and its application if it brings one; begin to attach.

        Where the call goes over the task channel, the Attach follows it at once, and finds the session:
        a round trip less. Not so under a name that others may know: to attach to, and leave, somebody
        else's session may end it.
        """
        stream: SessionStream | None = None

        def make() -> Awaitable[SessionInfo]:
            nonlocal stream
            if stream is None and new.is_name_made_up and self.tasks.calls.is_open:
                stream = self._stream(new.name, deliver, position=0, attach=True)
                stream.is_early = True
            return self.frontend.create_session(
                new.name, new.spec, default_resources=new.default_resources
            )

        try:
            info = await self._with_application(new, make)
        except BaseException:
            if stream is not None:
                self.forget(stream)
            raise
        if stream is None:
            stream = self._stream(new.name, deliver, position=0, attach=True)
        else:
            stream.created()
            self.tasks.poke(stream)
        return info, stream

    async def open_session(
        self, name: str, new: NewSession | None, deliver: Deliver, submitter: str | None
    ) -> tuple[SessionInfo, SessionStream]:
        """Get the open session of this name, or create it."""
        if new is None:
            info = await self.frontend.open_session(name, None, default_resources=False)
        else:
            spec, default_resources = new.spec, new.default_resources
            info = await self._with_application(
                new,
                lambda: self.frontend.open_session(name, spec, default_resources=default_resources),
            )
        if submitter is None:
            return info, self._stream(name, deliver, position=_position(info), attach=False)
        # From the beginning of the log: outcomes of what an earlier process submitted are in it.
        stream = self._stream(
            name, deliver, position=0, attach=False, submitter=submitter_id(submitter)
        )
        return info, stream

    async def _with_application(
        self, new: NewSession, make: Callable[[], Awaitable[SessionInfo]]
    ) -> SessionInfo:
        """Make the session, after its application if it brings one."""
        if new.service is None:
            return await make()
        await self._register(new.spec.application, new.service)
        try:
            return await make()
        except NotFound:  # between the two calls it left, with its last session
            await self._register(new.spec.application, new.service)
            return await make()

    async def _register(self, name: str, service: ApplicationSpec) -> None:
        try:
            await self.frontend.register_application(name, service)
        except AlreadyExists:
            pass  # its name is a hash of its content

    async def get_session(self, name: str, deliver: Deliver) -> tuple[SessionInfo, SessionStream]:
        """Get a session of any state."""
        info = await self.frontend.get_session(name)
        return info, self._stream(name, deliver, position=_position(info), attach=False)

    def _stream(
        self,
        name: str,
        deliver: Deliver,
        *,
        position: int | None,
        attach: bool,
        submitter: bytes | None = None,
    ) -> SessionStream:
        stream = SessionStream(name, deliver, position=position, submitter=submitter)
        if attach:
            stream.want()
        self.streams.add(stream)
        self.tasks.add(stream)
        return stream

    async def close_session(self, stream: SessionStream, *, cancel_running: bool) -> SessionInfo:
        """Close a session after everything that was submitted to it is stored.

        What is pending gets cancelled; its futures say so before this returns.
        """
        await self.settle(stream)
        info = await self.frontend.close_session(stream.name, cancel_running=cancel_running)
        if stream.state is not State.DETACHED:
            await _until(stream.when_ended, LAST_OUTCOMES)
        self.forget(stream)
        return info

    async def abandon_session(self, stream: SessionStream) -> None:
        """Close a session for somebody who gives up, and is not kept for the retry time by an outage.

        The session manager may just be starting again. If it stays away, the log says that the session
        stays open; if it is there, and takes its time, that it is waited for.
        """
        loop = asyncio.get_running_loop()
        closing = loop.create_task(self.close_session(stream, cancel_running=True))
        waits = False
        try:
            while not closing.done():
                looked = loop.time()
                await asyncio.wait((closing,), timeout=GIVING_UP)
                began = self.tasks.outage.began
                if began is not None and began <= looked:
                    break
                if not (closing.done() or waits):
                    waits = True
                    outage_log.warning(CLOSING, stream.name, self.where)
            if closing.done():
                await closing
                return
        except Unavailable:
            pass
        finally:
            closing.cancel()
        outage_log.warning(LEFT, stream.name, self.where, stream.name)

    def read_results(self, name: str, position: int, *, follow: bool) -> ResultLog:
        """Begin to read a session's outcome log; :meth:`forget` ends it."""
        log = ResultLog(name, position, self.tasks.wake, follow=follow)
        log.want()
        self.streams.add(log)
        self.tasks.add(log)
        return log

    def forget(self, stream: SessionStream) -> None:
        """Carry a session's stream no longer."""
        closed = WrongState(f"session {stream.name!r} is closed and takes no more tasks")
        if stream.state is not State.ENDED:
            stream.end(closed)
        self.tasks.remove(stream)
        self.streams.discard(stream)

    async def settle(self, stream: SessionStream, timeout: float | None = None) -> None:
        """Wait until every task so far is stored (or refused, which its future says).

        Raises:
            Unavailable: Not so within ``timeout`` seconds, or the retry time without one.
        """
        seconds = self.retry_seconds if timeout is None else timeout
        if not await _until(stream.when_settled, seconds):
            raise Unavailable(
                f"{stream.unacknowledged} tasks of session {stream.name!r} were not acknowledged "
                f"by {self.where} within {seconds:g} s; they are still being sent"
            )

    async def flush(self, stream: SessionStream, timeout: float | None) -> None:
        """Wait until every task so far is stored.

        Raises:
            FlameError: Some since the last time are not: the error of the first of them.
            Unavailable: Also if nobody knows yet; see ``settle``.
        """
        await self.settle(stream, timeout)
        count, refusal = stream.take_refusals()
        if refusal is not None:
            what = "task was" if count == 1 else "tasks were"
            raise type(refusal)(
                f"{count} {what} not stored in session {stream.name!r}, as the futures say; the"
                f" first: {refusal}"
            ) from refusal

    async def result_of(self, name: str, task_id: int, timeout: float | None) -> bytes | None:
        """Wait until a task is final, whoever submitted it, and return its output.

        Raises:
            TaskError: It did not succeed.
            TimeoutError: It is not final after so many seconds.
        """
        updates = self.frontend.watch_task(name, task_id)
        async with asyncio.timeout(timeout), aclosing(updates):
            async for task in updates:
                if task.state.is_final:
                    return output_of(task)
        raise FlameError(f"the watch of task {task_id} ended before the task did")

    async def finish(self, stream: SessionStream) -> None:
        """Wait until every task has its outcome."""
        await _until(stream.when_empty, None)


class Feed:
    """How user threads put tasks into a session's stream: the part of ``run`` that is not inlined.

    It is also what a future knows of its session.
    """

    def __init__(self, connection: Connection, stream: SessionStream) -> None:
        self.connection = connection
        self.stream = stream

    def wake(self) -> None:
        """Have the I/O thread look at the stream."""
        self.connection.tasks.wake(self.stream)

    def request_cancel(self, future: object) -> None:
        """Ask the cluster to cancel a future's task. Any thread."""
        self.stream.cancels.ask(future)
        if not self.stream.awake:
            self.wake()

    def may_wait(self) -> bool:
        """Whether the calling thread may wait for an outcome."""
        check_not_forked()
        return not self.connection.io.is_current

    def accept(self, input: object) -> bytes | None:
        """Return an input as the bytes that are sent.

        Raises:
            InvalidRequest: It is of another type, or larger than the cluster takes.
        """
        if input is None:
            return None
        if not isinstance(input, bytes | bytearray | memoryview):
            raise InvalidRequest(
                f"a task's input must be bytes or None, not {type(input).__name__}; "
                "encode it first, for example with pickle or json"
            )
        data = bytes(input)
        if len(data) > self.connection.max_input_bytes:
            raise InvalidRequest(
                f"the input has {len(data)} bytes; the cluster takes at most "
                f"{self.connection.max_input_bytes}. Put large data into a file or store and send "
                "its name"
            )
        return data


async def _until(when: Callable[[Callable[[], object]], object], timeout: float | None) -> bool:
    """Wait until ``when`` calls its callback back, on this loop; return whether it did."""
    event = asyncio.Event()
    when(event.set)
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _position(info: SessionInfo) -> int | None:
    """Return where a session's log ends: 0 if it is certainly empty, None if we have to ask."""
    return None if info.succeeded + info.failed + info.cancelled else 0


def _after_fork_in_child() -> None:
    """Make every inherited session refuse to run tasks, at no cost to those that may."""
    for connection in list(_live):
        error = FlameError(
            f"this process {os.getpid()} was forked from {os.getppid()}, which owns the connection "
            "to Flame; connect in the child only, or start processes with 'spawn'"
        )
        connection.closed = True
        for stream in connection.streams:
            stream.error = error


os.register_at_fork(after_in_child=_after_fork_in_child)
