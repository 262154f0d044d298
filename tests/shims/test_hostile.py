"""Services that misbehave, in real executors: contained, reported with their cause, and the next task
of another session runs.
"""

import contextlib
import dataclasses
import sys
from pathlib import Path

import psutil
import pytest

from flame.executor_manager.control_groups import ControlGroups
from flame.model.specs import ApplicationSpec, ShimKind
from flame.wire import frames as wire_frames
from flame.wire import v1
from tests.executor_manager.conftest import HERE as SERVICES
from tests.executor_manager.conftest import NodeProcess, eventually, manager, node, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python
from tests.executor_manager.test_executor import bound, run
from tests.processes import command, is_alive

__all__ = ["manager", "node"]  # fixtures

PROGRAM = str(Path(__file__).parent / "hostile.py")
OTHER = python("services_under_test:Obedient", PYTHONPATH=SERVICES)


def hostile(way: str, frames: str = "length", **options: str) -> ApplicationSpec:
    return ApplicationSpec(
        shim=ShimKind.STDIO,
        command=sys.executable,
        arguments=("-S", PROGRAM, way),
        environments=(("DAEMON_PID", options.pop("pids", "/dev/null")),),
        shim_options=(("frames", frames), *options.items()),
    )


def wasm(directory: Path, body: str, **options: str) -> ApplicationSpec:
    path = directory / "module.wat"
    path.write_text(f'(module (memory (export "memory") 1) (func (export "_start") {body}))')
    return ApplicationSpec(
        shim=ShimKind.WASM, command=str(path), shim_options=tuple(options.items())
    )


async def another_sessionis_alive(manager: FakeManager) -> None:
    line = await manager.start("e2")
    result = await manager.bind(line, bind(OTHER, incarnation=line.hello.incarnation, session=2))
    assert (result.return_code, result.message) == (0, "")
    await run(manager, line, {1: b"echo alive"})
    assert line.outputs == {1: b"alive"}


async def fails(manager: FakeManager, application: ApplicationSpec, *said: str) -> ExecutorLine:
    """Expect that tasks fail with this, one after the other, and cost nobody else anything."""
    line = await bound(manager, application)
    for task in (1, 2):
        await run(manager, line, {task: bytes(1000)})
        for text in said:
            assert text in line.failures[task]
    assert not manager.exits
    await another_sessionis_alive(manager)
    return line


@pytest.mark.parametrize(
    ("application", "said"),
    [
        (ApplicationSpec(shim=ShimKind.STDIO, command="/no/such/program"), "is not an executable"),
        (ApplicationSpec(shim=ShimKind.HTTP, command="/etc/passwd"), "is not an executable"),
        (hostile("exits"), "exited with code 1 in on_session_enter; its stderr: no licence"),
        (hostile("enter hangs", enter_timeout="0.3"), "on_session_enter: no answer within 0.3 s"),
        (
            ApplicationSpec(shim=ShimKind.GRPC, command="true"),
            "exited with code 0 before it could register with FLAME_SERVICE_MANAGER",
        ),
        (
            ApplicationSpec(
                shim=ShimKind.HTTP,
                command="sleep",
                arguments=("600",),
                shim_options=(("address", "port"), ("start_timeout", "0.3")),
            ),
            "did not answer GET /health on port",
        ),
        (
            ApplicationSpec(shim=ShimKind.WASM, command="/etc/passwd"),
            "not a module that can be run",
        ),
    ],
)
async def test_a_service_that_cannot_be_bound_says_why(
    manager: FakeManager, node: NodeProcess, application: ApplicationSpec, said: str
) -> None:
    line = await manager.start()
    result = await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
    assert result.return_code in (11, 12)
    assert said in result.message
    await another_sessionis_alive(manager)


async def test_garbage_on_the_frame_channel_fails_its_task(
    manager: FakeManager, node: NodeProcess
) -> None:
    await fails(manager, hostile("garbage"), "Hello, I am not a frame", "it must write OK <length>")


async def test_an_answer_that_nobody_asked_for_is_no_answer(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, hostile("chatty"))
    await run(manager, line, {1: b"x"})
    line.send({2: b"x"})
    await manager.until(lambda: 2 in line.outputs, "the second result")
    assert line.outputs[2] is None
    assert "nobody asked for" in line.failures[2]
    await another_sessionis_alive(manager)


async def test_a_service_that_never_reads_stdin_is_given_up(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, hostile("deaf", task_timeout="0.3"))
    await run(manager, line, {1: bytes(4 * 1024 * 1024), 2: b"x"})
    assert line.failures.keys() == {1, 2}
    assert "the task: no answer within 0.3 s" in line.failures[1]
    await another_sessionis_alive(manager)


async def test_an_answer_of_2_gb_is_refused_before_it_is_read(
    manager: FakeManager, node: NodeProcess
) -> None:
    await fails(manager, hostile("two gigabytes"), "has 2147483648 bytes or more; at most 16777216")
    for process in node.family():
        with contextlib.suppress(psutil.NoSuchProcess):
            assert process.memory_info().rss < 512 * 1024 * 1024


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("http garbage", "does not speak HTTP: BadStatusLine: Hello, I am no answer"),
        ("http without end", "bytes or more; at most 16777216 are allowed"),
        ("http 2 GB", "has 2147483648 bytes or more; at most 16777216"),
    ],
)
async def test_an_http_answer_that_is_none_fails_its_task(
    manager: FakeManager, node: NodeProcess, way: str, said: str
) -> None:
    spec = dataclasses.replace(hostile(way), shim=ShimKind.HTTP, shim_options=())
    await fails(manager, spec, said)


async def test_a_process_that_writes_without_end_is_killed(
    manager: FakeManager, node: NodeProcess
) -> None:
    await fails(manager, hostile("task floods", "none"), "more than 16777216 bytes")


async def test_a_process_that_fills_stderr_is_quoted_briefly(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await fails(manager, hostile("task floods stderr", "none"), "the end", "with code 1")
    assert len(line.failures[1]) < 5000


async def test_leaving_takes_no_longer_than_it_may(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager, hostile("leave hangs"))
    await run(manager, line, {1: b"x"})
    # The node does not wait for it: a stop has its own time.
    manager.order_stop("e1", line.hello.incarnation, grace_ms=300)
    await manager.until(lambda: manager.exits, "the report")
    assert manager.exits[0].cause == "stopped"
    await eventually(lambda: not _hostile_processes(node), "the end of the service")
    await another_sessionis_alive(manager)


@pytest.mark.parametrize(("way", "frames"), [("forks", "length"), ("task forks", "none")])
async def test_daemons_end_with_what_started_them(
    manager: FakeManager, node: NodeProcess, tmp_path: Path, way: str, frames: str
) -> None:
    pids = tmp_path / "pids"
    line = await bound(manager, hostile(way, frames, pids=str(pids)))
    await run(manager, line, {1: b"x", 2: b"x"})
    assert line.outputs == {1: b"done", 2: b"done"}
    if frames == "length":  # they live as long as the binding may need them
        assert all(is_alive(pid) for pid in _read_pids(pids))

        line.order(unbind=wire_frames.Unbind())
        await manager.until(lambda: line.received("left"), "left")
    assert len(_read_pids(pids)) == 2
    assert not any(is_alive(pid) for pid in _read_pids(pids))
    await another_sessionis_alive(manager)


async def test_a_script_that_cannot_be_ended_nicely_is_ended_when_its_time_is_over(
    manager: FakeManager, node: NodeProcess
) -> None:
    spec = ApplicationSpec(shim=ShimKind.SHELL, shim_options=(("task_timeout", "2"),))
    line = await bound(manager, spec)
    script = b"trap '' TERM INT HUP; echo stuck >&2; (trap '' TERM; sleep 600) & wait"
    await run(manager, line, {1: script, 2: b"echo fine"})
    assert "took longer than 2 s and was killed; its stderr: stuck" in line.failures[1]
    assert line.outputs[2] == b"fine\n"
    await another_sessionis_alive(manager)


@pytest.mark.parametrize(
    ("way", "cause", "said"),
    [
        ("fills its disk", "out of disk", "at most 16m are allowed"),
        ("eats memory", "out of memory", "its limit is 128m, what its session asks for"),
        ("kills its parent", "signal", "was killed by SIGKILL while it ran task 1"),
    ],
)
async def test_a_service_that_takes_its_executor_with_it_costs_one_attempt_of_one_task(
    manager: FakeManager, tmp_path: Path, way: str, cause: str, said: str
) -> None:
    options = ("--max-disk", "16m")
    async with running_node(manager, tmp_path / "node", options=options) as node:
        line = await manager.start(resources=v1.ResourceRequirement(cpu=1, memory=128 * 2**20))
        await manager.bind(line, bind(hostile(way), incarnation=line.hello.incarnation))
        line.send({1: b"x", 2: b"x"}, attempts=[1, 1])
        await manager.until(lambda: manager.exits, "the report")
        report = manager.exits[0]
        assert (report.cause, report.task_id) == (cause, 1)
        assert said in report.detail
        await eventually(lambda: not _hostile_processes(node), "the end of the service")
        await another_sessionis_alive(manager)


async def test_a_fork_bomb_is_kept_small_and_ends_with_its_executor(
    manager: FakeManager, tmp_path: Path
) -> None:
    groups, reason = ControlGroups.claim(0, 0)
    if groups is None:
        pytest.skip(f"NOT TESTED: only control groups contain a fork bomb ({reason})")
    groups.close()
    options = ("--max-processes", "40")
    async with running_node(manager, tmp_path / "node", options=options) as node:
        line = await bound(manager, hostile("fork bomb", task_timeout="0.5"))
        line.send({1: b"x"})
        await manager.until(lambda: line.outputs or manager.exits, "the end of the task")
        assert len(_hostile_processes(node)) <= 40
        await another_sessionis_alive(manager)
        manager.order_stop("e1", line.hello.incarnation, grace_ms=500)
        await manager.until(lambda: manager.exits, "the report")
        await eventually(lambda: not _hostile_processes(node), "the end of the bomb")


async def test_a_service_that_closes_its_descriptors_is_given_up(
    manager: FakeManager, node: NodeProcess
) -> None:
    await fails(manager, hostile("closes its descriptors"), "closed its stdin or stdout")


async def test_a_service_that_ignores_signals_is_killed(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, hostile("ignores signals"))
    await run(manager, line, {1: b"x"})
    assert line.outputs[1] == b"ignored"
    manager.order_stop("e1", line.hello.incarnation)
    await manager.until(lambda: manager.exits, "the report")
    assert manager.exits[0].cause == "stopped"
    await eventually(lambda: not _hostile_processes(node), "the end of the service")
    await another_sessionis_alive(manager)


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        ("(loop $ever (br $ever))", {"task_timeout": "0.2"}, "the task took longer than 0.2 s"),
        ("(loop $ever (br $ever))", {"fuel": "1000000"}, "used up its fuel of 1000000"),
        ("unreachable", {}, "the module trapped: wasm trap: wasm `unreachable`"),
        ("(call 0)", {}, "the module trapped: wasm trap: call stack exhausted"),
        (
            """(loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 100)) (i32.const 0))))
            (i32.store8 (i32.const 67108864) (i32.const 1))""",
            {"memory": "64m"},
            "out of bounds memory access",
        ),
    ],
)
async def test_a_module_that_misbehaves_fails_its_task(
    manager: FakeManager,
    node: NodeProcess,
    tmp_path: Path,
    body: str,
    options: dict[str, str],
    said: str,
) -> None:
    await fails(manager, wasm(tmp_path, body, **options), said)


def _read_pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


def _hostile_processes(node: NodeProcess) -> list[psutil.Process]:
    return [process for process in node.family() if PROGRAM in command(process)]
