"""A session manager's gRPC server: one port, one guard, health and reflection."""

import contextlib
import errno
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from flame.model.errors import InvalidConfiguration
from flame.session_manager.access import Access, check_listening
from flame.session_manager.grpc_server import GrpcServer
from flame.wire.channels import Endpoint, channel_options
from flame.wire.reflection import Health, add_reflection

#: Seconds for unary calls that are under way when the server stops. Streams never end by
#: themselves and are cut then; their clients come back.
STOP_GRACE = 0.5


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the server's certificate chain and private key, PEM."""

    cert_file: str
    key_file: str


class Listener:
    """The server and where it listens.

    ``open`` binds the port, so that a port in use is noticed before anything is started; calls are
    served from ``start`` on.

    Attributes:
        access: Who is let in; it has to be told where tokens are found.
    """

    def __init__(
        self,
        server: GrpcServer,
        access: Access,
        endpoint: Endpoint,
        tls: TlsFiles | None = None,
    ) -> None:
        self._server = server
        self.access = access
        self._tls = tls
        self.endpoint = endpoint
        self._health = Health(server)
        add_reflection(server)

    @classmethod
    def open(
        cls,
        host: str,
        port: int,
        *,
        token: str,
        anonymous: bool,
        tls: TlsFiles | None,
        max_input_bytes: int,
    ) -> "Listener":
        """Bind ``host:port``; port 0 picks a free one.

        Raises:
            InvalidConfiguration: The address may not or cannot be bound; the text says why.
        """
        check_listening(host, tls=tls is not None, anonymous=anonymous)
        address = Endpoint(host, port, tls is not None)
        _check_bindable(address)
        access = Access(token, anonymous=anonymous)
        server = GrpcServer(
            access.admit,
            # Two session managers on one port would share its connections in silence.
            [*channel_options(max_input_bytes), ("grpc.so_reuseport", 0)],
        )
        try:
            if tls is None:
                bound = server.add_insecure_port(address.target)
            else:
                bound = server.add_secure_port(address.target, _credentials(tls))
        except RuntimeError as error:  # taken since we looked
            raise InvalidConfiguration(f"cannot listen on {address.target}: {error}") from error
        return cls(server, access, Endpoint(host, bound, address.tls), tls)

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what a plain stream beside the server needs for the same TLS; None without."""
        if self._tls is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
        return context

    def serve(self, handlers: Sequence[Any]) -> None:
        """Add services; before ``start``."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    async def start(self, *, standby: bool = False) -> None:
        """Take calls; as a standby it says that none is served."""
        if standby:
            await self._health.standing_by()
        await self._server.start()
        if not standby:
            await self._health.serving()

    async def leads(self) -> None:
        """Say from now on that calls are served."""
        await self._health.serving()

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Refuse new calls, give those under way a moment, then cut them."""
        await self._health.leaving()
        await self._server.stop(grace)


def _check_bindable(address: Endpoint) -> None:
    """Try the address with a socket of our own: gRPC would not tell the reason."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
        with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Binding alone succeeds beside a listener that allows address reuse.
            probe.listen(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno == errno.EADDRINUSE:
            reason += " (a session manager takes the port after its own as well)"
        raise InvalidConfiguration(
            f"cannot listen on {address.target}: {reason}; "
            "choose another address with --listen HOST:PORT (port 0 picks a free one)"
        ) from error


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    parts = []
    for option, path in (("--tls-key", tls.key_file), ("--tls-cert", tls.cert_file)):
        try:
            parts.append(Path(path).read_bytes())
        except OSError as error:
            raise InvalidConfiguration(f"{option} {path}: {error.strerror}") from error
    try:  # gRPC would say no more than that it could not bind
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            tls.cert_file, tls.key_file
        )
    except (ssl.SSLError, OSError) as error:
        raise InvalidConfiguration(
            f"--tls-cert {tls.cert_file} and --tls-key {tls.key_file} cannot be used: {error}; "
            "they must be PEM, and the key must be the certificate's"
        ) from error
    return grpc.ssl_server_credentials([(parts[0], parts[1])])
