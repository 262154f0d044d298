"""A real gRPC server on loopback, with the real interceptor, before a fake session manager."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
import pytest

from flame.session_manager.backend import backend_handler
from flame.session_manager.frontend import Frontend
from flame.session_manager.listening import Listener
from flame.wire import frames, v1
from flame.wire.channels import bearer, open_channel
from tests.session_manager.fake_manager import FakeManager

TOKEN = "correct-horse"
Metadata = Sequence[tuple[str, str]]


class Client:
    """Calls rpcs by name, with the operator's token unless told otherwise."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def __call__(self, rpc: str, metadata: Metadata = (), /, **fields: Any) -> Any:
        return await self.start(rpc, metadata, **fields)

    def start(self, rpc: str, metadata: Metadata = (), /, **fields: Any) -> Any:
        method = v1.FRONTEND[rpc]
        message = method.request(**fields)
        return method.on(self.channel)(
            message,
            metadata=(*bearer(TOKEN), *metadata),
            timeout=30,
            wait_for_ready=True,  # a connection that a busy machine did not make is tried again
        )


def task_channel(channel: grpc.aio.Channel) -> Any:
    """The call that opens a client's task channel on that connection."""
    return channel.stream_stream(
        frames.TASK_CHANNEL,
        request_serializer=frames.ClientFrame.SerializeToString,
        response_deserializer=frames.ManagerFrame.FromString,
    )


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager()


@pytest.fixture
async def listener(manager: FakeManager) -> AsyncIterator[Listener]:
    found = Listener.open(
        "127.0.0.1", 0, token=TOKEN, anonymous=False, tls=None, max_input_bytes=16 * 1024 * 1024
    )
    found.serve([Frontend(manager, now=lambda: 100.0).handler(), backend_handler()])
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def client(listener: Listener) -> AsyncIterator[Client]:
    async with open_channel(listener.endpoint) as channel:
        yield Client(channel)


@pytest.fixture
async def released_client(listener: Listener) -> AsyncIterator[Client]:
    """gRPC's default limits, which released clients keep."""
    async with grpc.aio.insecure_channel(listener.endpoint.target) as channel:
        yield Client(channel)
