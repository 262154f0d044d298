"""One end of a channel's stream: an outbox that is emptied in batches, and a watch on silence.

What is put while the previous frame is being sent goes out together in the next frames: no timer, no
delay when idle, large frames under load.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from flame.model.errors import FlameError, InvalidRequest

log = logging.getLogger(__name__)

#: Items in an outbox that no credit pays for (answers, orders, heartbeats). A peer that lets more pile
#: up does not read: its stream is ended, and when it is back it is told how things are then.
UNPAID_ITEMS = 100_000

#: Seconds between heartbeats unless a stand-by has to be found sooner, and of silence after which a
#: peer is gone.
HEARTBEAT = 5.0
SILENCE = 15.0


def channel_handler(path: str, connect: Any, frame: Any, order: Any) -> Any:
    """Return the generic rpc handler of a channel: one rpc, streaming both ways.

    Args:
        path: The rpc's full name.
        connect: Serves one call.
        frame: The class of messages that arrive.
        order: The class of messages that are sent.
    """
    _, service, method = path.split("/")
    return grpc.method_handlers_generic_handler(
        service,
        {
            method: grpc.stream_stream_rpc_method_handler(
                connect,
                request_deserializer=frame.FromString,
                response_serializer=order.SerializeToString,
            )
        },
    )


class Stream:
    """The manager's side of one bidirectional stream.

    Args:
        context: gRPC's handle of the call.
        receive: Called with each frame that arrives, in order.
        build: Turns what piled up in the outbox into frames, in order.
        refusal: Makes the frame that tells the peer of an error before the stream ends.
    """

    def __init__(
        self,
        context: Any,
        receive: Callable[[Any], None],
        build: Callable[[list[Any]], list[Any]],
        refusal: Callable[[FlameError], Any],
    ) -> None:
        self._context = context
        self._receive = receive
        self._build = build
        self._refusal = refusal
        self._outbox: list[Any] = []
        self._unpaid = 0
        self._wake: asyncio.Future[None] | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._closing: FlameError | None = None
        self._reader: asyncio.Task[None] | None = None
        self.last_heard = self._loop.time()
        self.last_sent = self.last_heard

    def put(self, item: Any) -> None:
        """Have an item sent behind what is waiting."""
        self._unpaid += 1
        if self._unpaid > UNPAID_ITEMS:
            self._overflow()
            return
        self.put_paid(item)

    def put_paid(self, item: Any) -> None:
        """The same for what the peer has granted credit for, so that there is never much of it."""
        self._outbox.append(item)
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    def put_later(self, item: Any, within: float) -> None:
        """Have an item sent along with the next one, or alone after ``within`` seconds.

        For acknowledgements that nobody waits for: a message of its own costs each side as much as
        a message full of tasks.
        """
        self._outbox.append(item)
        if self._flush is None and self._wake is not None:
            self._flush = self._loop.call_later(within, self._flush_now)

    def _overflow(self) -> None:
        if self._unpaid == UNPAID_ITEMS + 1:
            log.warning("peer-does-not-read items=%d", len(self._outbox))
            self._outbox.clear()
            self.cancel()

    def _flush_now(self) -> None:
        self._flush = None
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    def close(self, error: FlameError) -> None:
        """Send what waits, then the error, then end the stream."""
        if self._closing is None:
            self._closing = error
            wake = self._wake
            if wake is not None and not wake.done():
                wake.set_result(None)

    def cancel(self) -> None:
        """End the stream now: its peer is gone."""
        if self._reader is not None:
            self._reader.cancel()

    async def run(self) -> None:
        """Serve until the peer ends the stream, it breaks, or it is closed."""
        self._reader = asyncio.create_task(self._read(), name="stream:read")
        writer = asyncio.create_task(self._write(), name="stream:write")
        try:
            await asyncio.wait((self._reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._flush is not None:
                self._flush.cancel()
            for task in (self._reader, writer):
                task.cancel()
            results = await asyncio.gather(self._reader, writer, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, grpc.aio.AioRpcError):
                log.debug("stream-ended reason=%r", result)

    async def _read(self) -> None:
        context, receive, loop = self._context, self._receive, self._loop
        while True:
            frame = await context.read()
            if frame is grpc.aio.EOF:
                return
            self.last_heard = loop.time()
            try:
                receive(frame)
            except InvalidRequest as error:
                self.close(error)
                await asyncio.Event().wait()  # the writer ends the stream

    async def _write(self) -> None:
        context, loop = self._context, self._loop
        while True:
            if not self._outbox:
                if self._closing is not None:
                    await context.write(self._refusal(self._closing))
                    return
                self._wake = loop.create_future()
                await self._wake
                self._wake = None
                if self._flush is not None:
                    self._flush.cancel()
                    self._flush = None
                continue
            items, self._outbox, self._unpaid = self._outbox, [], 0
            for frame in self._build(items):
                self.last_sent = loop.time()
                await context.write(frame)
