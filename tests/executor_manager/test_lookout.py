"""What looks at executors goes on looking, whatever happens to what it looks at."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flame.executor_manager import lookout
from flame.executor_manager.lookout import Lookout
from flame.executor_manager.watch import DiskWatch
from flame.runtime.tasks import Tasks


async def test_a_file_system_that_was_away_is_watched_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lookout, "LOOK", 0.01)
    caplog.set_level(logging.INFO, lookout.__name__)
    directory = tmp_path / "away"
    process = SimpleNamespace(pid=7, number=1, paths=(str(directory),), overrun=None)
    killed = asyncio.Event()

    def kill(pid: int) -> None:
        assert pid == 7
        killed.set()

    processes: Any = SimpleNamespace(by_pid={7: process})
    limits: Any = SimpleNamespace(disk=DiskWatch(str(directory), 100_000, 0), memory_of=lambda _: 0)
    places: Any = SimpleNamespace()
    guardian: Any = SimpleNamespace(kill=kill)
    alive: Any = {("e1", 1): process}
    async with Tasks("test") as tasks:
        looking = Lookout(alive, processes, places, limits, guardian)
        watching = tasks.start(looking._watch_disk(limits.disk), "watch-disk")
        await asyncio.sleep(0.2)  # many tries
        assert not watching.done()
        directory.mkdir()
        (directory / "large").write_bytes(b"x" * 200_000)
        async with asyncio.timeout(10):
            await killed.wait()
        await asyncio.sleep(0)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith(
        f"disk-not-watched error=[Errno 2] No such file or directory: '{directory}'"
    )
    assert told[1] == "disk-watched-again"
