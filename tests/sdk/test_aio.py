"""The asyncio face, against the fake manager."""

import asyncio
import importlib
from collections.abc import AsyncIterator

import pytest

import flame
from flame import aio
from flame.model.errors import TaskFailed, WrongState
from flame.model.specs import EventCode
from flame.sdk.async_future import Delivery
from flame.wire import frames, v1
from tests.sdk.fake_manager import TOKEN, FakeManager
from tests.waiting import wait_until


@pytest.fixture
async def client(manager: FakeManager) -> AsyncIterator[aio.AsyncClient]:
    async with await aio.connect(manager.endpoint, token=TOKEN, timeout=10) as connected:
        yield connected


def test_the_face_can_be_imported_in_any_way() -> None:
    assert importlib.import_module("flame.aio").connect is aio.connect is flame.aio.connect


async def test_what_is_opened_can_be_entered_without_awaiting_it(manager: FakeManager) -> None:
    opened = aio.connect(manager.endpoint, token=TOKEN, timeout=10)
    async with opened as client, client.create_session("app") as session:
        assert await session.run(b"ab") == b"ba"
        name = session.name
    with pytest.raises(WrongState):
        await client.list_sessions()
    again = await asyncio.create_task(aio.connect(manager.endpoint, token=TOKEN, timeout=10))
    async with again:
        assert (await (await again.get_session(name)).info()).name == name


async def test_futures_can_be_awaited_and_gathered(client: aio.AsyncClient) -> None:
    session = await client.create_session("app")
    assert await session.run(b"ab") == b"ba"
    inputs = [str(index).encode() for index in range(5000)]
    outputs = await asyncio.gather(*[session.run(data) for data in inputs])
    assert outputs == [data[::-1] for data in inputs]


async def test_the_loop_is_woken_once_for_a_batch(
    client: aio.AsyncClient, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await client.create_session("app")
    manager.hold_outcomes = True
    futures = [session.run(b"x") for _ in range(2000)]
    await session.flush()
    wakes = 0
    deliver = Delivery._deliver

    def counted(self: Delivery) -> None:
        nonlocal wakes
        wakes += 1
        deliver(self)

    monkeypatch.setattr(Delivery, "_deliver", counted)
    manager.hold_outcomes = False
    manager.release()
    await asyncio.gather(*futures)
    assert 1 <= wakes <= 2


async def test_a_failed_task_raises_where_it_is_awaited(
    client: aio.AsyncClient, manager: FakeManager
) -> None:
    failure = frames.Failure(state=v1.TaskState.Failed, code=EventCode.FAILED, message="boom")
    manager.work = lambda _: failure
    session = await client.create_session("app")
    with pytest.raises(TaskFailed, match="boom"):
        await session.run(b"x")


async def test_cancelling_a_future_cancels_its_task(
    client: aio.AsyncClient, manager: FakeManager
) -> None:
    session = await client.create_session("app")
    manager.hold_outcomes = True
    future = session.run(b"x")
    await session.flush()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.01)
    assert future.cancelled()
    await asyncio.to_thread(wait_until, lambda: manager.cancelled == [1], "the cancel arrived")
    manager.hold_outcomes = False
    manager.release()
    assert await session.run(b"ab") == b"ba"


async def test_map_and_as_completed_work_as_asyncio_does(client: aio.AsyncClient) -> None:
    session = await client.create_session("app")
    inputs = [str(index).encode() for index in range(3000)]
    assert [output async for output in session.map(inputs)] == [data[::-1] for data in inputs]
    found = {await future for future in asyncio.as_completed([session.run(b"ab")] * 1)}
    assert found == {b"ba"}


async def test_submit_waits_for_room_without_blocking_the_loop(
    client: aio.AsyncClient, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flame.sdk.pile.MAX_TASKS", 10)
    manager.submit_credit = 65
    manager.hold_accepts = True
    session = await client.create_session("app")
    futures = []

    async def submit() -> None:
        for _ in range(100):
            futures.append(await session.submit(b"x"))  # noqa: PERF401

    task = asyncio.create_task(submit())
    await asyncio.to_thread(wait_until, lambda: len(session._pile) >= 10, "the pile is full")
    assert not task.done()
    manager.hold_accepts = False
    await asyncio.to_thread(manager.release)
    await task
    assert await asyncio.gather(*futures) == [b"x"] * 100


async def test_a_session_as_context_manager_is_closed_at_the_end(
    client: aio.AsyncClient, manager: FakeManager
) -> None:
    async with await client.create_session("app") as session:
        future = session.run(b"ab")
    assert await future == b"ba"
    assert manager.sessions[session.name].closed
    with pytest.raises(WrongState):
        session.run(b"x")


async def test_a_lost_stream_does_not_show(client: aio.AsyncClient, manager: FakeManager) -> None:
    session = await client.create_session("app")
    manager.hold_outcomes = True
    futures = [session.run(str(index).encode()) for index in range(100)]
    await session.flush()
    manager.hold_outcomes = False
    await asyncio.to_thread(manager.drop_streams)
    outputs = await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert outputs == [str(index).encode()[::-1] for index in range(100)]


def test_both_faces_can_be_used_in_one_process(manager: FakeManager) -> None:
    async def invoke() -> bytes | None:
        async with await aio.connect(manager.endpoint, token=TOKEN) as client:
            session = await client.create_session("app")
            return await session.invoke(b"ab")

    with flame.connect(manager.endpoint, token=TOKEN) as client:
        session = client.create_session("app")
        assert asyncio.run(invoke()) == session.invoke(b"ab", timeout=10) == b"ba"
