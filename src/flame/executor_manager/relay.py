"""Connections for an executor that has no network: its manager makes them and passes them in.

    executor ──one byte──▶ manager       connect me
             ◀──"ok HOST" + the socket, or why not──

The other end is always the session manager: what runs in the sandbox cannot choose.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Executors in a sandbox without network find their end here.
RELAY_FD = 4
CONNECT_TIMEOUT = 3.0  # seconds
_OK = b"ok "
_MOST_BYTES = 512


class Relay:
    """The manager's side, for one executor.

    Args:
        address: Returns the host and port to connect to; the port is 0 while there is none.
    """

    def __init__(self, requests: socket.socket, address: Callable[[], tuple[str, int]]) -> None:
        self._requests = requests
        self._address = address

    async def run(self) -> None:
        """Answer requests until the executor is gone."""
        loop = asyncio.get_running_loop()
        with self._requests:
            self._requests.setblocking(False)
            await self._answer(loop)

    async def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        while await loop.sock_recv(self._requests, _MOST_BYTES):
            host, port = self._address()
            try:
                if not port:
                    raise OSError("the session manager offers no port for streams without gRPC")
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    with await _connect(host, port) as connection:
                        socket.send_fds(
                            self._requests, [_OK + host.encode()], [connection.fileno()]
                        )
            except (OSError, TimeoutError) as error:
                reason = str(error) or f"no connection within {CONNECT_TIMEOUT:g} s"
                log.warning("relay-failed host=%s port=%s reason=%r", host, port, reason)
                await loop.sock_sendall(self._requests, reason.encode()[:_MOST_BYTES])


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except OSError as failed:
            connection.close()
            error = failed
        else:
            return connection
    raise error or OSError(f"{host} has no address")


def relayed_connection() -> tuple[socket.socket, str]:
    """Ask for a connection, in the executor, and wait for it; with the host that it leads to.

    Raises:
        OSError: There is none; with the manager's reason.
    """
    with socket.socket(fileno=os.dup(RELAY_FD)) as requests:
        requests.settimeout(CONNECT_TIMEOUT * 2)
        requests.send(b"?")
        said, fds, _, _ = socket.recv_fds(requests, _MOST_BYTES, 1)
    if not said.startswith(_OK) or not fds:
        raise OSError(said.decode("utf-8", "replace") or "the executor manager is gone")
    connection = socket.socket(fileno=fds[0])
    connection.setblocking(False)
    return connection, said.removeprefix(_OK).decode()
