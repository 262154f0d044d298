import asyncio
import logging

import pytest

from flame.runtime.tasks import Tasks, is_cancelled


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("broken")


async def test_closing_ends_what_still_runs() -> None:
    async with Tasks("owner") as tasks:
        task = tasks.start(forever(), "wait")
        assert task.get_name() == "owner:wait"
        assert len(tasks) == 1
    assert task.cancelled()
    assert len(tasks) == 0


async def test_a_failure_reaches_the_owner_and_the_others_go_on() -> None:
    heard: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    async with Tasks("owner", heard.set_result) as tasks:
        other = tasks.start(forever(), "wait")
        tasks.start(fail(), "fail")
        assert str(await heard) == "broken"
        assert not other.done()


async def test_a_failure_that_nobody_wants_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Tasks("owner") as tasks:
        task = tasks.start(fail(), "fail")
        await asyncio.wait([task])
    assert ("task-failed task=owner:fail", logging.ERROR) in [
        (record.getMessage(), record.levelno) for record in caplog.records
    ]


async def test_a_task_may_close_its_own_group() -> None:
    tasks = Tasks("owner")
    await tasks.start(tasks.close(), "close")


async def test_a_task_knows_whether_it_was_asked_to_end() -> None:
    """A CancelledError may also come out of what it awaits, and be that one's own."""
    assert not is_cancelled()
    seen: list[bool] = []
    first = asyncio.Event()

    async def work() -> None:
        other = asyncio.get_running_loop().create_future()
        other.cancel()
        for awaited in (other, asyncio.Event().wait()):
            try:
                await awaited
            except asyncio.CancelledError:
                seen.append(is_cancelled())
                first.set()

    task = asyncio.create_task(work())
    await first.wait()
    task.cancel()
    await task
    assert seen == [False, True]
