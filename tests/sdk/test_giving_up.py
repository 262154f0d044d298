"""Ctrl-C and its like in a session's block: the session is closed, if anybody is there to close it."""

import asyncio
import threading
import time

import pytest

import flame
import flame.aio
from flame.model.errors import TaskCancelled
from flame.sdk import connection
from tests.sdk.fake_manager import TOKEN, FakeManager
from tests.waiting import wait_until

#: Seconds; the retry time, which a close may take otherwise, is 30.
SOON = 10.0


@pytest.mark.parametrize("ended", [KeyboardInterrupt, SystemExit])
def test_who_gives_up_in_an_outage_is_not_kept_and_told_that_the_session_stays_open(
    client: flame.Client,
    manager: FakeManager,
    caplog: pytest.LogCaptureFixture,
    ended: type[BaseException],
) -> None:
    session = client.create_session("app")
    manager.down()
    session.run(b"x")
    began = time.monotonic()
    with pytest.raises(ended), session:
        raise ended
    assert time.monotonic() - began < SOON
    assert not session.is_closed
    assert f"session {session.name!r} stays open and its tasks go on" in caplog.text


def test_a_cancelled_coroutine_is_not_kept_by_an_outage_either(
    manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with flame.aio.connect(manager.endpoint, token=TOKEN) as client:
            session = await client.create_session("app")
            await asyncio.to_thread(manager.down)
            async with asyncio.timeout(0.1), session:
                await session.run(b"x")

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(work())
    assert time.monotonic() - began < SOON
    assert "stays open" in caplog.text


def test_who_gives_up_while_the_block_waits_for_its_tasks_closes_the_session(
    client: flame.Client, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    manager.hold_outcomes = True
    session = client.create_session("app")
    monkeypatch.setattr(session, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), session:
        future = session.run(b"x")
    assert session.is_closed
    assert manager.sessions[session.name].closed
    with pytest.raises(TaskCancelled):
        future.result(10)


def test_who_gives_up_on_a_manager_that_takes_its_time_is_told_and_waits(
    client: flame.Client,
    manager: FakeManager,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connection, "GIVING_UP", 0.05)
    manager.hold_accepts = True
    session = client.create_session("app")
    session.run(b"x")

    def accept() -> None:
        wait_until(lambda: "is being closed" in caplog.text, "it is told")
        manager.hold_accepts = False
        manager.release()

    accepting = threading.Thread(target=accept)
    accepting.start()
    with pytest.raises(KeyboardInterrupt), session:
        raise KeyboardInterrupt
    accepting.join()
    assert session.is_closed
    assert caplog.text.count("is being closed") == 1


def test_who_gives_up_while_the_manager_starts_again_closes_the_session(
    client: flame.Client, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "GIVING_UP", 20.0)
    session = client.create_session("app")
    manager.down()
    again = threading.Timer(0.5, manager.up)
    again.start()
    with pytest.raises(KeyboardInterrupt), session:
        raise KeyboardInterrupt
    again.join()
    assert session.is_closed
    assert manager.sessions[session.name].closed
