"""The asyncio face: the same client, awaited.

    client = await flame.aio.connect()
    async with client, await client.create_session(work) as session:
        outputs = await asyncio.gather(*[session.run(data) for data in inputs])

The network I/O stays on the private thread. What it brings reaches the user's loop in batches, with
one wake-up for all that has piled up, and is given to the futures there.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from flame.model.errors import FlameError, WrongState
from flame.model.logs import TaskLog
from flame.model.resources import Resources
from flame.model.specs import DEFAULT_MAX_ATTEMPTS, ApplicationSpec, Durability, TaskLimits
from flame.model.task_notes import TaskNotes, task_notes
from flame.sdk.admin import AsyncAdmin
from flame.sdk.client import CONNECT_TIMEOUT, RETRY_SECONDS, Client, choose
from flame.sdk.configuration import resolve
from flame.sdk.connection import Connection, Feed
from flame.sdk.future import Outcome
from flame.sdk.io_thread import check_not_forked, io_thread
from flame.sdk.pile import MAX_LARGE_BYTES, MAX_TASKS, SMALL
from flame.sdk.results import Result, ResultLog
from flame.sdk.session import MAP_AHEAD, PAGE, Input
from flame.sdk.session_options import RetryOn, SessionOptions, new_session, task_limits
from flame.sdk.session_stream import Deliver, SessionStream
from flame.sdk.views import Application, Executor, Logs, Node, Package, SessionInfo, Task

T = TypeVar("T")


class AsyncFuture(asyncio.Future[bytes | None]):
    """The outcome of one task, on the loop that submitted it. Await it, gather it, wait for it.

    Cancelling it (or a task that awaits it) asks the cluster to cancel the task as well.
    """

    # A real asyncio.Future: awaiting one of our own making would cost an asyncio.Task in gather().
    __slots__ = ("_task", "_feed")

    _task: bytes | int | None  # the input; the task's id, once it is stored
    _feed: Feed

    @property
    def task_id(self) -> int | None:
        """The task's id within its session; None until the cluster has stored the task."""
        return self._task if isinstance(self._task, int) else None

    def cancel(self, msg: object | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._feed.request_cancel(self)
        return cancelled


class AsyncLimitedFuture(AsyncFuture):
    """The outcome of a task that has limits of its own; see ``AsyncSession.run``."""

    __slots__ = ("limits", "notes")

    limits: TaskLimits | None
    notes: TaskNotes | None


class Delivery:
    """Takes outcomes from the I/O thread to one user loop, a pile at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: deque[tuple[Sequence[AsyncFuture], Sequence[Outcome]]] = deque()
        self._scheduled = False

    def __call__(self, futures: Sequence[AsyncFuture], outcomes: Sequence[Outcome]) -> None:
        """I/O thread: hand over a batch."""
        self._batches.append((futures, outcomes))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._batches.clear()  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        self._scheduled = False  # before the look, so that what comes now wakes us again
        while self._batches:
            futures, outcomes = self._batches.popleft()
            for future, outcome in zip(futures, outcomes, strict=True):
                if future.done():
                    continue  # cancelled on this side
                if outcome is None or outcome.__class__ is bytes:
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)  # type: ignore[arg-type]


class AsyncSession:
    """An open session, on one event loop. As a context manager, see :class:`flame.Session`.

    Attributes:
        name: Unique among the tenant's sessions.
    """

    def __init__(self, client: "AsyncClient", info: SessionInfo, stream: SessionStream) -> None:
        """Made by an AsyncClient."""
        self.name = info.name
        self.number = info.number
        self._client = client
        self._connection = client._connection
        self._stream = stream
        self._pile = stream.pile
        self._feed = Feed(client._connection, stream)
        self._loop = asyncio.get_running_loop()

    def run(
        self,
        input: Input = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        labels: Mapping[str, str] | None = None,
        input_location: str | None = None,
        output_location: str | None = None,
    ) -> AsyncFuture:
        """Submit a task and return its future, at once; limits are those of ``Session.run``.

        While more than 262,144 tasks or 64 MiB of this session wait to be sent it blocks the loop:
        memory is bounded here as everywhere. :meth:`submit` awaits in that case.

        Raises:
            InvalidRequest: The input is neither bytes nor None, or larger than the cluster takes; or a
                limit is no number of seconds.
            WrongState: The session or its client is closed.
        """
        stream, pile = self._stream, self._pile
        limits = None
        if timeout is not None or deadline is not None:
            limits = task_limits(timeout, deadline)
        notes = None
        if labels is not None or input_location is not None or output_location is not None:
            notes = task_notes(labels, input_location, output_location)
        if input.__class__ is not bytes or len(input) > SMALL:
            data = self._feed.accept(input)
            if data is not None and len(data) > SMALL:
                if pile.large_bytes >= MAX_LARGE_BYTES:
                    self._block_until_room()
                pile.count_large(len(data))
        else:
            data = input
        if len(pile.items) >= MAX_TASKS:
            self._block_until_room()
        if stream.error is not None:
            raise stream.error
        if limits is None and notes is None:
            future = AsyncFuture(loop=self._loop)
        else:
            future = limited = AsyncLimitedFuture(loop=self._loop)
            limited.limits, limited.notes = limits, notes
            stream.submitter.limited = True
        future._task = data
        future._feed = self._feed
        pile.items.append(future)
        if not stream.awake:
            self._feed.wake()
        return future

    async def submit(
        self,
        input: Input = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        labels: Mapping[str, str] | None = None,
        input_location: str | None = None,
        output_location: str | None = None,
    ) -> AsyncFuture:
        """Submit a task as :meth:`run` does, but first await that there is room to queue it."""
        while self._pile.is_full and self._stream.error is None:
            self._feed.wake()
            await self._room()
        return self.run(
            input,
            timeout=timeout,
            deadline=deadline,
            labels=labels,
            input_location=input_location,
            output_location=output_location,
        )

    async def _room(self) -> None:
        room = asyncio.Event()

        def wake() -> None:
            self._loop.call_soon_threadsafe(room.set)

        self._pile.when_room(wake)
        try:
            await room.wait()
        finally:
            self._pile.forget(wake)

    async def map(self, inputs: Iterable[Input]) -> AsyncIterator[bytes | None]:
        """Run a task for each input and yield the outputs in that order; see ``Session.map``."""
        ahead: deque[AsyncFuture] = deque()
        for data in inputs:
            ahead.append(await self.submit(data))
            if len(ahead) >= MAP_AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()

    async def invoke(self, input: Input = None) -> bytes | None:
        """Run one task and return its output."""
        return await self.run(input)

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until every task that was submitted so far is stored; see ``Session.flush``."""
        await self._connection.io.arun(self._connection.settle(self._stream, timeout))

    async def create_task(self, input: Input = None) -> Task:
        """Submit one task, wait until it is stored, and return it as it is then."""
        future = self.run(input)
        await self.flush()
        if future.task_id is None:
            await future  # it was refused, and this says why
        return await self.get_task(future.task_id or 0)

    async def get_task(self, task_id: int) -> Task:
        """Return a task with its input, output and events."""
        return await self._client._call(self._connection.frontend.get_task(self.name, task_id))

    async def result_of(self, task_id: int, timeout: float | None = None) -> bytes | None:
        """Wait for a task, whoever submitted it, and return its output; see ``Session.result_of``."""
        return await self._client._call(self._connection.result_of(self.name, task_id, timeout))

    async def logs(self, task_id: int) -> Logs:
        """Return what a finished task wrote to its standard output and standard error.

        Empty if it wrote nothing, or is not final. The executor need not be there any more.

        Raises:
            NotFound: There is no such task, or what it wrote is no longer kept.
        """
        return await self._client._call(self._connection.frontend.logs_of(self.name, task_id))

    async def list_logs(self) -> AsyncIterator[TaskLog]:
        """Yield what each finished task wrote, by rising id; tasks that wrote nothing are left out."""
        after = 0
        while logs := (
            await self._client._call(self._connection.frontend.list_logs(self.name, after=after))
        )[0]:
            for log in logs:
                yield log
            after = logs[-1].task_id

    async def has_dropped_logs(self) -> bool:
        """Whether its tasks wrote more than is kept, and the oldest of it is gone."""
        found = self._connection.frontend.list_logs(self.name, after=0, limit=1)
        return (await self._client._call(found))[1]

    async def list_tasks(self) -> AsyncIterator[Task]:
        """Yield every task by rising id. They are fetched a page at a time."""
        after, more = 0, True
        while more:
            tasks, more = await self._client._call(
                self._connection.frontend.list_tasks(self.name, after=after, limit=PAGE)
            )
            for task in tasks:
                yield task
            after = tasks[-1].id if tasks else after

    async def watch_task(self, task_id: int) -> AsyncIterator[Task]:
        """Yield the task as it is, then once per change of its state, until it is final."""
        updates = self._connection.frontend.watch_task(self.name, task_id)

        async def following() -> Task | None:
            return await anext(updates, None)

        try:
            while (task := await self._client._call(following())) is not None:
                yield task
        finally:
            await self._client._call(updates.aclose())

    async def results(
        self, from_position: int = 0, *, follow: bool = False
    ) -> AsyncIterator[Result]:
        """Yield what the session's tasks came to; see ``Session.results``."""
        connection = self._connection

        async def begin() -> ResultLog:
            return connection.read_results(self.name, from_position, follow=follow)

        async def leave() -> None:
            connection.forget(log)

        log = await self._client._call(begin())
        try:
            while results := await self._client._call(log.next_results()):
                for result in results:
                    yield result
        finally:
            if not connection.closed:
                await self._client._call(leave())

    async def info(self) -> SessionInfo:
        """Return the session as it is now."""
        return await self._client._call(self._connection.frontend.get_session(self.name))

    async def wait(self) -> None:
        """Wait until every task that was submitted through this object has its outcome."""
        await self._client._call(self._connection.finish(self._stream))

    async def close(self, cancel_running: bool = False) -> SessionInfo:
        """Close the session; see ``Session.close``."""
        return await self._client._call(
            self._connection.close_session(self._stream, cancel_running=cancel_running)
        )

    async def __aenter__(self) -> "AsyncSession":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection.closed:
            return
        if kind is None:
            await self.wait()
            await self.close()
        else:
            await self.close(cancel_running=True)

    def _block_until_room(self) -> None:
        while self._pile.is_full and self._stream.error is None:
            self._feed.wake()
            self._pile.wait_for_room()

    def __repr__(self) -> str:
        return f"<flame.aio.AsyncSession {self.name!r} on {self._connection.where}>"


class AsyncClient:
    """A connection to a cluster, for one event loop; its methods are those of ``flame.Client``."""

    def __init__(self, client: Client) -> None:
        """Made by :func:`connect`."""
        self._client = client
        self._connection = client._connection
        self._delivery: Deliver = Delivery(asyncio.get_running_loop())

    @property
    def endpoint(self) -> str:
        """Where the session manager is; of several, the one that led last."""
        return str(self._connection.managers.current)

    async def create_session(
        self,
        application: object,
        *,
        name: str | None = None,
        common_data: bytes | None = None,
        min_instances: int = 0,
        max_instances: int | None = None,
        batch_size: int = 1,
        priority: int = 0,
        resources: Resources | str | None = None,
        durability: Durability | str = "durable",
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        task_timeout: float | None = None,
        deadline: float | None = None,
        retry_on_failure: int | None = None,
        on_client_lost: float | None = None,
        require: str | Mapping[str, str] | None = None,
        prefer: str | Mapping[str, int] | None = None,
        near: Sequence[str] = (),
        retry_on: RetryOn = (),
    ) -> AsyncSession:
        """Create a session; see ``Client.create_session``."""
        options = SessionOptions(
            common_data, min_instances, max_instances, batch_size, priority, resources,
            durability, max_attempts, task_timeout, deadline, retry_on_failure, on_client_lost,
            require, prefer, near, retry_on,
        )  # fmt: skip
        new = new_session(application, name, options)
        info, stream = await self._call(self._connection.create_session(new, self._delivery))
        return AsyncSession(self, info, stream)

    async def open_session(
        self,
        name: str,
        application: object | None = None,
        *,
        common_data: bytes | None = None,
        min_instances: int = 0,
        max_instances: int | None = None,
        batch_size: int = 1,
        priority: int = 0,
        resources: Resources | str | None = None,
        durability: Durability | str = "durable",
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        task_timeout: float | None = None,
        deadline: float | None = None,
        retry_on_failure: int | None = None,
        on_client_lost: float | None = None,
        require: str | Mapping[str, str] | None = None,
        prefer: str | Mapping[str, int] | None = None,
        near: Sequence[str] = (),
        retry_on: RetryOn = (),
        submitter: str | None = None,
    ) -> AsyncSession:
        """Get the open session of this name, or create it; see ``Client.open_session``."""
        new = None
        if application is not None:
            options = SessionOptions(
                common_data, min_instances, max_instances, batch_size, priority, resources,
                durability, max_attempts, task_timeout, deadline, retry_on_failure, on_client_lost,
                require, prefer, near, retry_on,
            )  # fmt: skip
            new = new_session(application, name, options)
        info, stream = await self._call(
            self._connection.open_session(name, new, self._delivery, submitter)
        )
        return AsyncSession(self, info, stream)

    async def get_session(self, name: str) -> AsyncSession:
        """Get a session, open or closed."""
        info, stream = await self._call(self._connection.get_session(name, self._delivery))
        return AsyncSession(self, info, stream)

    async def list_sessions(self) -> list[SessionInfo]:
        """Return all sessions, closed ones too."""
        return await self._call(self._connection.frontend.list_sessions())

    async def close_session(self, name: str, cancel_running: bool = False) -> SessionInfo:
        """Close a session."""
        return await self._call(
            self._connection.frontend.close_session(name, cancel_running=cancel_running)
        )

    async def delete_session(self, name: str) -> None:
        """Forget a closed session and its tasks."""
        await self._call(self._connection.frontend.delete_session(name))

    async def register_application(self, name: str, spec: ApplicationSpec) -> None:
        """Make an application known under a name."""
        await self._call(self._connection.frontend.register_application(name, spec))

    async def update_application(self, name: str, spec: ApplicationSpec) -> None:
        """Replace an application's specification."""
        await self._call(self._connection.frontend.update_application(name, spec))

    async def upload_package(
        self,
        path: str | os.PathLike[str],
        *,
        exclude: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Package:
        """Upload what an application is made of; see ``Client.upload_package``."""
        upload = self._client.upload_package
        return await asyncio.to_thread(upload, path, exclude=exclude, progress=progress)

    async def unregister_application(self, name: str) -> None:
        """Forget an application."""
        await self._call(self._connection.frontend.unregister_application(name))

    async def get_application(self, name: str) -> Application:
        """Return an application, or raise NotFound."""
        return await self._call(self._connection.frontend.get_application(name))

    async def list_applications(self) -> list[Application]:
        """Return all applications."""
        return await self._call(self._connection.frontend.list_applications())

    async def list_executors(self) -> list[Executor]:
        """Return all executors."""
        return await self._call(self._connection.frontend.list_executors())

    async def list_nodes(self) -> list[Node]:
        """Return all nodes."""
        return await self._call(self._connection.frontend.list_nodes())

    async def get_node(self, name: str) -> Node:
        """Return a node, or raise NotFound."""
        return await self._call(self._connection.frontend.get_node(name))

    @property
    def admin(self) -> AsyncAdmin:
        """Tenants, tokens, and nodes to cordon or drain: what operators do."""
        return AsyncAdmin(self._connection.admin, self._call)

    async def close(self) -> None:
        """Disconnect. Futures without an outcome say so; their tasks go on."""
        # It may have a cluster to stop, which blocks.
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            check_not_forked()
            if self._connection.closed:
                raise WrongState("the client is closed; connect() again")
        except FlameError:
            work.close()
            raise
        return await self._connection.io.arun(work)

    def __repr__(self) -> str:
        return f"<flame.aio.AsyncClient of {self.endpoint}>"


async def connect(
    endpoint: str | None = None,
    *,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    timeout: float = CONNECT_TIMEOUT,
    retry: float = RETRY_SECONDS,
    executors: int | None = None,
    storage: str | None = None,
    default_endpoint: str | None = None,
    tenant: str | None = None,
) -> AsyncClient:
    """Connect to a cluster, or start one; see ``flame.connect``."""
    check_not_forked()
    configuration, embedded = await asyncio.to_thread(
        choose,
        endpoint,
        executors,
        storage,
        lambda: resolve(
            endpoint,
            token=token,
            token_file=token_file,
            ca_file=ca_file,
            config=config,
            default_endpoint=default_endpoint,
            tenant=tenant,
        ),
    )
    io = io_thread()
    try:
        connection = await io.arun(Connection.open(io, configuration, timeout=timeout, retry=retry))
    except BaseException:
        if embedded is not None:
            await asyncio.to_thread(embedded.release)
        raise
    return AsyncClient(Client(connection, embedded))
