"""What a service finds around it, in real executors."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flame.executor_manager.surroundings import Surroundings, thread_variables
from flame.model.specs import ApplicationSpec
from flame.wire import frames, v1
from tests.assignments import assigned
from tests.executor_manager.conftest import HERE, NodeProcess, eventually, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python
from tests.executor_manager.test_executor import bound, run


async def variables(manager: FakeManager, line: ExecutorLine, *names: str) -> list[str]:
    first = len(line.outputs) + 1
    wanted: dict[int, bytes | None] = {
        first + i: f"environment {name}".encode() for i, name in enumerate(names)
    }
    await run(manager, line, wanted)
    return [(line.outputs[task] or b"").decode() for task in wanted]


def test_libraries_are_kept_to_whole_cpus_unless_the_operator_said_so() -> None:
    said = thread_variables(3, {"MKL_NUM_THREADS": "7"})
    assert said["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in said
    assert set(thread_variables(0, {}).values()) == {"1"}  # a part of a CPU


async def test_thread_counts_follow_the_cpus_and_the_applications_word_counts_more(
    manager: FakeManager, tmp_path: Path
) -> None:
    async with running_node(manager, tmp_path / "node", OPENBLAS_NUM_THREADS="5"):
        line = await manager.start(resources=v1.ResourceRequirement(cpu=4, memory=2**30))
        application = python(
            "services_under_test:Obedient", PYTHONPATH=HERE, NUMEXPR_NUM_THREADS="2"
        )
        await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
        assert await variables(
            manager, line, "OMP_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OPENBLAS_NUM_THREADS"
        ) == ["4", "2", "5"]


async def test_temporary_files_have_a_place_that_goes_with_the_executor(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    (temporary,) = await variables(manager, line, "TMPDIR")
    assert Path(temporary).is_dir()  # noqa: ASYNC240 - one look
    assert len(temporary) < 75  # multiprocessing makes sockets in it
    await run(manager, line, {9: b"multiprocess"})
    assert line.outputs[9] == b"[0, 1, 4, 9]"
    line.send({10: b"exit 0"})
    await manager.until(lambda: manager.exits, "the report")
    await eventually(lambda: not Path(temporary).exists(), "the end of the directory")


async def test_a_reused_process_keeps_nothing_that_its_last_application_asked_for(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    first = python(
        "services_under_test:Obedient", PYTHONPATH=HERE, ONLY="first", BOTH="first", PATH="/first"
    )
    line = await bound(manager, first, session=1)
    before = await variables(manager, line, "ONLY", "BOTH", "PATH")
    assert before == ["first", "first", "/first"]
    line.order(unbind=frames.Unbind())
    await manager.until(lambda: line.received("left"), "left")
    second = python("services_under_test:Obedient", PYTHONPATH=HERE, BOTH="second")
    result = await manager.bind(
        line, bind(second, incarnation=line.hello.incarnation + 1, session=2, session_id="s2")
    )
    assert (result.return_code, result.message) == (0, "")
    after = await variables(manager, line, "ONLY", "BOTH", "PATH")
    assert after == ["", "second", os.environ["PATH"]]


def test_what_a_session_changed_is_as_it_was_for_the_next_of_the_same_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("SAID", "by nobody")
    surroundings = Surroundings(assigned(tmp_path))
    application = ApplicationSpec(environments=(("SAID", "by it"), ("PYTHONPATH", "/of/it")))
    surroundings.arrange(application)
    path = list(sys.path)
    assert path[:2] == ["/of/it", str(tmp_path)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spoils: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: os.environ.pop("SAID"),
        lambda: os.environ.update(SAID="by its service"),
        lambda: os.chdir(elsewhere),
        lambda: sys.path.remove("/of/it"),
        lambda: sys.path.insert(0, "/of/its/service"),
    )
    for spoil in spoils:
        spoil()
        surroundings.arrange(application)
        assert os.environ["SAID"] == "by it"
        assert os.getcwd() == str(tmp_path)
        assert sys.path[:2] == path[:2]
        assert len(sys.path) <= len(path) + 1  # what the service added itself is its own
    surroundings.arrange(ApplicationSpec())
    assert "/of/it" not in sys.path
