"""Limits of real executors, at each level; what this machine does not let us do is said by the test."""

import contextlib
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from flame.executor_manager import control_groups, watch
from flame.executor_manager.control_groups import MIN_MEMORY, ControlGroups, Tree, find_trees
from flame.executor_manager.limits import LimitOptions, Limits
from flame.executor_manager.reports import oom_kills
from flame.executor_manager.watch import FASTEST, GLANCE, LOOK, DiskWatch, Watched, memory_overruns
from flame.model.errors import InvalidConfiguration
from flame.model.resources import Resources
from flame.wire import v1
from tests.executor_manager.conftest import NodeProcess, eventually, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind
from tests.executor_manager.test_executor import OBEDIENT, run

MIB = 1024 * 1024
SMALL = v1.ResourceRequirement(cpu=2, memory=MIN_MEMORY)

LEVELS = ["cgroups", "watch"]


def can_group() -> bool:
    groups, _ = ControlGroups.claim(0, 0)
    if groups is not None:
        groups.close()
    return groups is not None


@contextlib.asynccontextmanager
async def limited(manager: FakeManager, tmp_path: Path, level: str, *options: str):  # type: ignore[no-untyped-def]
    if level == "cgroups" and not can_group():
        pytest.skip("NOT TESTED: this user may not make control groups here; run as root")
    async with running_node(manager, tmp_path / "node", options=("--limits", level, *options)) as n:
        yield n


async def bound_with(
    manager: FakeManager, resources: v1.ResourceRequirement, executor: str = "e1"
) -> ExecutorLine:
    line = await manager.start(executor, resources=resources)
    result = await manager.bind(line, bind(OBEDIENT, incarnation=line.hello.incarnation))
    assert (result.return_code, result.message) == (0, "")
    return line


@pytest.mark.parametrize("level", LEVELS)
async def test_an_executor_gets_no_more_memory_than_its_session_asks_for(
    manager: FakeManager, tmp_path: Path, level: str
) -> None:
    async with limited(manager, tmp_path, level):
        line = await bound_with(manager, SMALL)
        other = await bound_with(manager, SMALL, "e2")
        await run(manager, line, {1: b"allocate 30000000"})
        line.send({2: b"hold 400000000"})
        await manager.until(lambda: manager.exits, "the report")
        report = manager.exits[0]
        assert (report.cause, report.signal, report.task_id) == ("out of memory", 9, 2)
        assert "128m, what its session asks for" in report.detail
        await run(manager, other, {1: b"echo alive"})


@pytest.mark.parametrize("level", LEVELS)
async def test_what_an_executor_starts_counts_as_its_own(
    manager: FakeManager, tmp_path: Path, level: str
) -> None:
    async with limited(manager, tmp_path, level):
        line = await bound_with(manager, SMALL)
        line.send({1: b"allocate_in_child 400000000"})
        await manager.until(lambda: manager.exits or line.outputs, "the report")
        if manager.exits:
            assert manager.exits[0].cause == "out of memory"
        else:  # the kernel took the child only, which is the largest
            assert line.outputs[1] == b"-9"


async def test_processes_and_cpus_are_limited_by_control_groups(
    manager: FakeManager, tmp_path: Path
) -> None:
    async with limited(manager, tmp_path, "cgroups", "--max-processes", "30") as node:
        line = await bound_with(manager, SMALL)
        await run(manager, line, {1: b"fork_bomb 200"})
        assert int(line.outputs[1] or 0) < 30
        groups = [path for path in _groups(node.pid) if path.name.isdigit()]
        weights = [_read(path, "cpu.shares", "cpu.weight") for path in groups]
        assert {"2048", "200"} & set(weights)
        line.send({2: b"exit 3"})
        await manager.until(lambda: manager.exits, "the report")
        await run(manager, await bound_with(manager, SMALL, "e2"), {1: b"echo alive"})


async def test_groups_go_with_what_they_hold(manager: FakeManager, tmp_path: Path) -> None:
    async with limited(manager, tmp_path, "cgroups") as node:
        pid = node.pid
        await bound_with(manager, SMALL)
        assert _groups(pid)
        await node.kill()  # its guardian cleans up
        await eventually(lambda: not _groups(pid), "the end of the groups")


async def test_an_executor_that_fills_its_disk_is_ended(
    manager: FakeManager, tmp_path: Path
) -> None:
    async with limited(manager, tmp_path, "auto", "--max-disk", "20m"):
        line = await bound_with(manager, SMALL)
        line.send({1: b"fill 50000000"})
        await manager.until(lambda: manager.exits, "the report")
        report = manager.exits[0]
        assert (report.cause, report.task_id) == ("out of disk", 1)
        assert "at most 20m are allowed" in report.detail


async def test_open_files_are_limited(manager: FakeManager, tmp_path: Path) -> None:
    async with limited(manager, tmp_path, "auto", "--max-open-files", "100"):
        line = await bound_with(manager, SMALL)
        await run(manager, line, {1: b"open_files 1000", 2: b"echo alive"})
        assert "Too many open files" in line.failures[1]
        assert line.outputs[2] == b"alive"


async def test_limits_can_be_switched_off(manager: FakeManager, tmp_path: Path) -> None:
    async with limited(manager, tmp_path, "off"):
        assert manager.registrations[-1].isolation.startswith("none")
        line = await bound_with(manager, SMALL)
        await run(manager, line, {1: b"allocate 400000000"})
        assert line.failures == {}


async def test_a_node_says_what_is_in_force(manager: FakeManager, node: NodeProcess) -> None:
    said = manager.registrations[0].isolation
    assert ("by control groups" if can_group() else "memory by watching; no control groups") in said


def test_control_groups_that_cannot_be_had_are_refused_only_if_they_are_demanded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none = (None, "/sys/fs/cgroup: Read-only file system")
    monkeypatch.setattr(ControlGroups, "claim", lambda *_: none)
    with pytest.raises(InvalidConfiguration, match=r"Read-only file system.*Delegate=yes"):
        Limits(LimitOptions("cgroups"), Resources(1000), str(tmp_path))
    limits = Limits(LimitOptions("auto"), Resources(1000), str(tmp_path))
    assert limits.description == (
        "memory by watching; no control groups (/sys/fs/cgroup: Read-only file system)"
    )


def test_each_controller_is_taken_from_the_tree_that_has_it(tmp_path: Path) -> None:
    second = tmp_path / "unified" / "a"
    second.mkdir(parents=True)
    (second / "cgroup.controllers").write_text("hugetlb pids\n")
    mounts = (
        f"30 25 0:26 / {tmp_path}/memory rw shared:1 - cgroup cgroup rw,memory\n"
        f"31 25 0:27 /docker/x {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"32 25 0:28 / {tmp_path}/pids rw - cgroup cgroup rw,pids\n"
        f"33 25 0:29 / {tmp_path}/unified rw - cgroup2 cgroup rw,nsdelegate\n"
        "34 25 0:30 / /proc rw - proc proc rw\n"
    )
    groups = "9:memory:/m/own\n8:cpu,cpuacct:/docker/x/own\n7:pids:/\n0::/a\n"
    found = {tree.controllers: (tree.version, str(tree.own)) for tree in find_trees(mounts, groups)}
    assert found == {
        ("pids",): (2, f"{tmp_path}/unified/a"),
        ("memory",): (1, f"{tmp_path}/memory/m/own"),
        ("cpu",): (1, f"{tmp_path}/cpu/own"),
    }


@pytest.fixture
def version_2(tmp_path: Path) -> Tree:
    """A directory laid out as the kernel lays out version 2, with this process alone in its group."""
    own = tmp_path / "delegated"
    ours = own / f"flame-{os.getpid()}"
    ours.mkdir(parents=True)
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    for group in (own, ours):
        (group / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (group / "cgroup.subtree_control").write_text("\n")
    return Tree(2, ("memory", "cpu", "pids"), own)


def test_limits_are_written_where_version_2_has_them(version_2: Tree) -> None:
    groups, reason = ControlGroups.claim(10 * 2**30, 4, [version_2])
    assert groups is not None, reason
    ours = version_2.own / f"flame-{os.getpid()}"
    assert groups.versions == [2]
    for group in (version_2.own, ours):
        assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert groups.make("7", 40) == [str(ours / "7")]
    groups.limit("7", 128 * 2**20, 2, 0)

    def written(group: Path) -> dict[str, str]:
        names = ("memory.max", "cpu.weight", "pids.max")
        return {name: (group / name).read_text() for name in names if (group / name).exists()}

    assert written(ours) == {"memory.max": str(10 * 2**30), "cpu.weight": "400"}
    assert written(ours / "7") == {
        "memory.max": str(128 * 2**20),
        "cpu.weight": "200",
        "pids.max": "40",
    }
    events = Path(groups.memory_events("7"))
    assert events == ours / "7" / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(str(events)) == 2


def test_a_manager_alone_in_its_group_makes_room_for_groups_below(
    version_2: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, enable = version_2.own, control_groups._enable
    moved = own / "flame-manager" / "cgroup.procs"

    def as_the_kernel(group: Path, controllers: tuple[str, ...]) -> None:
        if group == own and not moved.exists():
            raise OSError(errno.EBUSY, "Device or resource busy")
        enable(group, controllers)

    monkeypatch.setattr(control_groups, "_enable", as_the_kernel)
    groups, reason = ControlGroups.claim(0, 0, [version_2])
    assert groups is not None, reason
    assert moved.read_text() == str(os.getpid())

    moved.unlink()
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")  # somebody else is in it, too
    assert ControlGroups.claim(0, 0, [version_2]) == (None, f"{own}: Device or resource busy")
    assert not moved.exists()


def test_memory_that_processes_share_counts_once() -> None:
    def of(limit: int) -> list[Watched]:
        return [Watched(os.getpid(), limit, ())]

    assert memory_overruns(of(0)) == []
    assert memory_overruns(of(2**40)) == []
    (overrun,) = memory_overruns(of(1))
    assert overrun.pid == os.getpid()


def test_a_full_disk_ends_the_executor_that_uses_most_of_it(tmp_path: Path) -> None:
    sizes = {1: 300_000, 2: 900_000, 3: 10}
    for number, size in sizes.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(os.urandom(size))
    executors = [Watched(number, 0, (str(tmp_path / str(number)),)) for number in sizes]
    assert DiskWatch(str(tmp_path), None, 0).overruns(executors) == []
    (overrun,) = DiskWatch(str(tmp_path), 500_000, 0).overruns(executors)
    assert (overrun.pid, overrun.cause) == (2, "out of disk")
    # Nothing is left, but none of them has taken so much: it was somebody else.
    assert DiskWatch(str(tmp_path), None, 2**60).overruns(executors) == []


class Disk:
    """A file system and a clock of the test's own; the executor's file is ``used`` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.used = 0
        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(watch, "_free_bytes", lambda _: 10**12 - self.used)
        monkeypatch.setattr(watch, "_size", lambda _: self.used)

    def seconds_until_noticed(self, disk: DiskWatch, rate: int) -> float:
        """Let an executor write so many bytes a second, from just after a look, without end."""
        began = self.now
        executors = [Watched(1, 0, ("file",))]
        while True:
            pause = disk.pause()
            self.now += pause
            self.used += int(pause * rate)
            if pause == 0.0 and disk.overruns(executors):
                return self.now - began


@pytest.mark.parametrize("rate", [10**6, 10**8, 10**9, 3 * 10**9])
@pytest.mark.parametrize("limit", [50 * MIB, 1024 * MIB])
def test_who_writes_fast_is_noticed_before_much_more_than_the_limit_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int, rate: int
) -> None:
    disk = DiskWatch(str(tmp_path), limit, 0)
    system = Disk(monkeypatch)
    assert disk.overruns([Watched(1, 0, ("file",))]) == []
    late = system.seconds_until_noticed(disk, rate) - limit / rate
    assert 0 < late <= LOOK
    # A disk that is faster than we think has written that much more when we first glance at it.
    assert late * rate <= 1.01 * max(GLANCE * rate, (rate / FASTEST - 1) * limit)


def test_a_disk_is_looked_at_once_a_second_while_nobody_can_be_over_the_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = Disk(monkeypatch)
    disk = DiskWatch(str(tmp_path), None, 0)
    executors = [Watched(1, 0, ("file",))]
    assert disk.pause() == 0.0, "nobody has looked yet"
    disk.overruns(executors)
    assert disk.pause() == LOOK
    limited = DiskWatch(str(tmp_path), 50 * MIB, 0)
    limited.overruns(executors)
    assert GLANCE <= limited.pause() < LOOK
    system.used = 49 * MIB
    assert limited.pause() == pytest.approx(GLANCE)
    system.used = 51 * MIB  # it may be somebody else's: only a look can say, and not at once
    assert limited.pause() == pytest.approx(GLANCE)
    system.now += GLANCE
    assert limited.pause() == 0.0


def _groups(pid: int) -> list[Path]:
    trees = find_trees(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    )
    parents = [tree.own / f"flame-{pid}" for tree in trees]
    return [path for parent in parents if parent.exists() for path in (parent, *parent.glob("*/"))]


def _read(group: Path, *names: str) -> str:
    for name in names:
        if (group / name).exists():
            return (group / name).read_text().strip()
    return ""
