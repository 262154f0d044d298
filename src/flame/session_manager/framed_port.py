"""The port for channels without gRPC.

    connection ─▶ FramedHello ─▶ admitted? ─▶ the channel it names takes the stream
                                    └─▶ a refusal, and the end

gRPC costs each side about 0.1 ms a message; for quick calls that is most of a round trip. Who may open
which channel is decided where it is for gRPC, and where gRPC has TLS this has it too.
"""

import asyncio
import logging
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from flame.model.errors import FlameError, InvalidRequest
from flame.session_manager.access import Caller
from flame.session_manager.framed_stream import FramedStream
from flame.wire.framed import metadata_of
from flame.wire.frames import FramedAddress, FramedHello

log = logging.getLogger(__name__)


class FramedChannel(Protocol):
    """A channel whose streams may be framed."""

    def refusal(self, error: FlameError) -> Any:
        """Return the frame that tells a peer of an error."""

    def accept(self, caller: Caller, stream: FramedStream) -> None:
        """Take a stream over; its peer has been admitted. May refuse it by raising a FlameError."""


class FramedPort:
    """Listens, and hands each connection to its channel.

    Args:
        admit: Returns the caller of a method with this metadata, or raises.
        channels: By the full name of the rpc that they stand for.
        most_bytes: The largest message.
    """

    def __init__(
        self,
        admit: Callable[[str, Any], Caller],
        channels: Mapping[str, FramedChannel],
        most_bytes: int,
    ) -> None:
        self._admit = admit
        self._channels = channels
        self._most_bytes = most_bytes
        self._servers: list[asyncio.AbstractServer] = []
        self._streams: set[FramedStream] = set()

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> FramedAddress:
        """Listen on ``port``, or on any free one if that is taken, and on a local socket."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(self._connected, host, port, ssl=tls)
        except OSError:
            server = await loop.create_server(self._connected, host, 0, ssl=tls)
        self._servers.append(server)
        address = FramedAddress(port=server.sockets[0].getsockname()[1])
        if sys.platform == "linux":
            # Abstract: it ends with the process, whatever ends that. Its name cannot be guessed, so
            # whoever was told it by the manager reaches the manager, or nobody.
            address.local = f"flame-{secrets.token_hex(16)}"
            near = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            near.bind(f"\0{address.local}")
            self._servers.append(await loop.create_unix_server(self._connected, sock=near))
        return address

    async def close(self) -> None:
        """Listen no more, and end every stream."""
        for server in self._servers:
            server.close()
        for stream in list(self._streams):
            stream.cancel()
        for server in self._servers:
            await server.wait_closed()

    def _connected(self) -> asyncio.Protocol:
        stream = FramedStream(self._begin, self._streams.discard)
        self._streams.add(stream)
        return stream.protocol

    def _begin(self, stream: FramedStream, message: bytes) -> None:
        try:
            hello = FramedHello.FromString(message)
        except DecodeError:
            hello = FramedHello()
        channel = self._channels.get(hello.channel)
        if channel is None:
            log.info("framed-stranger channel=%.100r", hello.channel)
            stream.cancel()
            return
        try:
            caller = self._admit(hello.channel, metadata_of(hello))
            channel.accept(caller, stream)
        except FlameError as error:
            log.info("framed-refused channel=%s error=%s", hello.channel, error)
            stream.end(channel.refusal(error))
            return
        stream.admitted(self._most_bytes)


def decoder(frame: Any, receive: Callable[[Any], None]) -> Callable[[bytes], None]:
    """Return a function that takes messages' bytes for ``receive``, which takes frames."""
    decode = frame.FromString

    def take(message: bytes) -> None:
        try:
            decoded = decode(message)
        except DecodeError as error:
            raise InvalidRequest(f"a frame that cannot be read: {error}") from error
        receive(decoded)

    return take
