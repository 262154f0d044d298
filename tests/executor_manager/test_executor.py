"""Executors under a fake session manager: the whole way from an order to a result."""

import io
import sys
import zipfile
from pathlib import Path

import cloudpickle
import pytest

from flame.model.specs import DEFAULT_MAX_INPUT_BYTES, ApplicationSpec, ShimKind
from flame.wire import frames
from tests.executor_manager.conftest import HERE, NodeProcess, running_node
from tests.executor_manager.manager import ExecutorLine, FakeManager, bind, python

OBEDIENT = python("services_under_test:Obedient", PYTHONPATH=HERE)


async def bound(
    manager: FakeManager, application: ApplicationSpec = OBEDIENT, **fields: object
) -> ExecutorLine:
    line = await manager.start()
    result = await manager.bind(
        line, bind(application, incarnation=line.hello.incarnation, **fields)
    )
    assert (result.return_code, result.message) == (0, "")
    return line


async def run(manager: FakeManager, line: ExecutorLine, inputs: dict[int, bytes | None]) -> None:
    line.send(inputs)
    await manager.until(lambda: inputs.keys() <= line.outputs.keys(), f"results of {list(inputs)}")


async def test_tasks_run_and_their_results_return(manager: FakeManager, node: NodeProcess) -> None:
    application = python("services_under_test:Upper", PYTHONPATH=HERE)
    line = await bound(manager, application, common_data=b">")
    await run(manager, line, {1: b"one", 2: None, 3: b""})
    assert line.outputs == {1: b">ONE", 2: None, 3: b">"}
    await run(manager, line, {i: b"x" * i for i in range(4, 5000)})
    assert all(line.outputs[i] == b">" + b"X" * i for i in range(4, 5000))


async def test_a_plain_function_is_a_service(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager, python("services_under_test:double", PYTHONPATH=HERE))
    await run(manager, line, {1: b"ab"})
    assert line.outputs == {1: b"abab"}


async def test_a_pickled_service_needs_no_module(manager: FakeManager, node: NodeProcess) -> None:
    greeting = b"hello "

    def greet(data: bytes | None) -> bytes:
        return greeting + (data or b"")

    line = await bound(
        manager, ApplicationSpec(shim=ShimKind.PYTHON, pickled_service=cloudpickle.dumps(greet))
    )
    await run(manager, line, {1: b"you"})
    assert line.outputs == {1: b"hello you"}


async def test_a_pickled_service_finds_the_modules_that_came_with_it(
    manager: FakeManager, node: NodeProcess
) -> None:
    def greet(data: bytes | None) -> bytes:
        from greetings.polite import GREETING  # type: ignore[import-not-found]

        return bytes(GREETING + (data or b""))

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("greetings/__init__.py", "")
        files.writestr("greetings/polite.py", "GREETING = b'good day '")
    application = ApplicationSpec(
        shim=ShimKind.PYTHON,
        pickled_service=cloudpickle.dumps(greet),
        pickled_with="{}.{}".format(*sys.version_info),
        local_modules=archive.getvalue(),
    )
    line = await bound(manager, application)
    await run(manager, line, {1: b"you"})
    assert line.outputs == {1: b"good day you"}


async def test_a_service_that_another_python_pickled_is_refused_with_both_versions(
    manager: FakeManager, node: NodeProcess
) -> None:
    application = ApplicationSpec(
        shim=ShimKind.PYTHON, pickled_service=cloudpickle.dumps(len), pickled_with="3.2"
    )
    line = await manager.start()
    result = await manager.bind(line, bind(application, incarnation=line.hello.incarnation))
    assert result.return_code == 11
    ours = "{}.{}".format(*sys.version_info)
    assert f"pickled by Python 3.2, and this executor runs Python {ours}" in result.message


async def test_a_task_that_raises_fails_with_its_traceback_and_the_next_one_runs(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    await run(manager, line, {1: b"fail the reason", 2: b"echo fine"})
    assert "ValueError: the reason" in line.failures[1]
    assert "services_under_test.py" in line.failures[1]
    assert "executor_manager/host.py" not in line.failures[1]  # our own frames explain nothing
    assert line.outputs[2] == b"fine"
    assert not line.failures.keys() - {1}


async def test_what_a_task_may_return(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager)
    limit = DEFAULT_MAX_INPUT_BYTES
    await run(
        manager,
        line,
        {
            1: b"number",
            2: b"array",
            3: b"large %d" % limit,
            4: b"large %d" % (limit + 1),
            5: b"interrupt",
            6: b"surrogate",
            7: b"echo alive",
        },
    )
    assert line.failures[1] == "on_task_invoke returned int; it must return bytes or None"
    assert line.outputs[2] == b"array"
    assert line.outputs[3] == bytes(limit)
    assert f"the output has {limit + 1} bytes; at most {limit} are allowed" in line.failures[4]
    assert "KeyboardInterrupt" in line.failures[5]
    assert "ValueError: ?" in line.failures[6]
    assert line.outputs[7] == b"alive"


async def test_the_attempt_is_visible(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager)
    line.send({1: b"attempt", 2: b"attempt"}, attempts=[1, 3])
    await manager.until(lambda: len(line.outputs) == 2, "both results")
    assert line.outputs == {1: b"1", 2: b"3"}
    assert list(line.received("results")[-1].attempts)[-1:] == [3]


@pytest.mark.parametrize(
    ("application", "code", "said"),
    [
        (python("services_under_test:RefusesToEnter", PYTHONPATH=HERE), 12, "no model here"),
        (python("services_under_test:Absent", PYTHONPATH=HERE), 11, "has no 'Absent'"),
        (python("no_such_module:Service"), 11, "No module named 'no_such_module'"),
        (ApplicationSpec(shim=ShimKind.CUSTOM), 11, "shim Custom with kind ''; this executor has"),
    ],
)
async def test_a_binding_that_fails_says_why(
    manager: FakeManager, node: NodeProcess, application: ApplicationSpec, code: int, said: str
) -> None:
    line = await manager.start()
    result = await manager.bind(line, bind(application))
    assert result.return_code == code
    assert said in result.message
    # The process is still good for another try.
    result = await manager.bind(line, bind(OBEDIENT))
    assert result.return_code == 0


async def test_unstarted_tasks_are_given_back_and_only_those(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    door = tmp_path / "door"
    line.send({1: f"until {door}".encode(), **dict.fromkeys(range(2, 8), b"echo x")})
    await manager.until(lambda: line.received("started"), "the report of the slow task")
    assert (line.received("started")[0].task_id, line.received("started")[0].attempt) == (1, 1)
    line.order(take_back=frames.TakeBack(request=5, count=2))
    line.order(take_back=frames.TakeBack(request=6, task_ids=[1, 3, 99]))
    await manager.until(lambda: len(line.received("taken_back")) == 2, "both answers")
    first, second = line.received("taken_back")
    assert (first.request, set(first.task_ids)) == (5, {6, 7})
    assert (second.request, list(second.task_ids)) == (6, [3])  # 1 runs, 99 never was here
    door.touch()
    await manager.until(lambda: len(line.outputs) == 4, "the rest")
    assert line.outputs.keys() == {1, 2, 4, 5}


async def test_a_slow_task_is_reported_though_one_of_its_number_was_in_the_last_session(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    line.send({1: b"until_cancelled"})
    await manager.until(lambda: line.received("started"), "the start")
    line.order(cancel=frames.CancelTasks(task_ids=[1]))
    await manager.until(lambda: 1 in line.outputs, "the result")
    line.order(unbind=frames.Unbind())
    await manager.until(lambda: line.received("left"), "left")
    await manager.bind(line, bind(OBEDIENT, incarnation=9, session=2))
    line.send({1: b"until_cancelled"})
    await manager.until(lambda: len(line.received("started")) == 2, "the start of the other one")


async def test_a_result_does_not_wait_for_the_long_task_behind_it(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    for task in range(1, 20, 3):
        await run(manager, line, {task: b"echo just before"})
        door = tmp_path / f"door {task}"
        line.send({task + 1: b"echo quick", task + 2: f"until {door}".encode()})
        await manager.until(lambda task=task: task + 1 in line.outputs, "the result")  # type: ignore[misc]
        assert task + 2 not in line.outputs
        door.touch()
        await manager.until(lambda task=task: task + 2 in line.outputs, "the end")  # type: ignore[misc]


async def test_short_tasks_are_not_reported_as_started(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    await run(manager, line, dict.fromkeys(range(1, 200), b"echo x"))
    assert not line.received("started")


async def test_the_window_grows_for_short_tasks_and_shrinks_for_a_long_one(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    assert line.windows == [2]
    for first in range(1, 2000, 100):
        await run(manager, line, dict.fromkeys(range(first, first + 100), b"echo x"))
    assert line.windows[-1] > 100
    line.send({5000: f"until {tmp_path / 'door'}".encode()})
    await manager.until(lambda: line.windows[-1] == 2, "the window of a long task")
    (tmp_path / "door").touch()
    await manager.until(lambda: 5000 in line.outputs, "its result")


async def test_a_service_sees_that_its_task_is_cancelled(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    line.send({1: b"until_cancelled"})
    await manager.until(lambda: line.received("started"), "the start")
    line.order(cancel=frames.CancelTasks(task_ids=[1]))
    await manager.until(lambda: 1 in line.outputs, "the result")
    assert line.outputs[1] == b"cancelled"


async def test_unbind_finishes_what_is_held_then_leaves(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    application = python("services_under_test:Tidy", PYTHONPATH=HERE)
    line = await bound(manager, application, common_data=str(tmp_path / "tidy").encode())
    line.store = False
    line.send(dict.fromkeys(range(1, 4), b"echo x"))
    line.order(unbind=frames.Unbind())
    await manager.until(lambda: len(line.outputs) == 3, "the results")
    assert not line.received("left")  # its results are not stored yet
    line.order(results_stored=frames.ResultsStored(sequence=line.sequences[-1]))
    await manager.until(lambda: line.received("left"), "left")
    assert line.received("left")[0].incarnation == line.hello.incarnation
    assert (tmp_path / "tidy").read_text() == "left"
    # A reused process has a new incarnation and starts counting anew.
    result = await manager.bind(line, bind(OBEDIENT, incarnation=9, session=2))
    assert (result.incarnation, result.return_code) == (9, 0)
    line.store = True
    line.outputs.clear()
    await run(manager, line, {1: b"echo again"})
    assert line.outputs == {1: b"again"}
    assert line.sequences[-1] == 1


async def test_tasks_that_come_with_a_binding_are_done_once_it_is_entered(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    assert line.hello.takes_early_tasks
    await run(manager, line, {1: b"echo of the first session"})
    line.frames.clear()
    line.outputs.clear()
    application = python("services_under_test:Upper", PYTHONPATH=HERE)
    line.order(bind=bind(application, incarnation=9, session=2, common_data=b">"))
    await run(manager, line, {1: b"a", 2: b"b"})
    assert line.outputs == {1: b">A", 2: b">B"}
    kinds = [frame.WhichOneof("frame") for frame in line.frames]
    assert kinds.index("bind_result") < kinds.index("results")
    assert line.received("results")[0].sequence == 1


async def test_tasks_that_come_with_a_binding_that_fails_are_not_done(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    line.order(
        bind=bind(python("services_under_test:RefusesToEnter", PYTHONPATH=HERE), incarnation=9)
    )
    line.send({1: b"echo never"})
    await manager.until(lambda: len(line.received("bind_result")) == 2, "the bind's result")
    assert line.received("bind_result")[-1].return_code == 12
    await manager.bind(line, bind(OBEDIENT, incarnation=10, session=2))
    await run(manager, line, {2: b"echo fine"})
    assert line.outputs == {2: b"fine"}


async def test_an_entry_is_told_though_its_first_task_is_long(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    line.order(bind=bind(OBEDIENT, incarnation=9, session=2))
    door = tmp_path / "door"
    line.send({1: f"until {door}".encode()})
    await manager.until(lambda: len(line.received("bind_result")) == 2, "the bind's result")
    assert not line.outputs
    door.touch()
    await manager.until(lambda: 1 in line.outputs, "the result")


async def test_one_that_is_told_to_leave_while_it_enters_gives_tasks_up_and_leaves_behind_that(
    manager: FakeManager, node: NodeProcess, tmp_path: Path
) -> None:
    line = await bound(manager)
    path = tmp_path / "tidy"
    application = python("services_under_test:Waits", PYTHONPATH=HERE)
    line.order(bind=bind(application, incarnation=9, session=2, common_data=str(path).encode()))
    line.send({1: b"echo never", 2: b"echo never"})
    line.order(take_back=frames.TakeBack(request=5, count=2))
    line.order(unbind=frames.Unbind())
    await manager.until(lambda: line.received("taken_back"), "the tasks")
    assert set(line.received("taken_back")[0].task_ids) == {1, 2}
    assert not line.received("left")
    (tmp_path / "open").touch()
    await manager.until(lambda: line.received("left"), "left")
    assert path.read_text() == "left"
    assert not line.outputs


async def test_a_manager_that_counts_windows_is_told_with_the_results(tmp_path: Path) -> None:
    async with FakeManager() as manager, running_node(manager, tmp_path / "node"):
        manager.counts_windows = True
        line = await bound(manager)
        for first in range(1, 2000, 100):
            await run(manager, line, dict.fromkeys(range(first, first + 100), b"echo x"))
        assert line.windows[-1] > 100
        assert not line.received("window")
        line.windows.clear()
        await manager.bind(line, bind(OBEDIENT, incarnation=9, session=2))
        assert line.windows == []  # that it is at most 128 again is known


async def test_a_new_stream_hears_what_is_held_and_gets_unstored_results_again(
    tmp_path: Path,
) -> None:
    async with FakeManager() as first, running_node(first, tmp_path / "node"):
        line = await bound(first)
        line.store = False
        await run(first, line, {1: b"echo one"})
        await run(first, line, {2: b"fail two"})
        door = tmp_path / "door"
        line.send({3: f"until {door}".encode(), 4: b"echo four"})
        await first.until(lambda: line.received("started"), "the start of task 3")
        await first.stop()
        async with FakeManager(port=first.port) as second:
            again = await second.line("e1", line.hello.incarnation)
            assert again.hello.bound
            assert again.hello.session == 1
            in_hand = dict(zip(again.hello.task_ids, again.hello.attempts, strict=True))
            assert in_hand == {1: 1, 2: 1, 3: 1, 4: 1}
            assert again.hello.running == 3
            await second.until(lambda: again.outputs.keys() == {1, 2}, "the unstored results")
            assert again.sequences == line.sequences
            # Sent again, as a manager does that is not sure: what is held stays where it is.
            again.send({3: b"echo wrong", 4: b"echo wrong"})
            door.touch()
            await second.until(lambda: len(again.outputs) == 4, "all results")
            assert again.outputs[4] == b"four"
            await second.until(lambda: second.registrations, "the node's registration")
            assert [e.executor for e in second.registrations[0].executors] == ["e1"]


async def test_a_forked_child_that_returns_from_its_task_takes_no_part(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    # Often, as libraries that hook fork() fail now and then.
    for first in range(1, 120, 3):
        inputs: dict[int, bytes | None] = {
            first: b"fork",
            first + 1: b"echo x",
            first + 2: b"echo y",
        }
        await run(manager, line, inputs)
        assert [line.outputs[i] for i in inputs] == [b"parent 1", b"x", b"y"]


async def test_services_do_not_see_the_operators_token(
    manager: FakeManager, node: NodeProcess
) -> None:
    line = await bound(manager)
    await run(manager, line, {1: b"environment FLAME_TOKEN", 2: b"environment PATH"})
    assert line.outputs[1] == b""
    assert line.outputs[2] != b""


async def test_a_refused_executor_ends(manager: FakeManager, node: NodeProcess) -> None:
    line = await bound(manager)
    line.order(refusal=frames.Refusal(code="PermissionDenied", message="over", closing=True))
    await manager.until(lambda: manager.exits, "the report of its end")
    assert (manager.exits[0].cause, manager.exits[0].exit_code) == ("exit", 0)
