"""Orders that cross: what is told to stop ends, whatever it was doing at that moment."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flame.executor_manager.accounts import Accounts
from flame.executor_manager.limits import LimitOptions, Limits
from flame.executor_manager.node import Node
from flame.executor_manager.sandbox import Bubblewrap
from flame.executor_manager.supervisor import Supervisor
from flame.model.resources import Resources
from flame.wire import frames
from flame.wire.channels import Endpoint


class Starting(Supervisor):
    """Its processes are there as soon as the test says so, and end when they are told to."""

    def __init__(self, directory: Path) -> None:
        path = str(directory)
        endpoint = Endpoint.parse("http://127.0.0.1:1")
        node = Node("n1", (endpoint,), None, path, path, Accounts(None, {}), Bubblewrap("", ""), ())
        limits = Limits(LimitOptions("none"), Resources(1000), path)
        packages: Any = SimpleNamespace()
        super().__init__(node, limits, self._reported, lambda _: packages, lambda *_: None)
        self.may_start = asyncio.Event()
        self.told_to_stop: list[Any] = []

    def _reported(self, report: frames.ExecutorExited) -> None:
        pass

    async def _start(self, key: Any, order: frames.StartExecutor) -> None:
        await self.may_start.wait()
        self._alive[key] = key
        del self._starting[key]

    def _stop(self, process: Any, grace: float) -> None:
        self.told_to_stop.append(process)


@pytest.mark.parametrize("first", ["the start ends", "the stop comes"])
async def test_one_that_is_told_to_stop_at_the_moment_it_has_started_is_stopped(
    tmp_path: Path, first: str
) -> None:
    supervisor = Starting(tmp_path)
    supervisor.start_executor(frames.StartExecutor(executor="e1", incarnation=7))
    await asyncio.sleep(0)
    if first == "the start ends":
        supervisor.may_start.set()
    supervisor.stop_executor("e1", 7, 2.0)
    supervisor.may_start.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert supervisor.told_to_stop == [("e1", 7)]
