"""Executors that are forked from a process which has imported everything already."""

import asyncio
import dataclasses
import os
from pathlib import Path

import psutil

from flame.model.specs import ApplicationSpec
from flame.wire import v1
from flame.wire.codec import application_spec_to
from tests.executor_manager.conftest import NodeProcess, eventually
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python
from tests.executor_manager.test_executor import OBEDIENT, bound, run
from tests.executor_manager.test_node import executors
from tests.processes import named

SLOW_IMPORT = """
import os, random, threading, time
time.sleep({seconds})
WHO_IMPORTED = os.getpid()
{more}

def service(data):
    if data == b"who":
        return b"%d %d" % (WHO_IMPORTED, os.getpid())
    return b"%.17g" % random.random()
"""


def preloading(directory: Path, name: str = "slow", more: str = "") -> ApplicationSpec:
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.py").write_text(SLOW_IMPORT.format(seconds=0.5, more=more))
    spec = python(f"{name}:service", PYTHONPATH=str(directory))
    return dataclasses.replace(spec, preload=True)


async def bound_to(
    manager: FakeManager, application: ApplicationSpec, executor: str, tenant: str = "t1"
) -> ExecutorLine:
    line = await manager.start(
        executor,
        application=application_spec_to(application),
        application_name="app",
        tenant=tenant,
        resources=v1.ResourceRequirement(cpu=1, memory=2**30),
    )
    result = await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
    assert (result.return_code, result.message) == (0, "")
    return line


async def importer(manager: FakeManager, line: ExecutorLine) -> tuple[int, int]:
    """Return who imported the service's module, and who runs it."""
    await run(manager, line, {1: b"who"})
    imported, runs = (line.outputs[1] or b"").split()
    return int(imported), int(runs)


def zygotes(node: NodeProcess) -> list[psutil.Process]:
    return named("flame-zygote", node.family())


async def with_own_zygote(manager: FakeManager, application: ApplicationSpec) -> None:
    """Start executors until one is forked from the application's zygote: so it is ready."""
    for number in range(50):
        imported, runs = await importer(
            manager, await bound_to(manager, application, f"try{number}")
        )
        if imported != runs:
            return
    raise AssertionError("no executor was forked from the application's zygote")


async def test_the_first_executor_pays_for_the_imports_and_the_next_do_not(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = preloading(tmp_path / "code")
    first = await bound_to(manager, application, "e1")
    imported, runs = await importer(manager, first)
    assert imported == runs
    await with_own_zygote(manager, application)
    lines = [await bound_to(manager, application, executor) for executor in ("e2", "e3")]
    seen = [await importer(manager, line) for line in lines]
    assert all(imported != runs for imported, runs in seen)
    assert len({imported for imported, _ in seen}) == 1
    # What is drawn at random is drawn by each for itself.
    for line in lines:
        await run(manager, line, {2: b"draw"})
    assert len({line.outputs[2] for line in lines}) == 2


async def test_tenants_share_no_process_that_has_imported_code(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = preloading(tmp_path / "code")
    await bound_to(manager, application, "e1", "t1")
    await with_own_zygote(manager, application)
    other = await bound_to(manager, application, "e2", "t2")
    imported, runs = await importer(manager, other)
    assert imported == runs


async def test_code_that_has_changed_is_imported_again(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = preloading(tmp_path / "code")
    await bound_to(manager, application, "e1")
    await with_own_zygote(manager, application)
    (tmp_path / "code" / "slow.py").write_text("def service(data): return b'changed'\n")
    line = await bound_to(manager, application, "e2")
    await run(manager, line, {1: b"who"})
    assert line.outputs[1] == b"changed"


async def test_a_module_that_starts_threads_is_never_forked(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    imports = tmp_path / "imports"
    more = f"""
with open({str(imports)!r}, "a") as file:
    print(os.getpid(), file=file)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
    application = preloading(tmp_path / "code", "threaded", more)
    await bound_to(manager, application, "e1")
    await eventually(lambda: len(imports.read_text().split()) == 2, "its import by a zygote")
    await eventually(lambda: len(zygotes(node)) == 1, "the end of that zygote")
    line = await bound_to(manager, application, "e2")
    imported, runs = await importer(manager, line)
    assert imported == runs


async def test_a_forked_executor_is_the_guardians_child_and_alone(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    process = executors(node)[0]
    parent = process.parent()
    assert parent is not None
    assert any("guardian_process" in word for word in parent.cmdline())
    await run(manager, line, {1: b"multiprocess"})
    assert line.outputs[1] == b"[0, 1, 4, 9]"
    fds = {os.path.basename(os.readlink(f"/proc/{process.pid}/fd/{fd}")) for fd in (1, 2)}
    assert fds == {f"e1-{line.hello.incarnation}.{kind}" for kind in ("out", "err")}


async def test_executors_start_without_their_zygote_too(
    manager: FakeManager, node: NodeProcess
) -> None:
    await eventually(lambda: len(zygotes(node)) == 1, "the zygote")
    for _ in range(3):
        for process in zygotes(node):
            process.kill()
        await asyncio.sleep(0)
        line = await bound(manager, OBEDIENT)
        await run(manager, line, {1: b"echo alive"})
        line.send({2: b"exit 0"})
        count = len(manager.exits)
        await manager.until(lambda count=count: len(manager.exits) > count, "its end")  # type: ignore[misc]
