"""Peers that do not read, or ask for too much, cost a bounded amount of memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from flame.core import events
from flame.core.effects import TaskView
from flame.core.state import Limits
from flame.model.ids import Tenant
from flame.model.specs import ApplicationSpec, EventCode, SessionSpec, TaskState
from flame.session_manager import framed_stream, stream, views
from flame.session_manager.call import Call
from flame.session_manager.framed_stream import FramedStream
from flame.session_manager.frontend import Frontend, v1_code_of
from flame.session_manager.frontend_v0 import FrontendV0
from flame.session_manager.listening import Listener
from flame.session_manager.replies import Watches
from flame.session_manager.shell import Shell
from flame.session_manager.stream import Stream
from flame.session_manager.task_calls import Dialect, Watch
from flame.storage.memory import MemoryStore
from flame.wire import frames, v0, v1
from flame.wire.channels import bearer, open_channel
from flame.wire.frames import ClientFrame
from tests.session_manager.conftest import task_channel
from tests.session_manager.fake_manager import a_task

TOKEN = "correct-horse"
TENANT = Tenant("acme")


class StuckCall:
    """A call whose client sends and never reads."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()

    async def read(self) -> Any:
        await asyncio.Event().wait()

    async def write(self, _message: Any) -> None:
        self.writing.set()
        await asyncio.Event().wait()


async def test_a_stream_whose_peer_does_not_read_is_ended_and_its_outbox_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "UNPAID_ITEMS", 1000)
    call = StuckCall()
    served = Stream(call, lambda _frame: None, list, lambda error: error)
    running = asyncio.create_task(served.run())
    served.put("first")
    await asyncio.wait_for(call.writing.wait(), 10.0)
    for _ in range(1000):
        served.put("more")
    await asyncio.sleep(0)
    assert not running.done()
    for _ in range(5000):
        served.put("too much")
    await asyncio.wait_for(running, 10.0)
    assert len(served._outbox) == 0


async def test_what_credit_pays_for_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes are bounded by the credit that the client granted, whatever their number."""
    monkeypatch.setattr(stream, "UNPAID_ITEMS", 10)
    call = StuckCall()
    served = Stream(call, lambda _frame: None, list, lambda error: error)
    running = asyncio.create_task(served.run())
    for _ in range(100):
        served.put_paid("an outcome")
    await asyncio.wait_for(call.writing.wait(), 10.0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_framed_stream_whose_peer_does_not_read_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framed_stream, "UNPAID_ITEMS", 1000)
    ended = asyncio.Event()
    made: list[FramedStream] = []
    accepted = asyncio.Event()

    def accept() -> asyncio.Protocol:
        served = FramedStream(lambda _stream, _message: None, lambda _stream: ended.set())
        made.append(served)
        accepted.set()
        return served.protocol

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    await asyncio.wait_for(accepted.wait(), 10.0)
    large = frames.ExecutorOrder(refusal=frames.Refusal(message="x" * 100_000))
    while not made[0].protocol.is_full:
        made[0].put(large)
        await asyncio.sleep(0)
    for _ in range(2000):
        made[0].put(large)
    await asyncio.wait_for(ended.wait(), 10.0)
    assert len(made[0]._outbox) <= 1
    writer.close()
    server.close()
    assert reader is not None


# --- slow watchers -------------------------------------------------------------------------------


class SlowCall(Call):
    """Takes one message at a time, and the next when the test says so."""

    def __init__(self) -> None:
        super().__init__(None, None, (), asyncio.get_running_loop())
        self.told: list[v1.Task] = []
        self.go_on: Any = None

    def send(self, message: bytes, sent: Any) -> None:
        self.told.append(v1.Task.FromString(message))
        self.go_on = sent

    def finish(self, message: bytes | None = None) -> None:
        self.told.append(v1.Task.FromString(message or b""))


async def test_a_slow_watcher_gets_the_newest_state_and_is_told_how_many_it_missed() -> None:
    call = SlowCall()
    ended: list[bool] = []
    dialect = Dialect(
        lambda view, _, skipped: views.encode_task(view, lambda: 1 << 20, skipped=skipped),
        v1_code_of,
    )
    watch = Watch(call, dialect, lambda: ended.append(True))

    def view(state: TaskState, attempt: int) -> TaskView:
        return a_task(state=state, attempt=attempt)

    watch.notify(view(TaskState.PENDING, 1))
    for attempt in range(1, 500):
        watch.notify(view(TaskState.RUNNING, attempt))
        watch.notify(view(TaskState.PENDING, attempt + 1))
    assert len(call.told) == 1
    call.go_on()
    assert len(call.told) == 2
    snapshot = call.told[1].status
    assert (snapshot.state, snapshot.attempt) == (v1.TaskState.Pending, 500)
    (marker,) = [e for e in snapshot.events if e.code == EventCode.CHANGES_SKIPPED]
    assert marker.message == "997 changes before this one were not told: the watcher was slow"
    watch.notify(view(TaskState.SUCCEEDED, 500))
    call.go_on()
    assert call.told[2].status.state == v1.TaskState.Succeed
    assert not call.told[2].status.events
    assert ended == [True]


# --- too many ------------------------------------------------------------------------------------


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    """A session manager that lets two clients in."""
    made = Shell(store=MemoryStore(), token=TOKEN, limits=Limits(max_connections=2))
    await made.start()
    spec = ApplicationSpec()
    await made.calls.call(lambda r: events.RegisterApplication(TENANT, "a", spec, r))
    await made.calls.call(lambda r: events.CreateSession(TENANT, "s", SessionSpec("a"), r))
    for _ in range(3):
        await made.calls.call(lambda r: events.CreateTask(TENANT, "s", b"", r))
    yield made
    await made.stop()


@pytest.fixture
def watches() -> Watches:
    """Two tasks may be watched."""
    return Watches(2)


@pytest.fixture
async def channel(shell: Shell, watches: Watches) -> AsyncIterator[grpc.aio.Channel]:
    listener = Listener.open(
        "127.0.0.1", 0, token=TOKEN, anonymous=False, tls=None, max_input_bytes=1024
    )
    frontends = (
        Frontend(shell.calls, watches=watches, now=shell.clock),
        FrontendV0(shell.calls, watches=watches),
    )
    listener.serve([*(f.handler() for f in frontends), *shell.channel_handlers()])
    await listener.start()
    async with open_channel(listener.endpoint) as opened:
        yield opened
    await listener.stop()


METADATA = (*bearer(TOKEN), (v1.TENANT_KEY, "acme"))


async def refusal(reading: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(reading, 10.0)
    return caught.value.code(), caught.value.details() or ""


async def test_one_client_too_many_is_told_so_and_let_in_when_another_has_gone(
    channel: grpc.aio.Channel,
) -> None:
    connect = task_channel(channel)

    async def hello() -> Any:
        call: Any = connect(metadata=METADATA)
        await call.write(ClientFrame(hello=frames.ClientHello()))
        return call

    first, second = await hello(), await hello()
    for call in (first, second):
        assert (await call.read()).WhichOneof("frame") == "hello"
    third = await hello()
    code, told = await refusal(third.read())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 clients are connected, as many as may be (max_connections)" in told
    first.cancel()
    for _ in range(1000):
        try:
            again = await hello()
            assert (await again.read()).WhichOneof("frame") == "hello"
            break
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.01)
    else:
        raise AssertionError("the place was never given back")
    second.cancel()
    again.cancel()


@pytest.mark.parametrize("version", ["0.2.0", "v1"])
async def test_one_watch_too_many_is_refused_until_another_has_ended(
    channel: grpc.aio.Channel, shell: Shell, watches: Watches, version: str
) -> None:
    number = shell.calls.session(TENANT, "s").number

    def watch(task: int) -> Any:
        if version == "0.2.0":
            old = v0.WatchTaskRequest(task_id=str(task), session_id=str(number))
            return v0.FRONTEND["WatchTask"].on(channel)(old, metadata=METADATA)
        request = v1.WatchTaskRequest(task_id=str(task), session_id="s")
        return v1.FRONTEND["WatchTask"].on(channel)(request, metadata=METADATA)

    async def until(count: int) -> None:
        for _ in range(1000):
            if watches.count == count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"there are {watches.count} watches, not {count}")

    first, second = watch(1), watch(2)
    await until(2)
    code, told = await refusal(watch(3).read())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 tasks are watched, as many as may be (max_watches)" in told
    first.cancel()
    await until(1)
    again = watch(3)
    await until(2)
    for each in (second, again):
        each.cancel()
    await until(0)
