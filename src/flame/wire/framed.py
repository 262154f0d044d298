"""How a framed stream begins: its first message stands for a gRPC call's method and metadata."""

import ssl
from collections.abc import Iterable

from flame.wire.channels import AUTHORIZATION, Endpoint
from flame.wire.pb.channel.common_pb2 import FramedHello
from flame.wire.v1 import TENANT_KEY

_BEARER = "Bearer "


def framed_hello(channel: str, metadata: Iterable[tuple[str, str]]) -> FramedHello:
    """Return the message that opens ``channel`` (an rpc's full name) with a call's metadata."""
    given = dict(metadata)
    return FramedHello(
        channel=channel,
        credential=given.get(AUTHORIZATION, "").removeprefix(_BEARER),
        tenant=given.get(TENANT_KEY, ""),
    )


def metadata_of(hello: FramedHello) -> list[tuple[str, str]]:
    """Return the metadata that a gRPC call would have come with."""
    metadata = []
    if hello.credential:
        metadata.append((AUTHORIZATION, _BEARER + hello.credential))
    if hello.tenant:
        metadata.append((TENANT_KEY, hello.tenant))
    return metadata


def client_tls(endpoint: Endpoint, ca_file: str | None) -> ssl.SSLContext | None:
    """Return what checks the session manager's certificate as gRPC does; None without TLS.

    Raises:
        OSError: ``ca_file`` cannot be read.
    """
    return ssl.create_default_context(cafile=ca_file) if endpoint.tls else None
