"""Executors' streams without gRPC: the same frames on a plain TCP connection.

gRPC costs each side about 0.1 ms a message; between our own processes that is most of a round trip.
Access is the same: a connection that does not begin with a hello whose credential is an executor's of
this cluster is ended, and where gRPC has TLS this has it too.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from flame.model.errors import FlameError, InvalidRequest
from flame.runtime.framed import FramedProtocol

log = logging.getLogger(__name__)

#: What a connection may send before it has shown a credential.
HELLO_BYTES = 64 * 1024
HELLO_TIMEOUT = 10.0  # seconds


class FramedStream:
    """The manager's side of one framed connection; the twin of :class:`.stream.Stream`.

    Args:
        receive: Called with each message's bytes.
        ended: Called once when the connection is over.
        build: Turns what piled up in the outbox into frames, in order.
        refusal: Makes the frame that tells the peer of an error before the stream ends.
    """

    def __init__(
        self,
        receive: Callable[[bytes], None],
        ended: Callable[[], None],
        build: Callable[[list[Any]], list[Any]],
        refusal: Callable[[FlameError], Any],
    ) -> None:
        self._receive = receive
        self._ended = ended
        self._build = build
        self._refusal = refusal
        self._outbox: list[Any] = []
        self._scheduled = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.last_heard = self._loop.time()
        self.last_sent = self.last_heard
        self.protocol = FramedProtocol(self._on_message, self._on_end, self._flush, HELLO_BYTES)
        self._hello_timer = self._loop.call_later(HELLO_TIMEOUT, self._no_hello)

    def greeted(self, most_bytes: int) -> None:
        """The peer has shown who it is: it may send whole frames."""
        self._hello_timer.cancel()
        self.protocol.most_bytes = most_bytes

    def put(self, item: Any) -> None:
        """Have an item sent, with whatever else is put before the loop turns."""
        self._outbox.append(item)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def put_later(self, item: Any, within: float) -> None:
        """Have an item sent along with the next one, or alone after ``within`` seconds."""
        self._outbox.append(item)
        if not self._scheduled and self._flush_timer is None:
            self._flush_timer = self._loop.call_later(within, self._flush)

    def close(self, error: FlameError) -> None:
        """Send what waits, then the error, then end the stream."""
        self._flush()
        self.protocol.send([self._refusal(error).SerializeToString()])
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
        items, self._outbox = self._outbox, []
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
        self._ended()
