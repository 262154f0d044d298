"""Applications in a sandbox, in real executors. ``make test`` sees to it that bwrap is there."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from flame.executor_manager.sandbox import find_bubblewrap
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.wire.codec import application_spec_to
from tests.executor_manager.conftest import HERE, NodeProcess, eventually, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python
from tests.executor_manager.test_executor import run
from tests.executor_manager.test_host_shim import program

OUTSIDE = "/var/tmp/flame-written-by-a-sandboxed-service"


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    found = find_bubblewrap()
    if not found.path:
        pytest.skip(f"NOT TESTED: {found.description}; `make test` installs it where it may")


async def bound_in(
    manager: FakeManager, application: ApplicationSpec, sandbox: Sandbox, executor: str = "e1"
) -> ExecutorLine:
    spec = dataclasses.replace(application, sandbox=sandbox)
    line = await manager.start(executor, application=application_spec_to(spec))
    result = await manager.bind(line, bind(spec, incarnation=line.hello.incarnation))
    assert (result.return_code, result.message) == (0, "")
    return line


def shell() -> ApplicationSpec:
    return ApplicationSpec(shim=ShimKind.SHELL)


@pytest.mark.parametrize("sandbox", [Sandbox.STRICT, Sandbox.NETWORK])
async def test_a_script_sees_and_changes_nothing_but_its_own(
    manager: FakeManager, node: NodeProcess, tmp_path: Path, sandbox: Sandbox
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the token")
    line = await bound_in(manager, shell(), sandbox)
    scripts = [
        f"cat {secret}",
        f"touch {OUTSIDE}; touch /etc/x /usr/x; ls /var/tmp; ls /tmp",
        "echo mine > here && cat here",
        'echo mine > "$TMPDIR/t" && cat "$TMPDIR/t"',
        f"kill -0 {os.getpid()}",
        "id -u; grep -c . /proc/net/route /proc/net/dev",
        f"ls {node.directory}/*.err",
        "grep CapEff /proc/self/status",
    ]
    await run(manager, line, {i: script.encode() for i, script in enumerate(scripts)})
    assert "No such file" in line.failures[0]
    assert "mine" not in (line.outputs[1] or b"").decode()
    assert not os.path.exists(OUTSIDE)  # noqa: ASYNC240 - one look
    assert not os.path.exists("/etc/x")  # noqa: ASYNC240 - one look
    assert line.outputs[2] == line.outputs[3] == b"mine\n"
    assert "No such process" in line.failures[4]
    assert "No such file" in line.failures[6]
    assert (line.outputs[7] or b"").split() == [b"CapEff:", b"0000000000000000"]


async def test_only_strict_has_no_network(manager: FakeManager, node: NodeProcess) -> None:
    script = f"exec 3<>/dev/tcp/127.0.0.1/{manager.port} && echo connected"
    for executor, sandbox in (("e1", Sandbox.STRICT), ("e2", Sandbox.NETWORK)):
        spec = dataclasses.replace(shell(), command="bash")
        line = await bound_in(manager, spec, sandbox, executor)
        await run(manager, line, {1: script.encode()})
        if sandbox is Sandbox.NETWORK:
            assert line.outputs[1] == b"connected\n"
        else:
            assert "refused" in line.failures[1]


async def test_a_service_program_is_reached_and_ends_in_its_sandbox(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound_in(manager, program(), Sandbox.STRICT)
    await run(manager, line, {1: b"x", 2: b"cwd"})
    assert line.outputs[1] == b"app/s1:1"
    family = node.family()
    assert any("bwrap" in process.name() for process in family)
    manager.order_stop("e1", line.hello.incarnation)
    await manager.until(lambda: manager.exits, "the report")
    assert (manager.exits[0].cause, manager.exits[0].exit_code) == ("stopped", 0)
    await eventually(lambda: not any("bwrap" in p.name() for p in node.family()), "its end")


async def test_a_service_program_that_dies_in_its_sandbox_is_reported_as_elsewhere(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound_in(manager, program(), Sandbox.STRICT)
    line.send({1: b"kill"})
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.cause, report.signal, report.task_id) == ("signal", 9, 1)
    assert report.detail.startswith("the service was killed by SIGKILL while it ran task 1")


async def test_a_python_service_takes_its_process_into_the_sandbox(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("the token")
    application = python("services_under_test:Obedient", PYTHONPATH=HERE)
    line = await bound_in(manager, application, Sandbox.NETWORK)
    await run(
        manager,
        line,
        {
            1: b"echo hi",
            2: f"read {tmp_path / 'secret'}".encode(),
            3: b"write here",
            4: b"multiprocess",
        },
    )
    assert line.outputs[1] == b"hi"
    assert "No such file" in line.failures[2]
    assert line.outputs[3] == b"written"
    assert line.outputs[4] == b"[0, 1, 4, 9]"
    line.send({5: b"signal 11"})
    await manager.until(lambda: manager.exits, "the report")
    report = manager.exits[0]
    assert (report.cause, report.signal, report.task_id) == ("signal", 11, 5)


async def test_a_sandbox_that_cannot_be_made_refuses_the_binding(
    manager: FakeManager, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    async with running_node(manager, tmp_path / "node", PATH=str(tmp_path / "bin")):
        for executor, application in (("e1", shell()), ("e2", python("services_under_test:Upper"))):
            spec = dataclasses.replace(application, sandbox=Sandbox.STRICT)
            line = await manager.start(executor, application=application_spec_to(spec))
            result = await manager.bind(line, bind(spec, incarnation=line.hello.incarnation))
            assert result.return_code == 11
            assert "bwrap is not installed on this node (package bubblewrap)" in result.message


@pytest.mark.parametrize(
    ("shim", "options", "said"),
    [
        (ShimKind.GRPC, (), "use the host shim"),
        (ShimKind.HTTP, (("address", "port"),), "address: unix"),
    ],
)
async def test_what_cannot_work_in_a_sandbox_is_refused(
    manager: FakeManager,
    node: NodeProcess,
    shim: ShimKind,
    options: tuple[tuple[str, str], ...],
    said: str,
) -> None:
    spec = ApplicationSpec(shim=shim, command="true", shim_options=options, sandbox=Sandbox.STRICT)
    line = await manager.start(application=application_spec_to(spec))
    result = await manager.bind(line, bind(spec, incarnation=line.hello.incarnation))
    assert result.return_code == 11
    assert said in result.message


async def test_a_sandbox_is_made_where_what_it_hides_is_not_there(
    manager: FakeManager, tmp_path: Path
) -> None:
    """A node that was given its token in a variable has no directory of secrets."""
    missing = str(tmp_path / "no-such-directory")
    async with running_node(manager, tmp_path / "node", FLAME_CONFIG_DIR=missing):
        line = await bound_in(manager, shell(), Sandbox.STRICT)
        await run(manager, line, {1: b"echo fine"})
        assert line.failures == {}
