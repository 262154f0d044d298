"""Services that are programs of their own, started and called as released ones expect."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from flame.executor_manager.shims.program import expand
from flame.model.specs import ApplicationSpec, ShimKind
from tests.compatibility.released import released_python
from tests.executor_manager.conftest import HERE, SOURCES, NodeProcess, eventually
from tests.executor_manager.manager import FakeManager, bind
from tests.executor_manager.test_executor import bound, run
from tests.processes import alive

PROGRAM = os.path.join(HERE, "instance_program.py")
MIB = 1024 * 1024


def program(
    *arguments: str, working_directory: str | None = None, **environment: str
) -> ApplicationSpec:
    return ApplicationSpec(
        shim=ShimKind.HOST,
        command="${PYTHON_PROGRAM}",
        arguments=(PROGRAM, *arguments),
        environments=tuple(
            {"PYTHON_PROGRAM": sys.executable, "PYTHONPATH": SOURCES, **environment}.items()
        ),
        working_directory=working_directory,
    )


async def test_a_program_does_tasks(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager, program("", "$WORD", "${WORD}s", WORD="fish"))
    await run(
        manager,
        line,
        {7: b"x", 8: b"none", 9: b"fail broken", 10: b"argv", 11: b"cwd", 12: b"raise why"},
    )
    assert line.outputs[7] == b"app/s1:7"
    assert line.outputs[8] is None
    assert line.failures[9] == "broken"
    assert line.outputs[10] == b" fish fishs"
    assert line.outputs[11] == str(node.directory / "e1").encode()
    assert "why" in line.failures[12]


async def test_a_program_finds_what_released_services_expect_in_its_environment(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager, program(working_directory=str(tmp_path), RUST_LOG="trace"))
    names = [
        "FLAME_INSTANCE_ENDPOINT",
        "FLAME_ENDPOINT",
        "HOME",
        "TMPDIR",
        "RUST_LOG",
        "FLAME_TOKEN",
    ]
    await run(manager, line, {i: f"environment {n}".encode() for i, n in enumerate(names, 1)})
    own = str(node.directory / "e1")
    values = [(line.outputs[i] or b"").decode() for i in range(1, len(names) + 1)]
    assert values[0].endswith("/e1.sock")
    assert values[3].endswith("/tmp")
    assert values[1:3] + values[4:] == [manager.endpoint, own, "trace", ""]
    await run(manager, line, {20: b"cwd"})
    assert line.outputs[20] == str(tmp_path).encode()


async def test_the_4_mib_limit_of_released_services_is_a_failure_that_names_it(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, program())
    await run(manager, line, {1: b"none " + bytes(4 * MIB), 2: b"x"})
    assert f"the input has {4 * MIB + 5} bytes" in line.failures[1]
    assert "at most 4194304 bytes (4 MiB)" in line.failures[1]
    assert line.outputs[2] == b"app/s1:2"


async def test_a_service_that_allows_more_gets_more(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, program("large"))
    await run(manager, line, {1: b"none " + bytes(4 * MIB)})
    assert line.failures == {}


async def test_a_program_that_dies_in_a_task_ends_its_executor_with_the_reason(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, program())
    line.send({1: b"pid", 2: b"exit 3", 3: b"x"})
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.cause, report.task_id, report.attempt) == ("exit", 2, 1)
    assert (report.exit_code, report.signal) == (3, 0)
    assert report.detail.startswith("the service exited with code 3 while it ran task 2")
    assert "last words" in report.detail
    assert line.outputs == {1: b"%d" % report.pid}


async def test_a_program_that_dies_without_a_task_ends_its_executor_too(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager, program())
    await run(manager, line, {1: b"pid"})
    pid = int(line.outputs[1] or b"0")
    psutil.Process(pid).kill()
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.task_id, report.cause, report.signal, report.pid) == (0, "signal", 9, pid)
    assert report.detail.startswith("the service was killed by SIGKILL;")


@pytest.mark.parametrize(
    ("application", "common_data", "code", "said"),
    [
        (program("die"), b"", 11, "exited with code 1 before it could listen"),
        (program("die"), b"", 11, "its stderr: cannot start: the licence is missing"),
        (program("never", FLAME_SERVICE_START_TIMEOUT="2"), b"", 11, "within 2 s"),
        (program(), b"refuse", 12, "not today"),
        (program(), b"die", 12, "exited with code 6 in on_session_enter"),
        (ApplicationSpec(command="no-such-program"), b"", 11, "'no-such-program' is not an exec"),
        (ApplicationSpec(), b"", 11, "has no command"),
        (program(working_directory="/no/such"), b"", 11, "'/no/such' cannot be entered"),
    ],
)
async def test_a_program_that_cannot_be_bound_says_why(
    manager: FakeManager,
    node: NodeProcess,
    application: ApplicationSpec,
    common_data: bytes,
    code: int,
    said: str,
) -> None:
    line = await manager.start()
    result = await manager.bind(line, bind(application, common_data=common_data))
    assert result.return_code == code
    assert said in result.message
    result = await manager.bind(line, bind(program()))
    assert (result.return_code, result.message) == (0, "")


async def test_a_program_ends_with_its_binding(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager, program())
    await run(manager, line, {1: b"pid"})
    service = psutil.Process(int(line.outputs[1] or b"0"))
    manager.order_stop("e1", line.hello.incarnation)
    await manager.until(lambda: manager.exits, "the report")
    await eventually(lambda: not alive([service]), "the program's end")


def test_only_names_that_are_set_are_expanded() -> None:
    assert expand("${A}/$A.b/$B/$$/$/${A", {"A": "x"}) == "x/x.b/$B/$$/$/${A"


async def test_a_service_written_with_the_released_sdk_runs_unchanged(
    manager: FakeManager, node: NodeProcess
) -> None:
    application = ApplicationSpec(
        shim=ShimKind.HOST,
        command=released_python(),
        arguments=(os.path.join(HERE, "released_service.py"),),
        environments=(("PYTHONPATH", ""),),
    )
    line = await bound(manager, application)
    await run(manager, line, {1: b"one", 2: b"fail", 3: None, 4: bytes(5 * MIB)})
    assert line.outputs[1] == b"ONE"
    assert line.failures[2] == "the released reason"
    assert "4 MiB" in line.failures[4]
