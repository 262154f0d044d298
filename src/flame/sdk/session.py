"""A session as a program uses it: tasks go in, futures come out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from flame.model.logs import TaskLog
from flame.model.task_notes import task_notes
from flame.sdk.connection import Feed
from flame.sdk.future import Future, LimitedFuture
from flame.sdk.live_logs import TaskLogs
from flame.sdk.pile import MAX_LARGE_BYTES, MAX_TASKS, SMALL
from flame.sdk.results import Result, ResultLog
from flame.sdk.session_options import task_limits
from flame.sdk.session_stream import SessionStream
from flame.sdk.views import Logs, SessionInfo, Task

if TYPE_CHECKING:
    from flame.sdk.client import Client

Input = bytes | bytearray | memoryview | None

#: How far ``map`` submits ahead of what was taken.
MAP_AHEAD = 16_384
#: Tasks that one listing call asks for.
PAGE = 1000


class Session:
    """An open session. Any thread may use it.

    As a context manager it waits for its tasks and is closed at the end of the block; when the block
    raises, it is closed at once, and what still runs is cancelled. (Ctrl-C while no session manager
    answers leaves it open, and a warning in the log says so.)

    Attributes:
        name: Unique among the tenant's sessions.
    """

    def __init__(self, client: "Client", info: SessionInfo, stream: SessionStream) -> None:
        """Made by a Client."""
        self.name = info.name
        self._client = client
        self._number = info.number
        self._connection = client._connection
        self._stream = stream
        self._pile = stream.pile
        self._append: Callable[[Future], None] = stream.pile.items.append
        self._feed = Feed(client._connection, stream)

    @property
    def number(self) -> int:
        """The session's number: unique in the cluster, and never used again."""
        return self._number

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more tasks, as far as this client knows; :meth:`info` asks."""
        return self._stream.error is not None

    # --- tasks ----------------------------------------------------------------------------------

    def run(
        self,
        input: Input = None,
        *,
        timeout: float | None = None,
        deadline: float | None = None,
        labels: Mapping[str, str] | None = None,
        input_location: str | None = None,
        output_location: str | None = None,
    ) -> Future:
        """Submit a task and return its future, at once.

        The calls of one thread are queued in their order. It blocks only while more than 262,144
        tasks or 64 MiB of this session wait to be sent.

        Args:
            input: Given to the service.
            timeout: Seconds that the task may run, instead of the session's ``task_timeout``.
            deadline: Seconds from its creation within which it must be final, instead of the
                session's ``deadline``.
            labels: What the service, and ``flmctl view``, are told of it: at most 16.
            input_location: Where its input is: ``volume/path``.
            output_location: Where its output goes, on a volume to write to.

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
                    self._wait_for_room()
                pile.count_large(len(data))
        else:
            data = input
        if len(pile.items) >= MAX_TASKS:
            self._wait_for_room()
        if stream.error is not None:
            raise stream.error
        if limits is None and notes is None:
            future = Future(self._feed, data)
        else:
            future = LimitedFuture(self._feed, data, limits, notes)
            stream.submitter.limited = True
        self._append(future)
        # The I/O thread clears the flag before it looks into the pile: what is appended while the
        # flag is set will be seen.
        if not stream.awake:
            self._feed.wake()
        return future

    def map(self, inputs: Iterable[Input]) -> Iterator[bytes | None]:
        """Run a task for each input and yield the outputs in that order.

        Up to 16,384 tasks are ahead of what was taken. The first task that did not succeed raises
        from the iterator, in its place.
        """
        left = iter(inputs)
        ahead: deque[Future] = deque()
        for data in left:
            ahead.append(self.run(data))
            if len(ahead) >= MAP_AHEAD:
                break
        return self._outputs(ahead, left)

    def _outputs(self, ahead: deque[Future], left: Iterator[Input]) -> Iterator[bytes | None]:
        while ahead:
            output = ahead.popleft().result()
            for data in left:
                ahead.append(self.run(data))
                break
            yield output

    def invoke(self, input: Input = None, timeout: float | None = None) -> bytes | None:
        """Run one task and return its output; as ``run(input).result(timeout)``."""
        return self.run(input).result(timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every task that was submitted so far is stored.

        Raises:
            Unavailable: That took longer than ``timeout`` (default: the client's ``retry``) seconds.
            ResourceExhausted: Tasks since the last call were refused, for a full disk, say, and are
                not stored; which, their futures tell. Or another error, for what refused the first.
        """
        self._connection.io.run(self._connection.flush(self._stream, timeout))

    def create_task(self, input: Input = None) -> Task:
        """Submit one task, wait until it is stored, and return it as it is then."""
        future = self.run(input)
        self._connection.io.run(self._connection.settle(self._stream))
        if future.task_id is None:
            future.result()  # it was refused, and this says why
        return self.get_task(future.task_id or 0)

    def get_task(self, task_id: int) -> Task:
        """Return a task with its input, output and events.

        Raises:
            NotFound: The session has no such task, or keeps it no longer.
        """
        return self._client._call(self._connection.frontend.get_task(self.name, task_id))

    def result_of(self, task_id: int, timeout: float | None = None) -> bytes | None:
        """Wait for a task, whoever submitted it, and return its output.

        Raises:
            NotFound: The session has no such task, or keeps it no longer.
            TaskError: It did not succeed; which error is as with ``Future.result``.
            TimeoutError: It has no outcome after ``timeout`` seconds. The task goes on.
        """
        return self._client._call(self._connection.result_of(self.name, task_id, timeout))

    def logs(self, task_id: int) -> Logs:
        """Return what a finished task wrote to its standard output and standard error.

        Empty if it wrote nothing, or is not final. The executor need not be there any more.

        Raises:
            NotFound: There is no such task, or what it wrote is no longer kept.
        """
        return self._client._call(self._connection.frontend.logs_of(self.name, task_id))

    def list_logs(self) -> Iterator[TaskLog]:
        """Yield what each finished task wrote, by rising id; tasks that wrote nothing are left out."""
        after = 0
        while logs := self._client._call(
            self._connection.frontend.list_logs(self.name, after=after)
        )[0]:
            yield from logs
            after = logs[-1].task_id

    def follow_logs(self, task_id: int) -> Iterator[Logs]:
        """Yield what a task writes, piece by piece as it does, until it is final.

        When the task is tried again, what the next attempt writes follows. Of a task that is final it is
        what is kept.

        Raises:
            NotFound: There is no such task, or what it wrote is no longer kept.
        """
        live = TaskLogs(self._connection.frontend, self.name, task_id)
        while (piece := self._client._call(live.next_piece())) is not None:
            yield piece

    def has_dropped_logs(self) -> bool:
        """Whether its tasks wrote more than is kept, and the oldest of it is gone."""
        found = self._connection.frontend.list_logs(self.name, after=0, limit=1)
        return self._client._call(found)[1]

    def list_tasks(self) -> Iterator[Task]:
        """Yield every task by rising id. They are fetched a page at a time."""
        after, more = 0, True
        while more:
            tasks, more = self._client._call(
                self._connection.frontend.list_tasks(self.name, after=after, limit=PAGE)
            )
            yield from tasks
            after = tasks[-1].id if tasks else after

    def watch_task(self, task_id: int) -> Iterator[Task]:
        """Yield the task as it is, then once per change of its state, until it is final.

        Changes that follow one another quickly may be told as one.
        """
        updates = self._connection.frontend.watch_task(self.name, task_id)

        async def following() -> Task | None:
            return await anext(updates, None)

        async def leave() -> None:
            await updates.aclose()

        try:
            while (task := self._client._call(following())) is not None:
                yield task
        finally:
            self._client._call(leave())

    def results(self, from_position: int = 0, *, follow: bool = False) -> Iterator[Result]:
        """Yield what the session's tasks came to, in the order of their ends, whoever submitted them.

        By this another process, or the same one after a crash, collects results by their task ids.
        Without ``follow`` it ends with the newest result that was there at first; with it, when the
        session is closed. A memory session drops old results that its clients have taken.

        Raises:
            NotFound: The session is gone.
            InvalidRequest: ``from_position`` is negative, or beyond the end of the log.
        """
        connection = self._connection

        async def begin() -> ResultLog:
            return connection.read_results(self.name, from_position, follow=follow)

        async def leave() -> None:
            connection.forget(log)

        log = self._client._call(begin())
        try:
            while results := self._client._call(log.next_results()):
                yield from results
        finally:
            if not connection.closed:
                self._client._call(leave())

    # --- the session ----------------------------------------------------------------------------

    def info(self) -> SessionInfo:
        """Return the session as it is now."""
        return self._client._call(self._connection.frontend.get_session(self.name))

    def wait(self) -> None:
        """Wait until every task that was submitted through this object has its outcome."""
        self._client._call(self._connection.finish(self._stream))

    def close(self, cancel_running: bool = False) -> SessionInfo:
        """Close the session: it takes no more tasks, and those that are pending get cancelled.

        Every future has its outcome when this returns. Closing a closed session is no error.

        Raises:
            FlameError: A task is running, and ``cancel_running`` is not set.
        """
        return self._client._call(
            self._connection.close_session(self._stream, cancel_running=cancel_running)
        )

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection.closed:
            return
        if kind is None:
            try:
                self.wait()
                self.close()
            except (KeyboardInterrupt, SystemExit):
                self._abandon()
                raise
        elif issubclass(kind, Exception):
            self.close(cancel_running=True)
        else:
            self._abandon()

    def _abandon(self) -> None:
        self._client._call(self._connection.abandon_session(self._stream))

    def _wait_for_room(self) -> None:
        if not self._feed.may_wait():
            return  # a callback of a future: the thread that makes room must not wait for it
        while self._pile.is_full and self._stream.error is None:
            if not self._stream.awake:
                self._feed.wake()
            self._pile.wait_for_room()

    def __repr__(self) -> str:
        return f"<flame.Session {self.name!r} on {self._connection.where}>"
