"""How both sides set up gRPC: addresses, message sizes, credentials.

A channel's maximum message is the input limit plus 1 MiB, so that a payload at the limit fits in a
frame. Transport keep-alive is left alone: channels carry their own heartbeats, as a
stopped peer keeps its connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc
import grpc.aio

from flame.model.errors import InvalidConfiguration
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES

AUTHORIZATION = "authorization"
#: What a message may be larger than the largest payload.
FRAME_OVERHEAD = 1024 * 1024

Options = Sequence[tuple[str, int | str]]


def channel_options(max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES) -> Options:
    """Return the gRPC options of clients and servers alike."""
    limit = max_input_bytes + FRAME_OVERHEAD
    return (
        ("grpc.max_send_message_length", limit),
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Which is how long one try to connect may take: as long as TLS over a slow line does, or a turn
        # among a thousand who come back at once.
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 2000),
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a session manager listens: ``http://host:port``, or ``https://`` with TLS."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read an address; the scheme may be left out.

        Raises:
            InvalidConfiguration: It has another scheme, or no port from 0 to 65535.
        """
        parts = urlsplit(text if "://" in text else f"http://{text}")
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            raise InvalidConfiguration(
                f"endpoint {text!r} is not an address like http://127.0.0.1:8080 or https://host:8080"
            )
        return cls(parts.hostname, port, parts.scheme == "https")

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.target}"


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the call metadata that carries a token; nothing without one."""
    return ((AUTHORIZATION, f"Bearer {token}"),) if token else ()


def open_channel(
    endpoint: Endpoint,
    *,
    ca_file: str | None = None,
    max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES,
) -> grpc.aio.Channel:
    """Open an asyncio channel on the running loop; it connects when first used.

    Raises:
        InvalidConfiguration: ``ca_file`` cannot be read.
    """
    options = channel_options(max_input_bytes)
    if not endpoint.tls:
        return grpc.aio.insecure_channel(endpoint.target, options=options)
    authority = None
    if ca_file is not None:
        try:
            with open(ca_file, "rb") as file:
                authority = file.read()
        except OSError as error:
            raise InvalidConfiguration(f"ca_file {ca_file}: {error.strerror}") from error
    return grpc.aio.secure_channel(
        endpoint.target, grpc.ssl_channel_credentials(authority), options=options
    )
