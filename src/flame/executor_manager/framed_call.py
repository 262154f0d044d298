"""An executor's stream without gRPC, used like a gRPC call.

The frames are the same; each is sent behind its length on a plain TCP connection (with TLS where the
session manager has it). Between processes of one machine this saves most of a round trip.
"""

import asyncio
import socket
import ssl
from collections import deque

import grpc
import grpc.aio

from flame.runtime.framed import FramedProtocol
from flame.wire.channels import Endpoint
from flame.wire.frames import ExecutorFrame, ExecutorOrder

CONNECT_TIMEOUT = 3.0  # seconds; then gRPC's own port is used


class FramedCall:
    """One connection. Made by :meth:`open`."""

    def __init__(self, most_bytes: int) -> None:
        self._orders: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_over = False
        self.protocol = FramedProtocol(self._received, self._ended, self._writable, most_bytes)

    @classmethod
    async def open(
        cls, endpoint: Endpoint, port: int, ca_file: str | None, most_bytes: int
    ) -> "FramedCall":
        """Connect to ``port`` of the session manager's host.

        Raises:
            OSError: Nobody listens there, or not in time, or its certificate is not trusted.
        """
        tls = ssl.create_default_context(cafile=ca_file) if endpoint.tls else None
        call = cls(most_bytes)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().create_connection(
                lambda: call.protocol, endpoint.host, port, ssl=tls
            )
        return call

    @classmethod
    async def through(
        cls, connection: socket.socket, host: str, tls: bool, ca_file: str | None, most_bytes: int
    ) -> "FramedCall":
        """Use a connection that somebody else made to the framed port of ``host``.

        Raises:
            OSError: It is broken, or the certificate is not trusted.
        """
        context = ssl.create_default_context(cafile=ca_file) if tls else None
        call = cls(most_bytes)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().create_connection(
                lambda: call.protocol,
                sock=connection,
                ssl=context,
                server_hostname=host if tls else None,
            )
        return call

    async def write(self, frame: ExecutorFrame) -> None:
        """Send a frame; waits while the peer is slower than we are."""
        if self._is_over:
            raise asyncio.InvalidStateError
        self.protocol.send((frame.SerializeToString(),))
        if self.protocol.is_full:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def read(self) -> "ExecutorOrder | grpc.aio.EOF":  # type: ignore[valid-type]
        """Return the next order, or EOF."""
        while not self._orders:
            if self._is_over:
                return grpc.aio.EOF
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return ExecutorOrder.FromString(self._orders.popleft())

    def cancel(self) -> None:
        """End the connection."""
        self.protocol.abort("given up")

    async def code(self) -> grpc.StatusCode:
        """Return OK: a connection that ends says no more than that."""
        return grpc.StatusCode.OK

    def _received(self, message: bytes) -> None:
        self._orders.append(message)
        _wake(self._reader)

    def _ended(self, reason: str) -> None:
        self._is_over = True
        _wake(self._reader)
        _wake(self._writer)

    def _writable(self) -> None:
        _wake(self._writer)


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
