"""A session as a coroutine uses it: see :mod:`flame.sdk.session`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from flame.model.logs import TaskLog
from flame.model.task_notes import task_notes
from flame.sdk.async_future import AsyncFuture, AsyncLimitedFuture
from flame.sdk.connection import Feed
from flame.sdk.live_logs import TaskLogs
from flame.sdk.pile import MAX_LARGE_BYTES, MAX_TASKS, SMALL
from flame.sdk.results import Result, ResultLog
from flame.sdk.session import MAP_AHEAD, PAGE, Input
from flame.sdk.session_options import task_limits
from flame.sdk.session_stream import SessionStream
from flame.sdk.views import Logs, SessionInfo, Task

if TYPE_CHECKING:
    from flame.sdk.aio import AsyncClient


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

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more tasks, as far as this client knows; :meth:`info` asks."""
        return self._stream.error is not None

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
        await self._connection.io.arun(self._connection.flush(self._stream, timeout))

    async def create_task(self, input: Input = None) -> Task:
        """Submit one task, wait until it is stored, and return it as it is then."""
        future = self.run(input)
        await self._connection.io.arun(self._connection.settle(self._stream))
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

    async def follow_logs(self, task_id: int) -> AsyncIterator[Logs]:
        """Yield what a task writes, piece by piece as it does, until it is final."""
        live = TaskLogs(self._connection.frontend, self.name, task_id)
        while (piece := await self._client._call(live.next_piece())) is not None:
            yield piece

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
            try:
                await self.wait()
                await self.close()
            except asyncio.CancelledError:
                await self._abandon()
                raise
        elif issubclass(kind, Exception):
            await self.close(cancel_running=True)
        else:
            await self._abandon()

    async def _abandon(self) -> None:
        await self._client._call(self._connection.abandon_session(self._stream))

    def _block_until_room(self) -> None:
        while self._pile.is_full and self._stream.error is None:
            self._feed.wake()
            self._pile.wait_for_room()

    def __repr__(self) -> str:
        return f"<flame.aio.AsyncSession {self.name!r} on {self._connection.where}>"
