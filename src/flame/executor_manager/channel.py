"""The executor channel, as its executor speaks it: everything in the I/O thread.

    hello ─▶ welcome ─▶ bind ─▶ bind result ─▶ tasks / results / take back ... ─▶ unbind ─▶ left
                        └▶ bind and tasks at once, if the service is known to enter quickly

The stream may break at any moment, and a session manager may restart. So the truth is kept here, not
in the stream: which tasks are held, which results are not stored. A new stream starts with a hello
that says what is held; unstored results follow under their old numbers; nothing else that was on its
way matters any more.

What has piled up goes out: while a frame is being written results gather, and the next frame takes
them all. The main thread wakes this one only when it has gone to sleep.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.cell import Cell
from flame.executor_manager.hand import RIPE_AFTER, End, Enter, Hand, Leave, held_of
from flame.executor_manager.outbox import Outbox
from flame.executor_manager.relay import relayed_connection
from flame.executor_manager.window import Window
from flame.model.specs import WINDOW_AT_BINDING, Sandbox
from flame.runtime.backoff import Backoff
from flame.runtime.framed_call import FramedCall, deliver, write_all
from flame.runtime.tasks import Tasks, is_cancelled
from flame.wire import frames
from flame.wire.batches import unpack
from flame.wire.channels import FRAME_OVERHEAD, Endpoint, bearer
from flame.wire.framed import client_tls, framed_hello
from flame.wire.managers import (
    CEILING_AMONG_SEVERAL,
    HELLO_AMONG_SEVERAL,
    Managers,
    parse_endpoints,
)
from flame.wire.status import raise_status

log = logging.getLogger(__name__)

RIPE_RESULTS = 512  # results that are sent though more are coming
STARTED_AFTER = 10_000_000  # ns after which a task is reported as started
FRAMED_TIMEOUT = 3.0  # seconds to connect without gRPC; then gRPC's own port is used
HELLO_TIMEOUT = 15.0  # seconds that a session manager may take to answer a hello
DEFAULT_HEARTBEAT = 5.0  # seconds, if the session manager names none
SILENT_HEARTBEATS = 3  # after so many without a word the other side is gone

#: These are about us, not about the connection: trying again cannot help.
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

Call = Any  # grpc.aio.StreamStreamCall[ExecutorFrame, ExecutorOrder], generic only in its stubs


class ExecutorChannel:
    """One executor's side of its channel. Create and run it on the I/O thread's loop.

    ``wake``, ``entered`` and ``left`` may be called from any thread.

    Args:
        refused: Called once when the session manager wants nothing more of this executor.
    """

    def __init__(
        self, assignment: Assignment, hand: Hand, cell: Cell, refused: Callable[[str], None]
    ) -> None:
        self._assignment = assignment
        self._hand = hand
        self._cell = cell
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._incarnation = assignment.incarnation
        self._session = 0
        self._bound = False
        self._binding = False
        #: How a binding went; put here by the main thread before any result of that session.
        self._entered: deque[tuple[int, int, str]] = deque()
        self._left_due = False
        self._held: dict[int, int] = {}  # task id -> attempt; until its result is in the outbox
        self._outbox = Outbox(assignment.max_output_bytes)
        self._control: deque[frames.ExecutorFrame] = deque()
        self._window = Window()
        self._announced = 0
        self._counts_windows = False  # the session manager does, with results and at bindings
        self._reported = (0, 0)  # the (task, attempt) last reported as started
        self._look: asyncio.TimerHandle | None = None
        self._awake = asyncio.Event()
        self._stored = asyncio.Event()
        self._last_sent = 0.0
        self._last_received = 0.0
        #: Where a stream without gRPC may be tried, once.
        self._framed: dict[Endpoint, frames.FramedAddress] = {}

    # --- from any thread

    def wake(self) -> None:
        """There is something to send."""
        self._loop.call_soon_threadsafe(self._awake.set)

    def entered(self, incarnation: int, code: int, message: str) -> None:
        """The binding succeeded (code 0) or failed."""
        self._entered.append((incarnation, code, message))
        if not self._hand.tasks:
            self.wake()  # else it is told with the first results, or when a task turns out to be slow

    def left(self) -> None:
        """The session is left; its results may still be on their way."""
        self._loop.call_soon_threadsafe(self._on_left)

    # --- connecting

    async def run(self) -> None:
        """Keep a stream to the session manager, for as long as this process lives."""
        endpoints = parse_endpoints(self._assignment.endpoint)
        self._framed[endpoints[0]] = frames.FramedAddress(
            port=self._assignment.framed_port, local=self._assignment.framed_local
        )
        async with Managers(
            endpoints,
            ca_file=self._assignment.ca_file,
            max_input_bytes=self._assignment.max_output_bytes,
        ) as managers:
            backoff = Backoff(ceiling=CEILING_AMONG_SEVERAL) if managers.several else Backoff()
            while True:
                endpoint = managers.current
                call = await self._connect(endpoint, managers.channels[endpoint])
                try:
                    reason = await self._converse(call, managers, backoff)
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {error.details()}"
                    if error.code() in _REFUSED:
                        self._refused(reason)
                        return
                except asyncio.InvalidStateError:
                    reason = "the stream ended while a frame was being written"
                except asyncio.CancelledError:
                    if is_cancelled():
                        raise
                    reason = "the stream was given up"  # by ourselves: nobody spoke, or we failed
                    await managers.reopen(endpoint)
                except TimeoutError:
                    reason = "no answer to the hello"
                    await managers.reopen(endpoint)
                finally:
                    call.cancel()
                await managers.reopen_unless_connected(endpoint)
                delay = backoff.next_delay() if managers.failed(endpoint) else 0.0
                log.info(
                    "disconnected endpoint=%s reason=%r retry_in=%.2f", endpoint, reason, delay
                )
                await asyncio.sleep(delay)

    async def _connect(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> Call:
        """Return a stream: without gRPC where the session manager offers it and it is reached."""
        metadata = bearer(self._assignment.credential)
        if self._assignment.sandbox == Sandbox.STRICT:
            call = await self._relayed(endpoint)
            await call.write(framed_hello(frames.EXECUTOR_CHANNEL, metadata))
            return call
        framed = self._framed.pop(endpoint, None)  # the welcome names it again
        if framed is not None and framed.port:
            try:
                call = await FramedCall.open(
                    endpoint.host,
                    framed.port,
                    framed.local,
                    client_tls(endpoint, self._assignment.ca_file),
                    frames.ExecutorOrder.FromString,
                    most_bytes=self._assignment.max_output_bytes + FRAME_OVERHEAD,
                    timeout=FRAMED_TIMEOUT,
                )
                await call.write(framed_hello(frames.EXECUTOR_CHANNEL, metadata))
                return call
            except (OSError, TimeoutError) as error:
                log.info("framed-port-unreachable port=%d error=%r", framed.port, error)
        connect = channel.stream_stream(
            frames.EXECUTOR_CHANNEL,
            request_serializer=frames.ExecutorFrame.SerializeToString,
            response_deserializer=frames.ExecutorOrder.FromString,
        )
        return connect(metadata=metadata)

    async def _relayed(self, endpoint: Endpoint) -> FramedCall:
        """Return a stream over a connection that the executor manager makes: here is no network."""
        backoff = Backoff()
        while True:
            try:
                connection, host = await asyncio.to_thread(relayed_connection)
                return await FramedCall.through(
                    connection,
                    host,
                    client_tls(endpoint, self._assignment.ca_file),
                    frames.ExecutorOrder.FromString,
                    most_bytes=self._assignment.max_output_bytes + FRAME_OVERHEAD,
                    timeout=FRAMED_TIMEOUT,
                )
            except (OSError, TimeoutError) as error:
                log.info("relay-failed error=%r", error)
                await asyncio.sleep(backoff.next_delay())

    async def finish(self, timeout: float) -> bool:
        """Wait until every result is stored, for so many seconds. Returns whether it is."""
        try:
            async with asyncio.timeout(timeout):
                while self._hand.finished or len(self._outbox):
                    self._stored.clear()
                    self._awake.set()
                    await self._stored.wait()
        except TimeoutError:
            return False
        return True

    async def _converse(self, call: Call, managers: Managers, backoff: Backoff) -> str:
        """Use one stream until it ends; return why it did."""
        async with asyncio.timeout(HELLO_AMONG_SEVERAL if managers.several else HELLO_TIMEOUT):
            await call.write(self._hello())
            first = await call.read()
        if first is grpc.aio.EOF:
            await raise_status(call)
            return "the session manager ended the stream before its welcome"
        if first.WhichOneof("frame") != "welcome":
            return self._unwelcome(first)
        backoff.reset()
        managers.found()
        self._framed[managers.current] = first.welcome.framed
        self._counts_windows = first.welcome.counts_windows
        heartbeat = first.welcome.heartbeat_seconds or DEFAULT_HEARTBEAT
        self._last_received = self._last_sent = self._loop.time()

        def broken(error: BaseException) -> None:
            log.error("stream-failed", exc_info=error)
            call.cancel()

        async with Tasks("executor-channel", broken) as tasks:
            tasks.start(self._send(call), "send")
            tasks.start(self._beat(call, heartbeat), "heartbeat")
            self._watch_running()
            await deliver(call, self._obey)
            await raise_status(call)
            return "the session manager ended the stream"

    def _hello(self) -> frames.ExecutorFrame:
        """Return the first frame of a stream, which makes all that was on its way obsolete."""
        self._take_entered()
        self._counts_windows = False
        self._pack()
        self._outbox.rewind()
        self._control.clear()
        self._announced = self._wanted()
        self._reported = (0, 0)
        running = self._cell.read()
        if running is not None and running.task_id not in self._held:
            running = None
        in_hand = {**self._outbox.unstored(), **self._held}
        return frames.ExecutorFrame(
            hello=frames.ExecutorHello(
                executor=self._assignment.executor,
                incarnation=self._incarnation,
                bound=self._bound,
                session=self._session if self._bound else 0,
                window=self._announced,
                task_ids=in_hand.keys(),
                attempts=in_hand.values(),
                running=running.task_id if running is not None else 0,
                running_ms=(
                    (time.monotonic_ns() - running.started) // 1_000_000
                    if running is not None
                    else 0
                ),
                gpu_ids=self._assignment.gpu_ids,
                takes_early_tasks=True,
            )
        )

    def _unwelcome(self, order: frames.ExecutorOrder) -> str:
        if order.WhichOneof("frame") == "refusal":
            self._on_refusal(order.refusal)
            return f"{order.refusal.code}: {order.refusal.message}"
        return f"the first frame is {order.WhichOneof('frame')!r}; a welcome is due"

    # --- sending

    async def _send(self, call: Call) -> None:
        try:
            while True:
                due = self._next_frames()
                if not due:
                    # Say that we sleep, then look again: a result put down in between is seen by
                    # this look, one put down later wakes us.
                    self._hand.awake = False
                    self._awake.clear()
                    due = self._next_frames()
                    if not due:
                        await self._awake.wait()
                        self._hand.awake = True
                        continue
                    self._hand.awake = True
                await write_all(call, due)
                self._last_sent = self._loop.time()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream ended; whoever reads from it says why
        finally:
            self._hand.awake = True  # nobody to wake until there is a stream again

    def _next_frames(self) -> list[frames.ExecutorFrame]:
        """Return what goes out together: all there is to say, and one frame of results."""
        due: list[frames.ExecutorFrame] = []
        results = self._outbox.next_unsent()
        if results is None and self._is_ripe():
            # How the binding went is told before its results, which were put down later. A new
            # window, too, goes first: the results make room for more tasks.
            self._take_entered()
            self._pack_one()
            results = self._outbox.next_unsent()
        else:
            self._take_entered()
        if self._control:
            due.extend(self._control)
            self._control.clear()
        if results is not None:
            due.append(frames.ExecutorFrame(results=results))
        elif not due and (last := self._last_frame()) is not None:
            due.append(last)
        return due

    def _last_frame(self) -> frames.ExecutorFrame | None:
        """Return the word of having left, if it is due."""
        if self._left_due and not len(self._outbox):
            # After the last result is stored, so that a reused process starts with nothing.
            self._left_due = self._bound = False
            self._session = 0
            self._held.clear()
            return frames.ExecutorFrame(left=frames.Left(incarnation=self._incarnation))
        return None

    def _is_ripe(self) -> bool:
        """Whether to send results now, rather than with those that the next moment brings.

        While quick tasks are in hand results pile up for up to 4 ms, so that a frame holds many and
        the interpreter is left to the tasks. The main thread wakes us by the same rule.
        """
        finished = len(self._hand.finished)
        if not finished:
            return False
        if not self._hand.tasks or finished >= RIPE_RESULTS:
            return True
        now = self._loop.time()
        if now - self._last_sent >= RIPE_AFTER / 1e9:
            return True
        # The main thread may be in a long task and not wake us for the results before it.
        self._loop.call_later(RIPE_AFTER / 1e9, self._awake.set)
        return False

    def _pack(self) -> None:
        while self._pack_one():
            pass

    def _pack_one(self) -> bool:
        batch = self._outbox.take(self._hand.finished, self._hand.output.of)
        if batch is None:
            return False
        forget = self._held.pop
        for task_id in batch.task_ids:
            forget(task_id, None)
        if self._hand.cancelled:
            self._hand.cancelled.difference_update(batch.task_ids)
        self._window.observe(len(batch.task_ids), batch.elapsed_ns, batch.input_bytes)
        wanted = self._wanted()
        if self._counts_windows and wanted and wanted != self._announced:
            self._announced = batch.frame.window = wanted
        else:
            self._announce()
        return True

    def _wanted(self) -> int:
        return 0 if self._outbox.full else self._window.tasks

    def _announce(self) -> None:
        wanted = self._wanted()
        if wanted != self._announced:
            self._announced = wanted
            self._tell(frames.ExecutorFrame(window=frames.Window(tasks=wanted)))

    def _tell(self, frame: frames.ExecutorFrame) -> None:
        self._control.append(frame)
        self._awake.set()

    async def _beat(self, call: Call, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(heartbeat)
            now = self._loop.time()
            if now - self._last_received > heartbeat * SILENT_HEARTBEATS:
                log.warning("session-manager-silent seconds=%.1f", now - self._last_received)
                call.cancel()
                return
            if now - self._last_sent >= heartbeat * 0.9:
                self._tell(frames.ExecutorFrame(heartbeat=frames.Heartbeat()))

    # --- obeying

    def _obey(self, order: frames.ExecutorOrder) -> None:
        self._last_received = self._loop.time()
        match order.WhichOneof("frame"):
            case "tasks":
                self._on_tasks(order.tasks)
            case "results_stored":
                self._on_stored(order.results_stored.sequence)
            case "take_back":
                self._on_take_back(order.take_back)
            case "cancel":
                self._hand.cancelled.update(
                    task for task in order.cancel.task_ids if task in self._held
                )
            case "bind":
                self._on_bind(order.bind)
            case "unbind":
                if self._bound or self._binding:
                    self._hand.command(Leave())
                else:
                    self._tell(
                        frames.ExecutorFrame(left=frames.Left(incarnation=self._incarnation))
                    )
            case "refusal":
                self._on_refusal(order.refusal)
            case "heartbeat" | "welcome":
                pass
            case other:
                log.warning("order-unknown frame=%s", other)  # of a newer session manager

    def _on_stored(self, sequence: int) -> None:
        self._outbox.stored(sequence)
        self._announce()
        self._stored.set()
        if self._left_due:
            self._awake.set()

    def _on_tasks(self, tasks: frames.Tasks) -> None:
        if tasks.results_stored:
            self._on_stored(tasks.results_stored)
        dealt = list(held_of(tasks, unpack(tasks.inputs, tasks.absent)))
        held = self._held
        if not held.keys().isdisjoint(tasks.task_ids):
            # Sent again after a broken connection: what is in hand stays where it is.
            dealt = [task for task in dealt if held.get(task[0]) != task[1]]
        held.update([(task_id, attempt) for task_id, attempt, _ in dealt])
        if tasks.noted:
            fresh = {task[0] for task in dealt}
            for index, said in zip(tasks.noted, tasks.notes, strict=True):
                if tasks.task_ids[index] in fresh:
                    self._hand.notes[tasks.task_ids[index]] = said
        self._hand.deal(dealt)
        self._watch_running()

    def _on_take_back(self, order: frames.TakeBack) -> None:
        taken = self._hand.take_back(order.task_ids, order.count)
        for task_id in taken:
            self._held.pop(task_id, None)
            self._hand.notes.pop(task_id, None)
        self._hand.cancelled.difference_update(taken)
        self._tell(
            frames.ExecutorFrame(taken_back=frames.TakenBack(request=order.request, task_ids=taken))
        )

    def _on_bind(self, bind: frames.Bind) -> None:
        if bind.incarnation == self._incarnation and self._binding:
            return  # repeated after a broken connection; its result is on the way
        if bind.incarnation == self._incarnation and self._bound and bind.session == self._session:
            self._tell_bound(bind.incarnation, 0, "")
            return
        self._incarnation = bind.incarnation
        self._session = bind.session
        self._binding, self._bound, self._left_due = True, False, False
        self._outbox = Outbox(self._assignment.max_output_bytes)
        self._held.clear()
        self._hand.take_back(
            (), sys.maxsize
        )  # should there be any, this session's service is not for them
        self._reported = (0, 0)  # the numbers of tasks begin again in each session
        self._window.rebind()
        if self._counts_windows:
            self._announced = min(self._announced, WINDOW_AT_BINDING)
        self._hand.command(Enter(bind))

    def _take_entered(self) -> None:
        """Tell how the binding went, if that is news."""
        while self._entered:
            self._on_entered(*self._entered.popleft())

    def _on_entered(self, incarnation: int, code: int, message: str) -> None:
        if incarnation != self._incarnation:
            return  # a newer Bind came meanwhile and is next
        self._binding = False
        self._bound = code == 0
        if not self._bound:
            self._held.clear()  # the main thread gave up what came with the binding
        self._announce()  # first, as tasks come at once when the binding is told
        self._tell_bound(incarnation, code, message)

    def _tell_bound(self, incarnation: int, code: int, message: str) -> None:
        result = frames.BindResult(
            incarnation=incarnation,
            return_code=code,
            message=message.encode("utf-8", "replace").decode(),
        )
        self._tell(frames.ExecutorFrame(bind_result=result))

    def _on_left(self) -> None:
        self._left_due = True
        self._awake.set()

    def _on_refusal(self, refusal: frames.Refusal) -> None:
        log.warning("refused code=%s message=%r", refusal.code, refusal.message)
        if refusal.closing:
            self._refused(f"{refusal.code}: {refusal.message}")

    # --- slow tasks

    def _watch_running(self) -> None:
        """See to it that somebody looks at the running task while there are tasks in hand."""
        if self._look is None and self._held:
            self._look = self._loop.call_later(STARTED_AFTER / 1e9, self._look_at_running)

    def _look_at_running(self) -> None:
        """Report a task that has been running for a while. One timer, whatever the tasks."""
        self._look = None
        if not self._held:
            return
        if self._hand.finished or self._entered:
            self._awake.set()  # of quick tasks before a long one; the main thread did not wake us
        delay = STARTED_AFTER
        running = self._cell.read()
        if running is not None and running.task_id in self._held:
            age = time.monotonic_ns() - running.started
            if age < STARTED_AFTER:
                delay = STARTED_AFTER - age
            elif (running.task_id, running.attempt) != self._reported:
                self._reported = (running.task_id, running.attempt)
                self._tell(
                    frames.ExecutorFrame(
                        started=frames.Started(task_id=running.task_id, attempt=running.attempt)
                    )
                )
                if self._window.slow_task(age):
                    self._announce()
        self._look = self._loop.call_later(max(delay, 1_000_000) / 1e9, self._look_at_running)


def end_hand(hand: Hand) -> None:
    """Let the main thread finish the task that runs, start no other, and end."""
    hand.take_back((), sys.maxsize)
    hand.command(End())
