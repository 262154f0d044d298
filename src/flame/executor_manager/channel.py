"""The executor channel, as its executor speaks it: everything in the I/O thread.

    hello ─▶ welcome ─▶ what the binding says and is told (``binding``), with heartbeats

Whatever breaks a stream, the next one begins with a hello of all that is held (``connecting``). The
main thread wakes this one only when it has gone to sleep.
"""

import asyncio
import logging
from collections.abc import Callable

import grpc.aio

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.binding import Binding
from flame.executor_manager.cell import Cell
from flame.executor_manager.connecting import Call, Connector
from flame.executor_manager.hand import Hand
from flame.executor_manager.streams import NotLetIn, reason_of_end
from flame.runtime.backoff import Backoff
from flame.runtime.framed_call import FramedCall, deliver
from flame.runtime.tasks import Tasks
from flame.wire import frames
from flame.wire.managers import (
    CEILING_AMONG_SEVERAL,
    HELLO_AMONG_SEVERAL,
    Managers,
    parse_endpoints,
)
from flame.wire.status import raise_status

log = logging.getLogger(__name__)

HELLO_TIMEOUT = 15.0  # seconds that a session manager may take to answer a hello
DEFAULT_HEARTBEAT = 5.0  # seconds, if the session manager names none
SILENT_HEARTBEATS = 3  # after so many without a word the other side is gone


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
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._binding = Binding(assignment, hand, cell, self._speak, refused)
        self._outgoing = self._binding.outgoing
        self._endpoints = parse_endpoints(assignment.endpoint)
        self._connector = Connector(assignment, self._endpoints[0])
        self._last_received = 0.0
        self._framed: FramedCall | None = None  # the stream that there is, without gRPC
        self._awake = asyncio.Event()  # for the task that writes to one of gRPC's
        self._is_due = False

    # --- from any thread

    def wake(self) -> None:
        """There is something to send."""
        self._loop.call_soon_threadsafe(self._say)

    def entered(self, incarnation: int, code: int, message: str) -> None:
        """The binding succeeded (code 0) or failed."""
        self._binding.entered(incarnation, code, message)
        if not self._hand.tasks:
            self.wake()  # else it is told with the first results, or when a task turns out to be slow

    def left(self) -> None:
        """The session is left; its results may still be on their way."""
        self._loop.call_soon_threadsafe(self._binding.left)

    # --- streams

    async def run(self) -> None:
        """Keep a stream to the session manager, for as long as this process lives."""
        async with Managers(
            self._endpoints,
            ca_file=self._assignment.ca_file,
            max_input_bytes=self._assignment.max_output_bytes,
        ) as managers:
            backoff = Backoff(ceiling=CEILING_AMONG_SEVERAL) if managers.several else Backoff()
            while True:
                endpoint = managers.current
                call = await self._connector.connect(endpoint, managers.channels[endpoint])
                try:
                    conversation = self._converse(call, managers, backoff)
                    reason = await reason_of_end(conversation, managers, endpoint)
                except NotLetIn as refused:
                    self._refused(str(refused))
                    return
                finally:
                    call.cancel()
                await managers.reopen_unless_connected(endpoint)
                delay = backoff.next_delay() if managers.failed(endpoint) else 0.0
                log.info(
                    "disconnected endpoint=%s reason=%r retry_in=%.2f", endpoint, reason, delay
                )
                await asyncio.sleep(delay)

    async def finish(self, timeout: float) -> bool:
        """Wait until every result is stored, for so many seconds. Returns whether it is."""
        try:
            async with asyncio.timeout(timeout):
                while self._binding.owes_results:
                    self._binding.stored.clear()
                    self._say()
                    await self._binding.stored.wait()
        except TimeoutError:
            return False
        return True

    async def _converse(self, call: Call, managers: Managers, backoff: Backoff) -> str:
        """Use one stream until it ends; return why it did."""
        async with asyncio.timeout(HELLO_AMONG_SEVERAL if managers.several else HELLO_TIMEOUT):
            await call.write(self._binding.hello())
            first = await call.read()
        if first is grpc.aio.EOF:
            await raise_status(call)
            return "the session manager ended the stream before its welcome"
        if first.WhichOneof("frame") != "welcome":
            return self._unwelcome(first)
        backoff.reset()
        managers.found()
        self._connector.learn(managers.current, first.welcome.framed)
        self._outgoing.counts_windows = first.welcome.counts_windows
        heartbeat = first.welcome.heartbeat_seconds or DEFAULT_HEARTBEAT
        self._last_received = self._outgoing.last_sent = self._loop.time()

        def broken(error: BaseException) -> None:
            log.error("stream-failed", exc_info=error)
            call.cancel()

        async with Tasks("executor-channel", broken) as tasks:
            tasks.start(self._beat(call, heartbeat), "heartbeat")
            self._binding.watch_running()
            try:
                if isinstance(call, FramedCall):
                    self._framed, call.writable = call, self._say
                    self._say()
                else:
                    tasks.start(self._send(call), "send")
                await deliver(call, self._obey, self._obeyed)
            finally:
                self._framed = None
                self._hand.awake = True  # nobody to wake until there is a stream again
                self._hand.hand_over()
            await raise_status(call)
            return "the session manager ended the stream"

    def _unwelcome(self, order: frames.ExecutorOrder) -> str:
        if order.WhichOneof("frame") == "refusal":
            self._binding.on_refusal(order.refusal)
            return f"{order.refusal.code}: {order.refusal.message}"
        return f"the first frame is {order.WhichOneof('frame')!r}; a welcome is due"

    def _obey(self, order: frames.ExecutorOrder) -> None:
        self._hand.gathering = True
        self._last_received = self._loop.time()
        self._binding.obey(order)

    def _obeyed(self) -> None:
        """What arrived together has been obeyed. The answers first: then the interpreter is free."""
        if self._is_due:
            self._say()
        self._hand.hand_over()

    # --- sending

    def _speak(self) -> None:
        """There is something to send: with all that this turn of the loop makes of it."""
        if not self._is_due:
            self._is_due = True
            if not self._hand.gathering:
                self._loop.call_soon(self._say)

    def _say(self) -> None:
        """Send what there is: no task needs to wake up for it where the stream is framed."""
        self._is_due = False
        call = self._framed
        if call is None:
            self._awake.set()
            return
        try:
            while not call.is_full and (due := self._next_frames()):
                call.send(due)
                self._outgoing.last_sent = self._loop.time()
        except Exception:
            log.exception("stream-failed")
            call.cancel()

    def _next_frames(self) -> list[frames.ExecutorFrame]:
        """Return what is to be sent now; if that is nothing, a result wakes us from now on."""
        self._hand.awake = True
        due = self._binding.next_frames()
        if not due:
            # Say that we sleep, then look again: a result put down in between is seen by this look,
            # one put down later wakes us.
            self._hand.awake = False
            due = self._binding.next_frames()
            if due:
                self._hand.awake = True
        return due

    async def _send(self, call: Call) -> None:
        """Send on a stream of gRPC's, which is ready for the next frame when it says so."""
        try:
            while True:
                self._awake.clear()
                due = self._next_frames()
                for frame in due:
                    await call.write(frame)
                if due:
                    self._outgoing.last_sent = self._loop.time()
                else:
                    await self._awake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream ended; whoever reads from it says why

    async def _beat(self, call: Call, heartbeat: float) -> None:
        while True:
            await asyncio.sleep(heartbeat)
            now = self._loop.time()
            if now - self._last_received > heartbeat * SILENT_HEARTBEATS:
                log.warning("session-manager-silent seconds=%.1f", now - self._last_received)
                call.cancel()
                return
            if now - self._outgoing.last_sent >= heartbeat * 0.9:
                self._outgoing.tell(frames.ExecutorFrame(heartbeat=frames.Heartbeat()))
