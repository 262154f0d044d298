"""What a client sees of a store that cannot be read for a moment."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from flame.core import events
from flame.core.records import OutcomesRecorded
from flame.model.ids import SessionNumber, Tenant
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.session_manager.listening import Listener
from flame.session_manager.shell import Shell
from flame.storage.memory import MemoryStore
from flame.wire import frames, v1
from flame.wire.channels import bearer, open_channel
from flame.wire.frames import ClientFrame, ManagerFrame
from tests.session_manager.conftest import task_channel

TOKEN = "correct-horse"
TENANT = Tenant("acme")
METADATA = (*bearer(TOKEN), (v1.TENANT_KEY, TENANT))


class UnreadableStore(MemoryStore):
    """A store whose outcomes cannot be read the first time."""

    failures = 1

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk made a noise")
        return super().outcomes(session, position, max_bytes)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """To a session manager that has restarted, so that old outcomes are in its store only."""
    store = UnreadableStore()
    before = Shell(store=store, token=TOKEN)
    await before.start()
    spec = ApplicationSpec()
    await before.calls.call(lambda r: events.RegisterApplication(TENANT, "a", spec, r))
    await before.calls.call(lambda r: events.CreateSession(TENANT, "s", SessionSpec("a"), r))
    for _ in range(3):
        await before.calls.call(lambda r: events.CreateTask(TENANT, "s", b"", r))
    await before.calls.call(lambda r: events.CloseSession(TENANT, "s", False, r))
    await before.stop()
    after = Shell(store=store, token=TOKEN)
    await after.start()
    listener = Listener.open(
        "127.0.0.1", 0, token=TOKEN, anonymous=False, tls=None, max_input_bytes=1024
    )
    listener.serve(after.channel_handlers())
    await listener.start()
    async with open_channel(listener.endpoint) as opened:
        yield opened
    await listener.stop()
    await after.stop()


async def read_until(call: Any, *kinds: str) -> ManagerFrame:
    async with asyncio.timeout(30.0):
        while True:
            frame = await call.read()
            assert frame is not grpc.aio.EOF
            if frame.WhichOneof("frame") in kinds:
                assert isinstance(frame, ManagerFrame)
                return frame


async def test_a_subscriber_whose_outcomes_cannot_be_read_is_cut_off_and_may_come_back(
    channel: grpc.aio.Channel,
) -> None:
    connect = task_channel(channel)
    attach = frames.Attach(
        alias=1, session="s", submitter=bytes(16), subscribe=True, outcome_credit=1 << 20
    )

    async def subscribe() -> Any:
        call: Any = connect(metadata=METADATA)
        await call.write(ClientFrame(hello=frames.ClientHello()))
        await call.write(ClientFrame(attach=attach))
        return call

    first = await subscribe()
    refusal = (await read_until(first, "refusal", "outcomes")).refusal
    assert refusal.code == "Unavailable"
    assert "the disk made a noise" in refusal.message
    assert not refusal.closing  # it may come back
    second = await subscribe()
    outcomes = (await read_until(second, "refusal", "outcomes")).outcomes
    assert list(outcomes.task_ids) == [1, 2, 3]
    second.cancel()
