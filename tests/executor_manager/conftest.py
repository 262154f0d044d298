"""One executor manager process per test, and a fake session manager for it."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.executor_manager.manager import DEADLINE, FakeManager

SOURCES = str(Path(__file__).parents[2] / "src")
HERE = str(Path(__file__).parent)


class NodeProcess:
    """A running executor manager."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory

    @property
    def pid(self) -> int:
        return self.process.pid

    def family(self) -> list[psutil.Process]:
        """The manager and all that is below it."""
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


StartNode = Callable[..., "contextlib.AbstractAsyncContextManager[NodeProcess]"]


@pytest.fixture
async def manager() -> AsyncIterator[FakeManager]:
    async with FakeManager() as fake:
        yield fake


@contextlib.asynccontextmanager
async def running_node(
    manager: FakeManager,
    directory: Path,
    through: str = "",
    options: tuple[str, ...] = (),
    python: str = sys.executable,
    **environment: str,
) -> AsyncIterator[NodeProcess]:
    """Run an executor manager, below a shell if ``through`` names one."""
    # The shell needs something to do afterwards, or it becomes the program.
    shell = (through, "-c", '"$@"; exit $?', through) if through else ()
    process = await asyncio.create_subprocess_exec(
        *shell,
        python,
        "-m",
        "flame.executor_manager",
        *("--endpoint", manager.endpoint, "--node", "n1", "--executors", "1"),
        *("--directory", str(directory), "--die-with-parent"),
        *options,
        env={**os.environ, "PYTHONPATH": SOURCES, "FLAME_TOKEN": "operator", **environment},
    )
    node = NodeProcess(process, directory)
    try:
        before = len(manager.registrations)
        registered = asyncio.ensure_future(
            manager.until(lambda: len(manager.registrations) > before, "the registration")
        )
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait([registered, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            registered.cancel()
            raise AssertionError(f"the executor manager ended with code {process.returncode}")
        ended.cancel()
        await registered
        yield node
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), DEADLINE)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise


@pytest.fixture
async def node(manager: FakeManager, tmp_path: Path) -> AsyncIterator[NodeProcess]:
    async with running_node(manager, tmp_path / "node") as process:
        yield process


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users may pass; those of tests are the caller's alone."""
    with tempfile.TemporaryDirectory(prefix="flame-test-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


async def eventually(condition: Callable[[], object], what: str, within: float = DEADLINE) -> None:
    """Wait for something outside this process, where nothing tells us."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        if loop.time() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        await asyncio.sleep(0.01)
