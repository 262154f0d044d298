"""The executor manager: ends are reported with their cause, and nothing outlives its owner."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.executor_manager.conftest import HERE, NodeProcess, eventually, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python
from tests.executor_manager.test_executor import OBEDIENT, bound, run
from tests.processes import alive, command, named, works_in

GONE_WITHIN = 5.0  # seconds in which everything of a dead owner has ended


async def daemon_of(manager: FakeManager, line: ExecutorLine, path: Path) -> psutil.Process:
    """Let a task leave a daemon behind; return that."""
    await run(manager, line, {1: f"daemon {path}".encode()})
    assert line.failures == {}
    await eventually(path.exists, "the daemon")
    return psutil.Process(int(path.read_text()))  # noqa: ASYNC240 - a few bytes in /tmp


@pytest.mark.parametrize(
    ("order", "cause", "exit_code", "number", "said"),
    [
        (b"exit 3", "exit", 3, 0, "exited with code 3 while it ran task 2 (attempt 1)"),
        (b"leave 4", "exit", 4, 0, "exited with code 4"),
        (b"leave 0", "exit", 0, 0, "exited with code 0"),
        (b"signal 9", "signal", 0, 9, "was killed by SIGKILL"),
        (b"segfault", "signal", 0, 11, "was killed by SIGSEGV"),
    ],
)
async def test_the_task_that_ended_an_executor_is_named_with_the_cause(
    manager: FakeManager,
    node: NodeProcess,
    order: bytes,
    cause: str,
    exit_code: int,
    number: int,
    said: str,
) -> None:
    line = await bound(manager)
    line.send({1: b"echo fine", 2: order, 3: b"echo never"}, attempts=[1, 1, 1])
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.executor, report.incarnation) == ("e1", line.hello.incarnation)
    assert (report.task_id, report.attempt) == (2, 1)
    assert (report.cause, report.exit_code, report.signal) == (cause, exit_code, number)
    assert said in report.detail
    if order == b"exit 3":
        assert "about to go" in report.detail  # the end of its stderr
    if order.startswith(b"leave"):
        assert line.outputs == {1: b"fine"}  # what was finished still went out


async def test_an_executor_that_dies_between_tasks_spends_nobodys_attempt(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    await run(manager, line, {1: b"echo x"})
    victim = next(p for p in node.family() if is_executor(p, "e1"))
    victim.send_signal(signal.SIGKILL)
    await manager.until(lambda: manager.exits, "the report")
    assert (manager.exits[0].cause, manager.exits[0].task_id) == ("signal", 0)


async def test_a_report_is_repeated_until_it_is_confirmed(tmp_path: Path) -> None:
    async with FakeManager() as first, running_node(first, tmp_path / "node"):
        first.confirm_exits = False
        line = await bound(first)
        line.send({1: b"exit 3"})
        await first.until(lambda: first.exits, "the report")
        await first.stop()
        async with FakeManager(port=first.port) as second:
            await second.until(lambda: second.exits, "the report again")
            assert second.exits[0] == first.exits[0]
            listed = [(e.executor, e.incarnation) for e in second.registrations[0].executors]
            assert listed == [("e1", line.hello.incarnation)]
            await second.until(lambda: second.renewals, "a renewal after the confirmation")
            await second.stop()
            async with FakeManager(port=first.port) as third:
                await third.until(lambda: third.renewals, "a renewal")
                assert third.exits == []
                assert list(third.registrations[0].executors) == []


async def test_a_stopped_executor_finishes_its_task_leaves_and_ends(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python("services_under_test:Tidy", PYTHONPATH=HERE)
    line = await bound(manager, application, common_data=str(tmp_path / "tidy").encode())
    door = tmp_path / "door"
    line.send({1: f"until {door}".encode()})
    await manager.until(lambda: line.received("started"), "the start")
    manager.order_stop("e1", line.hello.incarnation)
    door.touch()
    await manager.until(lambda: manager.exits, "the report")
    assert (manager.exits[0].cause, manager.exits[0].exit_code) == ("stopped", 0)
    assert line.outputs.keys() == {1}
    assert (tmp_path / "tidy").read_text() == "left"


async def test_an_executor_that_does_not_stop_is_killed_after_its_grace(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    line.send({1: f"until {tmp_path / 'never'}".encode()})
    await manager.until(lambda: line.received("started"), "the start")
    manager.order_stop("e1", line.hello.incarnation, grace_ms=200)
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.cause, report.signal, report.task_id) == ("stopped", 9, 1)
    assert "did not end in time" in report.detail


async def test_what_a_service_left_behind_ends_with_its_executor(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    daemon = await daemon_of(manager, line, tmp_path / "pid")
    line.send({2: b"exit 1"})
    await manager.until(lambda: manager.exits, "the report")
    await eventually(lambda: not alive([daemon]), "the daemon's end", GONE_WITHIN)


async def test_killing_the_executor_manager_leaves_no_process(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    daemon = await daemon_of(manager, line, tmp_path / "pid")
    line.send({2: f"until {tmp_path / 'never'}".encode()})
    family = [*node.family(), daemon]
    assert len(alive(family)) >= 4  # manager, guardian, executor, daemon
    await node.kill()
    await eventually(lambda: not alive(family), "the end of all", GONE_WITHIN)


async def test_killing_the_guardian_ends_its_executors_and_the_node_goes_on(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    daemon = await daemon_of(manager, line, tmp_path / "pid")
    family = [p for p in node.family() if p.pid != node.pid]
    guardian = next(p for p in family if "guardian_process.py" in " ".join(command(p)))
    guardian.send_signal(signal.SIGKILL)
    await manager.until(lambda: manager.exits, "the report")
    assert "guardian" in manager.exits[0].detail
    await eventually(lambda: not alive([*family, daemon]), "the end of all", GONE_WITHIN)
    await bound(manager)  # there is a new guardian


async def test_losing_the_parent_ends_the_executor_manager(
    manager: FakeManager, tmp_path: Path
) -> None:
    async with running_node(manager, tmp_path / "node", through="sh") as node:
        await bound(manager)
        family = node.family()
        assert any("guardian_process.py" in " ".join(command(p)) for p in family)
        await node.kill()  # the shell, not the executor manager
        await eventually(lambda: not alive(family), "the end of all", GONE_WITHIN)
        assert manager.left


async def test_sigterm_stops_the_executors_says_so_and_ends(
    manager: FakeManager, node: NodeProcess
) -> None:
    await bound(manager)
    family = node.family()
    node.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(node.process.wait(), 10) == 0
    assert not alive(family)
    assert [e.cause for e in manager.exits] == ["stopped"]
    assert manager.left


async def test_orders_may_be_repeated(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager)
    manager.incarnations = iter([line.hello.incarnation, 77])
    manager.order_start("e1")  # alive already
    manager.order_stop("e1", 12345)  # never heard of
    manager.order_stop("e1", line.hello.incarnation)
    manager.order_stop("e1", line.hello.incarnation)
    other = await manager.start("e2")
    await manager.until(lambda: manager.exits, "the report")
    assert other.hello.incarnation == 77
    assert len([key for key in manager.lines if key.hello.executor == "e1"]) == 1
    await eventually(lambda: len(executors(node)) == 1, "one executor left")


async def test_a_binding_leaves_its_output_in_files(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    line.send({1: b"exit 3"})
    await manager.until(lambda: manager.exits, "the report")
    assert (node.directory / f"e1-{line.hello.incarnation}.err").read_text() == "about to go\n"
    assert not (node.directory / f"e1-{line.hello.incarnation}.cell").exists()


async def test_an_executors_directory_goes_with_it_and_the_next_one_has_its_own(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    directory = node.directory / "e1"
    (directory / "of-the-first").touch()
    line.send({1: b"exit 0"})
    await manager.until(lambda: manager.exits, "the report")
    again = await bound(manager)
    assert again.hello.incarnation != line.hello.incarnation
    assert not (directory / "of-the-first").exists()
    await eventually(lambda: not list(node.directory.glob("*.gone")), "the old one's end")


async def test_a_wrong_token_ends_the_executor_manager_with_a_clear_line(tmp_path: Path) -> None:
    async with FakeManager() as manager:
        manager.refuse_nodes = True
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "flame.executor_manager", "--endpoint", manager.endpoint),
            *("--directory", str(tmp_path)),
            env={**os.environ, "PYTHONPATH": str(Path(HERE).parents[1] / "src")},
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"flame-executor-manager: the token is not known" in stderr
        assert b"Traceback" not in stderr


async def test_two_executor_managers_do_not_share_a_directory(
    manager: FakeManager, node: NodeProcess
) -> None:
    with pytest.raises(AssertionError, match="ended with code 1"):
        async with running_node(manager, node.directory):
            pass


def is_executor(process: psutil.Process, executor: str = "") -> bool:
    is_one = bool(named("flame-executor", [process]))
    return is_one and executor in os.path.basename(works_in(process))


def executors(node: NodeProcess) -> list[psutil.Process]:
    """The processes that are executors, not spares."""
    spares = ("", str(node.directory))  # or it has ended meanwhile
    return [p for p in node.family() if is_executor(p) and works_in(p) not in spares]


async def test_a_spare_becomes_an_executor_at_once(manager: FakeManager, node: NodeProcess) -> None:
    def spares() -> set[int]:
        return {p.pid for p in node.family() if is_executor(p)}

    await eventually(spares, "a spare")
    before = spares()
    line = await bound(manager, OBEDIENT)
    assert {p.pid for p in executors(node)} <= before
    assert line.hello.executor == "e1"
    assert bind(OBEDIENT).application.entry_point == OBEDIENT.entry_point


async def test_a_node_registers_again_when_the_session_manager_falls_silent(
    manager: FakeManager, node: NodeProcess
) -> None:
    await manager.until(lambda: manager.registrations, "the registration")
    manager.is_mute = True
    await manager.until(lambda: len(manager.registrations) > 1, "another one")


async def test_an_executor_says_hello_again_when_the_session_manager_falls_silent(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    await run(manager, line, {1: b"echo x"})
    manager.is_mute = True
    await manager.until(lambda: len(manager.lines) > 1, "another hello")
    assert manager.lines[-1].hello.executor == line.hello.executor
