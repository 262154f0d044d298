"""Packages on a real node under a fake session manager: prepared once, checked, contained."""

import asyncio
import os
import shutil
import tarfile
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flame.executor_manager.sandbox import find_bubblewrap
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.wire import frames
from flame.wire.codec import application_spec_to
from tests.executor_manager.conftest import NodeProcess, eventually, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind
from tests.executor_manager.test_accounts import NOBODY, interpreter_for_nobody, needs_root
from tests.executor_manager.test_executor import run
from tests.processes import command, named

PREPARED_WITHIN = 90.0  # seconds, on a machine that is busy with other tests

SERVICE = """
import sys
import flame

class Where(flame.FlameService):
    def on_task_invoke(self, context):
        return f"{context.input.decode()} {__file__} {sys.executable}".encode()
"""

PROJECT = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "where"
version = "1.0"
dependencies = ["flame"]
requires-python = "{python}"
"""


def project(directory: Path, service: str = SERVICE, python: str = ">=3.11") -> Path:
    """A Python project in a directory."""
    (directory / "where").mkdir(parents=True)
    (directory / "where/__init__.py").write_text(service)
    text = PROJECT.format(python=python).replace('dependencies = ["flame"]\n', "")
    (directory / "pyproject.toml").write_text(text)
    return directory


def python(source: Path | str, entry_point: str = "where:Where") -> ApplicationSpec:
    url = source if isinstance(source, str) else f"file://{source}"
    return ApplicationSpec(
        shim=ShimKind.PYTHON, entry_point=entry_point, url=url, installer="python"
    )


def binary(source: Path, command: str, **fields: object) -> ApplicationSpec:
    return ApplicationSpec(
        shim=ShimKind.STDIO,
        command=command,
        url=f"file://{source}",
        installer="binary",
        shim_options=(("frames", "none"),),
        **fields,  # type: ignore[arg-type]
    )


async def start(
    manager: FakeManager,
    application: ApplicationSpec,
    executor: str = "e1",
    tenant: str = "default",
) -> tuple[ExecutorLine, frames.BindResult]:
    incarnation = manager.order_start(
        executor,
        application=application_spec_to(application),
        application_name="app",
        tenant=tenant,
    )
    line = await manager.line(executor, incarnation, within=PREPARED_WITHIN)
    result = await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
    return line, result


async def works(manager: FakeManager, line: ExecutorLine) -> str:
    await run(manager, line, {1: b"hello"})
    assert line.failures == {}
    return (line.outputs[1] or b"").decode()


async def refused(manager: FakeManager, application: ApplicationSpec, executor: str = "e1") -> str:
    _, result = await start(manager, application, executor)
    assert result.return_code == 10
    return str(result.message)


def releases(node: NodeProcess) -> list[Path]:
    return [p.with_suffix("") for p in (node.directory / "packages").glob("*/*.ready")]


async def test_a_python_project_runs_in_an_environment_of_its_own(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line, result = await start(manager, python(project(tmp_path / "app")))
    assert (result.return_code, result.message) == (0, "")
    said, file, interpreter = (await works(manager, line)).split()
    assert said == "hello"
    [release] = releases(node)
    assert file.startswith(str(release / "env"))
    assert interpreter == str(release / "env/bin/python")
    assert [p.state for p in manager.packages][-1] == "ready"
    steps = [p.message for p in manager.packages if p.state == "preparing"]
    assert steps == ["fetching the package", "installing the package", "checking the package"]
    delays = [(d.executor, d.seconds) for d in manager.delays]
    assert delays == [("e1", 600), ("e1", 0)]


async def test_the_same_content_is_installed_once_for_executors_that_start_together(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python(project(tmp_path / "app"))
    started = await asyncio.gather(*(start(manager, application, f"e{n}") for n in range(3)))
    assert [result.return_code for _, result in started] == [0, 0, 0]
    installs = [p for p in manager.packages if p.message == "installing the package"]
    assert len(installs) == 1
    assert len(releases(node)) == 1


async def test_a_binary_package_is_found_by_its_command(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "app/bin").mkdir(parents=True)
    (tmp_path / "app/data").write_text("from the package")
    program = tmp_path / "app/bin/greet"
    program.write_text('#!/bin/sh\nread name\necho "$name $(cat "$FLAME_APP_DIR/data")"\n')
    program.chmod(0o755)
    line, result = await start(manager, binary(tmp_path / "app", "greet"))
    assert (result.return_code, result.message) == (0, "")
    assert await works(manager, line) == "hello from the package\n"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel made by hand."""
    path = tmp_path / "where-1.0-py3-none-any.whl"
    info = "where-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("where.py", SERVICE)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: where\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


async def test_a_wheel_is_a_package(manager: FakeManager, node: NodeProcess, wheel: Path) -> None:
    line, result = await start(manager, python(wheel))
    assert (result.return_code, result.message) == (0, "")
    assert "site-packages/where.py" in await works(manager, line)


async def test_a_project_with_its_wheels_inside_downloads_nothing(
    manager: FakeManager, node: NodeProcess, wheel: Path, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    (app / "wheels").mkdir(parents=True)
    shutil.move(wheel, app / "wheels")
    (app / "service.py").write_text("from where import Where\n")
    (app / "requirements.txt").write_text("where==1.0\nflame\n")
    line, result = await start(manager, python(app, "service:Where"))
    assert (result.return_code, result.message) == (0, "")
    assert "site-packages/where.py" in await works(manager, line)


async def test_modules_without_a_project_are_imported_as_they_are(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/where.py").write_text(SERVICE)
    line, result = await start(manager, python(tmp_path / "app"))
    assert (result.return_code, result.message) == (0, "")
    assert "/src/where.py" in await works(manager, line)


# --- bad packages ------------------------------------------------------------------------------


@pytest.fixture
async def impatient(manager: FakeManager, tmp_path: Path) -> AsyncIterator[NodeProcess]:
    """A node that gives a package five seconds."""
    async with running_node(
        manager, tmp_path / "node", options=("--package-timeout", "5")
    ) as process:
        yield process


HANGING_SETUP = "import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(1000)\n"


def at_work(node: NodeProcess) -> list[str]:
    """The commands below the manager that run, but for its guardian, zygotes and their forks."""
    found = []
    for process in node.family()[1:]:
        line = " ".join(command(process))
        if line and "guardian_process" not in line and "flame.executor_manager.zygote" not in line:
            found.append(line)
    return found


def hanging(directory: Path) -> Path:
    """A project whose build forks a daemon and never ends."""
    directory.mkdir()
    (directory / "setup.py").write_text(HANGING_SETUP)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "hang"\nversion = "1"\n'
    )
    return directory


async def test_an_install_that_hangs_is_ended_with_all_it_started(
    manager: FakeManager, impatient: NodeProcess, tmp_path: Path
) -> None:
    message = await refused(manager, python(hanging(tmp_path / "app")))
    assert "installing the package took longer than 5 s, and was ended" in message
    manager.order_stop("e1", 1)
    await eventually(lambda: not at_work(impatient), "the end of what the install started")
    assert manager.packages[-1].state == "failed"
    assert releases(impatient) == []
    assert list((impatient.directory / "packages/default").glob("[!c]*")) == []


async def test_other_executors_start_while_a_package_is_being_prepared(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    manager.order_start(
        "slow",
        application=application_spec_to(python(hanging(tmp_path / "app"))),
        application_name="slow",
        tenant="default",
    )
    await manager.until(lambda: manager.delays, "the preparation")
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/where.py").write_text(SERVICE)
    line, result = await start(manager, python(tmp_path / "quick"))
    assert result.return_code == 0
    assert "hello" in await works(manager, line)


async def test_a_stopped_executor_ends_the_preparation_that_only_it_wanted(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    incarnation = manager.order_start(
        "slow",
        application=application_spec_to(python(hanging(tmp_path / "app"))),
        application_name="slow",
        tenant="default",
    )
    await manager.until(
        lambda: any(p.message == "installing the package" for p in manager.packages), "the install"
    )
    manager.confirm_exits = False
    manager.order_stop("slow", incarnation)
    await manager.until(lambda: manager.exits, "the report")
    assert manager.exits[0].cause == "stopped"
    assert "while its package was being prepared" in manager.exits[0].detail
    await eventually(lambda: not at_work(node), "the end of the install")


@pytest.mark.parametrize(
    ("service", "entry_point", "complaint"),
    [
        ("1 / 0", "where:Where", "ZeroDivisionError: division by zero"),
        ("import nothing_like_it", "where:Where", "No module named 'nothing_like_it'"),
        ("", "where:Where", "has no 'Where'"),
        ("", "elsewhere:Where", "No module named 'elsewhere'"),
        ("raise SystemExit(3)", "where:Where", "SystemExit: 3"),
        ("import os; os._exit(0)", "where:Where", "ended"),
        ("import os; os.kill(os.getpid(), 9)", "where:Where", "killed by signal 9"),
    ],
)
async def test_an_entry_point_that_cannot_be_imported_is_found_before_the_first_task(
    manager: FakeManager,
    node: NodeProcess,
    tmp_path: Path,
    service: str,
    entry_point: str,
    complaint: str,
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/where.py").write_text(service)
    assert complaint in await refused(manager, python(tmp_path / "app", entry_point))


async def test_packages_that_cannot_be_used_say_why_and_harm_nobody(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "no-archive.tar.gz").write_bytes(b"hello")
    with tarfile.open(tmp_path / "escape.tar.gz", "w:gz") as tar:
        tar.add(__file__, "../../escaped.py")
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as tar:
        tar.add(__file__, "where.py")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "half.tar.gz").write_bytes(whole[: len(whole) // 2])
    future = project(tmp_path / "future", python=">=3.99")
    (tmp_path / "program").mkdir()
    (tmp_path / "program/greet").write_text("no one may run this")
    file = f"file://{tmp_path}"
    digest = "0" * 64
    for number, (application, complaint) in enumerate(
        [
            (python(f"{file}/no-archive.tar.gz"), "no archive that can be read"),
            (python(f"{file}/half.tar.gz"), "damaged"),
            (python(f"{file}/escape.tar.gz"), "leads out of its directory"),
            (python(f"{file}/missing.tar.gz"), "No such file"),
            (python(f"{file}/half.tar.gz#sha256={digest}"), "was expected"),
            (
                python("gopher://x/y"),
                "is of none of the kinds flame://, http://, https://, file://",
            ),
            (python("http://127.0.0.1:9/app.tar.gz"), "cannot be fetched"),
            (python(f"flame://packages/{digest}/app.tar.gz"), "did not send the package"),
            (python(future), "3.99"),
            (binary(tmp_path / "program", "greet"), "not an executable file in the package"),
        ]
    ):
        message = await refused(manager, application, f"e{number}")
        assert complaint in message
        assert "the package of application 'app' cannot be prepared" in message
    assert releases(node) == [r for r in releases(node) if (r / "src/greet").exists()]
    (tmp_path / "app").mkdir()
    (tmp_path / "app/where.py").write_text(SERVICE)
    line, _ = await start(manager, python(tmp_path / "app"), "after")
    assert "hello" in await works(manager, line)


async def test_a_failure_is_tried_again_when_the_application_is_changed(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python(f"file://{tmp_path}/late.tar.gz")
    await refused(manager, application, "e1")
    with tarfile.open(tmp_path / "late.tar.gz", "w:gz") as tar:
        (tmp_path / "where.py").write_text(SERVICE)
        tar.add(tmp_path / "where.py", "where.py")
    retry = frames.RetryPackage(tenant="default", application="app", shared=True)
    manager.node_orders.put_nowait(frames.NodeOrder(retry_package=retry))
    line, result = await start(manager, application, "e3")
    assert (result.return_code, result.message) == (0, "")
    assert "hello" in await works(manager, line)


async def test_what_no_executor_uses_goes_when_there_is_no_room(
    manager: FakeManager, tmp_path: Path
) -> None:
    async with running_node(manager, tmp_path / "node", options=("--package-space", "1")) as node:
        for number in range(2):
            app = tmp_path / f"app{number}"
            app.mkdir()
            (app / "run").write_text(f"#!/bin/sh\necho {number}\n")
            (app / "run").chmod(0o755)
            line, result = await start(manager, binary(app, "run"), f"e{number}")
            assert result.return_code == 0
            assert await works(manager, line) == f"{number}\n"
            assert len(releases(node)) == 1  # the one that is in use
            manager.order_stop(f"e{number}", line.hello.incarnation)
            await manager.until(lambda n=number: len(manager.exits) > n, "the end")  # type: ignore[misc]
        await eventually(lambda: releases(node) == [], "the removal")


async def test_a_release_outlives_its_manager_and_half_of_one_does_not(
    manager: FakeManager, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/where.py").write_text(SERVICE)
    async with running_node(manager, tmp_path / "node") as node:
        await start(manager, python(tmp_path / "app"), "e1")
        [release] = releases(node)
        half = release.with_name("half")
        (half / "src").mkdir(parents=True)
        await node.kill()
    async with running_node(manager, tmp_path / "node") as node:
        line, result = await start(manager, python(tmp_path / "app"), "e2")
        assert result.return_code == 0
        assert "hello" in await works(manager, line)
        assert releases(node) == [release]
        assert not half.exists()
        assert os.listdir(tmp_path / "node/packages/.work") == []


@needs_root
async def test_a_package_is_installed_as_whom_its_executors_run_as(
    manager: FakeManager, public_directory: Path
) -> None:
    python3, environment = interpreter_for_nobody()
    app = public_directory / "app"
    app.mkdir()
    (app / "where.py").write_text(
        "import os\nOWNER = os.getuid()\n\ndef serve(data):\n    return str(OWNER).encode()\n"
    )
    async with running_node(
        manager,
        public_directory / "node",
        options=("--user", "nobody"),
        python=python3,
        **environment,
    ) as node:
        line, result = await start(manager, python(app, "where:serve"))
        assert (result.return_code, result.message) == (0, "")
        assert await works(manager, line) == str(NOBODY.pw_uid)
        [release] = releases(node)
        assert release.stat().st_uid == NOBODY.pw_uid
        assert release.with_suffix(".ready").stat().st_uid == 0


async def test_a_sandboxed_service_sees_its_package_and_no_other(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    if not find_bubblewrap().path:
        pytest.skip("NOT TESTED: bwrap makes no sandbox here; `make test` installs it where it may")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/where.py").write_text(SERVICE)
    in_process = replace(python(tmp_path / "app"), sandbox=Sandbox.NETWORK)
    line, result = await start(manager, in_process, "e1")
    assert (result.return_code, result.message) == (0, "")
    assert "/src/where.py" in await works(manager, line)
    (tmp_path / "program").mkdir()
    program = tmp_path / "program/look"
    program.write_text('#!/bin/sh\nls "$FLAME_APP_DIR" "$FLAME_APP_DIR/../.."\n')
    program.chmod(0o755)
    outside = replace(binary(tmp_path / "program", "look"), sandbox=Sandbox.STRICT)
    line, result = await start(manager, outside, "e2")
    assert (result.return_code, result.message) == (0, "")
    seen = (await works(manager, line)).split()
    assert "look" in seen
    assert len([name for name in seen if len(name) == 32]) == 1  # of the two releases


IMPORTED_BY = """
import os, sys
IMPORTER = os.getpid()

def service(data):
    return f"{IMPORTER} {os.getpid()} {sys.executable}".encode()
"""


def package_zygotes(node: NodeProcess) -> list[psutil.Process]:
    """Those that run in a package's environment."""
    found = named("flame-zygote", node.family())
    return [process for process in found if "/packages/" in "".join(command(process)[:1])]


async def test_executors_of_a_package_are_forked_in_its_environment(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python(project(tmp_path / "app", IMPORTED_BY), "where:service")
    for executor in ("e1", "e2"):
        line, result = await start(manager, application, executor)
        assert (result.return_code, result.message) == (0, "")
        imported, runs, interpreter = (await works(manager, line)).split()
        assert imported == runs  # its own module is each one's affair
        [release] = releases(node)
        assert interpreter == str(release / "env/bin/python")
        # A fork has the command line of what it was forked from.
        assert "flame.executor_manager.zygote" in command(psutil.Process(int(runs)))
    assert len(package_zygotes(node)) == 1
    # What a package does when its Python starts is seen by nobody but its tenant.
    await start(manager, application, "e3", tenant="other")
    assert len(releases(node)) == 2
    assert len(package_zygotes(node)) == 2


async def test_a_packages_module_is_imported_ahead_if_it_asks_for_that(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python(project(tmp_path / "app", IMPORTED_BY), "where:service")
    application = replace(application, preload=True)
    importers: list[str] = []

    async def shares_imports() -> bool:
        line, result = await start(manager, application, f"e{len(importers)}")
        assert (result.return_code, result.message) == (0, "")
        imported, runs, _ = (await works(manager, line)).split()
        importers.append(imported)
        return imported != runs

    for _ in range(200):  # until its zygote is ready
        if await shares_imports():
            break
        await asyncio.sleep(0.1)
    assert await shares_imports()
    assert importers[-1] == importers[-2]
