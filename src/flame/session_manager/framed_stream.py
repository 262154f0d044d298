"""The manager's side of one framed stream: the twin of :class:`.stream.Stream`.

Until the port has admitted its peer it takes one small message; then it is some channel's.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from flame.model.errors import FlameError, InvalidRequest
from flame.runtime.framed import FramedProtocol
from flame.session_manager.stream import UNPAID_ITEMS

log = logging.getLogger(__name__)

#: What a connection may send before it has shown a credential.
HELLO_BYTES = 64 * 1024
HELLO_TIMEOUT = 10.0  # seconds


class FramedStream:
    """One connection.

    Args:
        begin: Called with the first message.
        gone: Called once when the connection is over.
    """

    def __init__(
        self,
        begin: "Callable[[FramedStream, bytes], None]",
        gone: "Callable[[FramedStream], None]",
    ) -> None:
        self._receive: Callable[[bytes], None] = lambda message: begin(self, message)
        self._gone = gone
        self._ended: Callable[[], None] | None = None
        self._build: Callable[[list[Any]], list[Any]] = list
        self._refusal: Callable[[FlameError], Any] | None = None
        self._outbox: list[Any] = []
        self._unpaid = 0
        self._scheduled = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.last_heard = self._loop.time()
        self.last_sent = self.last_heard
        self.protocol = FramedProtocol(self._on_message, self._on_end, self._flush, HELLO_BYTES)
        self._hello_timer = self._loop.call_later(HELLO_TIMEOUT, self._no_hello)

    def admitted(self, most_bytes: int) -> None:
        """The peer has shown who it is: it may send whole frames."""
        self._hello_timer.cancel()
        self.protocol.most_bytes = most_bytes

    def serve(
        self,
        receive: Callable[[bytes], None],
        ended: Callable[[], None],
        build: Callable[[list[Any]], list[Any]],
        refusal: Callable[[FlameError], Any],
    ) -> None:
        """Be a channel's from now on.

        Args:
            receive: Called with each message's bytes.
            ended: Called once when the connection is over.
            build: Turns what piled up in the outbox into frames, in order.
            refusal: Makes the frame that tells the peer of an error before the stream ends.
        """
        self._receive, self._ended = receive, ended
        self._build, self._refusal = build, refusal

    def put(self, item: Any) -> None:
        """Have an item sent, with whatever else is put before the loop turns."""
        self._unpaid += 1
        if self._unpaid > UNPAID_ITEMS:
            self._overflow()
            return
        self.put_paid(item)

    def put_paid(self, item: Any) -> None:
        """The same for what the peer has granted credit for, so that there is never much of it."""
        self._outbox.append(item)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def put_later(self, item: Any, within: float) -> None:
        """Have an item sent along with the next one, or alone after ``within`` seconds."""
        self._outbox.append(item)
        if not self._scheduled and self._flush_timer is None:
            self._flush_timer = self._loop.call_later(within, self._flush)

    def _overflow(self) -> None:
        if self._unpaid == UNPAID_ITEMS + 1:
            log.warning("peer-does-not-read items=%d", len(self._outbox))
            self._outbox.clear()
            self.cancel()

    def close(self, error: FlameError) -> None:
        """Send what waits, then the error, then end the stream."""
        self._flush()
        if self._refusal is not None:
            self.end(self._refusal(error))

    def end(self, last: Any) -> None:
        """Send one more frame, then end the stream."""
        self.protocol.send([last.SerializeToString()])
        self.protocol.close()

    def cancel(self) -> None:
        """End the stream now: its peer is gone."""
        self.protocol.abort("given up")

    def _flush(self) -> None:
        self._scheduled = False
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self.protocol.is_full or not self._outbox:
            return  # when the peer has caught up, we are called again
        items, self._outbox, self._unpaid = self._outbox, [], 0
        self.last_sent = self._loop.time()
        self.protocol.send([frame.SerializeToString() for frame in self._build(items)])

    def _on_message(self, message: bytes) -> None:
        self.last_heard = self._loop.time()
        try:
            self._receive(message)
        except InvalidRequest as error:
            self.close(error)
        except FlameError as error:
            log.info("framed-refused error=%s", error)
            self.close(error)

    def _no_hello(self) -> None:
        self.protocol.abort(f"no hello within {HELLO_TIMEOUT:g} s")

    def _on_end(self, reason: str) -> None:
        self._hello_timer.cancel()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        log.debug("framed-ended reason=%s", reason)
        self._gone(self)
        if self._ended is not None:
            self._ended()
