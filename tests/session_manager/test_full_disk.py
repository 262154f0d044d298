"""A session manager whose disk is full refuses, goes on, and accepts again by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flame.core import events
from flame.model.errors import ResourceExhausted
from flame.model.ids import Tenant
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.session_manager import shell as shell_module
from flame.session_manager.shell import Shell
from flame.storage.sqlite import SqliteStore
from tests.storage.disk import Disk

TENANT = Tenant("acme")
SMALL, LARGE = b"x", bytes(100_000)  # one is committed on the loop, the other in the thread


@asynccontextmanager
async def running(path: Path, disk: Disk) -> AsyncIterator[Shell]:
    shell = Shell(store=SqliteStore(path, vfs=disk.vfs_name), token="token")
    await shell.start()
    try:
        yield shell
    finally:
        await asyncio.wait_for(shell.stop(), 5.0)
    assert not shell.failed.done()


async def with_session(shell: Shell) -> None:
    spec = ApplicationSpec()
    await shell.calls.call(lambda reply: events.RegisterApplication(TENANT, "a", spec, reply))
    await shell.calls.call(lambda reply: events.OpenSession(TENANT, "s", SessionSpec("a"), reply))


def create(shell: Shell, value: bytes) -> Any:
    return shell.calls.call(lambda reply: events.CreateTask(TENANT, "s", value, reply))


async def until_accepted(shell: Shell, value: bytes) -> float:
    since = time.monotonic()
    while time.monotonic() < since + 30.0:
        try:
            await create(shell, value)
        except ResourceExhausted:
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - since
    raise AssertionError("the store was never tried again")


@pytest.mark.parametrize("value", [SMALL, LARGE], ids=["small", "large"])
async def test_it_refuses_naming_the_file_and_accepts_again_by_itself(
    value: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_module, "FULL_STORE_RETRY", 0.05)
    disk = Disk()
    async with running(tmp_path / "flame.db", disk) as shell:
        await with_session(shell)
        first = await create(shell, value)
        disk.free = 0
        for _ in range(3):
            with pytest.raises(ResourceExhausted, match=r"flame\.db"):
                await create(shell, value)
        assert shell.calls.session(TENANT, "s").pending == 1  # reads go on
        assert (await shell.calls.task(TENANT, "s", first.task_id)).input == value
        disk.free = None
        assert await until_accepted(shell, value) < 5.0
        assert shell.calls.session(TENANT, "s").pending == 2


async def test_it_stops_in_order_while_its_disk_is_full(tmp_path: Path) -> None:
    disk = Disk()
    async with running(tmp_path / "flame.db", disk) as shell:
        await with_session(shell)
        disk.free = 0
        with pytest.raises(ResourceExhausted):
            await create(shell, LARGE)
        disk.free = 100_000_000
        await asyncio.sleep(0)
    disk.free = None
    async with running(tmp_path / "flame.db", disk) as shell:
        assert shell.calls.session(TENANT, "s").pending == 0
