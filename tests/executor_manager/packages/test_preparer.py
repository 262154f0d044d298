"""The preparer: who waits for whom, and when what failed is tried again."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from flame.executor_manager.packages.errands import Transcript
from flame.executor_manager.packages.jobs import succeed
from flame.executor_manager.packages.preparation import Report, Unprepared, Wanted
from flame.executor_manager.packages.preparer import Preparer
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Sources
from flame.wire.channels import Endpoint
from tests.executor_manager.conftest import eventually


class Node:
    """Runs errands as the test says, on a clock of the test's."""

    def __init__(self, directory: Path, package: Path) -> None:
        self.now = 100.0
        self.ends = False  # whether errands do their job
        self.errands = 0
        self.release: asyncio.Event | None = None
        self.reports: list[Report] = []
        sources = Sources(lambda: Endpoint("127.0.0.1", 9, False), None, None)
        self.releases = Releases(directory)
        self.preparer = Preparer(
            sources, self.releases, self.run, self.reports.append, clock=lambda: self.now
        )
        self.wanted = Wanted("default", "app", f"file://{package}", "binary", "", "", ())

    async def run(
        self,
        tenant: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        directory: str,
        transcript: Transcript,
    ) -> int:
        self.errands += 1
        transcript.add(b"this is the log")
        if self.release is not None:
            await self.release.wait()
        if self.ends:
            succeed(command[-1])
        return 0 if self.ends else 1


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    package = tmp_path / "package"
    package.mkdir()
    (package / "file").write_text("x")
    made = Node(tmp_path / "packages", package)
    yield made
    await made.preparer.close()


async def fails(node: Node) -> str:
    with pytest.raises(Unprepared) as failure:
        await node.preparer.prepare(("e", 1), node.wanted)
    return str(failure.value)


async def test_a_failure_is_answered_again_for_a_moment_that_doubles(node: Node) -> None:
    said = ""
    for attempt, pause in enumerate((1, 2, 4, 8, 16, 32, 60, 60), start=1):
        said = await fails(node)
        assert said == await fails(node)
        node.now += pause - 0.5
        assert said == await fails(node)
        assert node.errands == attempt
        node.now += 1.0
    assert "installing the package failed: its process ended with code 1" in said
    assert "this is the log" in said


async def test_after_the_moment_it_works_if_the_cause_is_gone(node: Node) -> None:
    await fails(node)
    node.ends = True
    node.now += 1.5
    place = await node.preparer.prepare(("e", 1), node.wanted)
    assert place.directory.endswith("/src")
    assert [report.state for report in node.reports][-1] == "ready"


async def test_who_changes_the_application_need_not_wait(node: Node) -> None:
    await fails(node)
    node.ends = True
    node.preparer.retry("somebody-else", "app", shared=False)
    await fails(node)
    node.preparer.retry("default", "app", shared=False)
    await node.preparer.prepare(("e", 1), node.wanted)


async def test_a_preparation_goes_on_while_anybody_waits_for_it(node: Node) -> None:
    node.release, node.ends = asyncio.Event(), True
    waiting = [
        asyncio.ensure_future(node.preparer.prepare(("e", number), node.wanted))
        for number in range(2)
    ]
    await eventually(lambda: node.errands, "the errand")
    waiting[0].cancel()
    node.release.set()
    assert (await waiting[1]).installer == "binary"
    assert node.errands == 1


async def test_what_nobody_waits_for_ends_and_the_next_one_begins_anew(node: Node) -> None:
    node.release, node.ends = asyncio.Event(), True
    first = asyncio.ensure_future(node.preparer.prepare(("e", 1), node.wanted))
    await eventually(lambda: node.errands, "the errand")
    first.cancel()
    second = asyncio.ensure_future(node.preparer.prepare(("e", 2), node.wanted))
    node.release.set()
    assert (await second).installer == "binary"
    assert node.errands == 2
    with pytest.raises(asyncio.CancelledError):
        await first
