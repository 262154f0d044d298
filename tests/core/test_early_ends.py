"""Cancels, timeouts, deadlines, clients that vanish: one outcome each, and no service goes on for ever."""

from typing import Any

from flame.core import effects, events
from flame.core.sessions import FIRST_ATTACH
from flame.core.state import Limits
from flame.model.ids import TaskId
from flame.model.specs import EventCode, ExecutorState, SessionState, TaskLimits
from tests.core.builders import Bench, bench, running

GRACE = Limits().cancel_grace


def outcome(b: Bench, task: int) -> tuple[int, str]:
    """The code and message of a task that did not succeed; (0, "") of one that did."""
    for sent in b.took(effects.SendOutcomes):
        for index, task_id in enumerate(sent.task_ids):
            if task_id == task:
                failure = sent.failures.get(index)
                return (failure[1], failure[2]) if failure else (0, "")
    raise AssertionError(f"task {task} has no outcome")


# --- timeouts ----------------------------------------------------------------------------------


def test_a_task_that_runs_for_too_long_fails_and_its_service_is_told() -> None:
    b = running(2, task_timeout_ms=1000)
    b.started(1)
    b.later(0.9)
    assert b.session().running == 1
    b.later(0.2)
    code, message = outcome(b, 1)
    assert code == EventCode.TIMED_OUT
    assert "1 s" in message
    assert [(s.executor, list(s.task_ids)) for s in b.took(effects.SendCancel)] == [("e1", [1])]
    assert b.session().failed == 1


def test_the_time_that_a_task_waits_does_not_count() -> None:
    b = running(1, task_timeout_ms=1000)
    b.later(10.0)
    b.started(1)
    b.later(0.5)
    b.finish(1)
    assert b.session().succeeded == 1


def test_each_task_has_the_whole_time() -> None:
    b = running(2, task_timeout_ms=1000)
    b.started(1)
    b.later(0.7)
    b.finish(1)
    b.started(2)
    b.later(0.7)
    b.finish(2, sequence=2)
    assert b.session().succeeded == 2


def test_a_service_that_does_not_return_is_replaced_after_the_grace_period() -> None:
    b = running(2, task_timeout_ms=1000)
    b.started(1)
    b.later(1.0)
    b.took(effects.StopExecutor)
    b.later(GRACE - 0.1)
    assert b.took(effects.StopExecutor) == []
    b.later(0.2)
    (stop,) = b.took(effects.StopExecutor)
    assert (stop.executor, stop.grace) == ("e1", 0.0)
    b.exited(task=1)
    b.bind("e2")
    assert b.handed("e2") == [2]  # which was in hand behind it, and costs nothing
    assert b.session().live[TaskId(2)].attempts == 0


def test_a_service_that_returns_in_time_goes_on() -> None:
    b = running(2, task_timeout_ms=1000)
    b.started(1)
    b.later(1.1)
    b.finish(1)
    b.later(GRACE + 1)
    assert b.states() == {"e1": ExecutorState.BOUND}
    b.finish(2, sequence=2)
    assert (b.session().failed, b.session().succeeded) == (1, 1)


def test_a_result_that_comes_after_the_timeout_changes_nothing() -> None:
    b = running(1, task_timeout_ms=1000)
    b.started(1)
    b.later(1.1)
    assert outcome(b, 1)[0] == EventCode.TIMED_OUT
    b.finish(1)
    assert b.told() == []
    assert (b.session().failed, b.session().succeeded) == (1, 0)


def test_a_task_that_keeps_its_process_from_speaking_is_ended_too() -> None:
    """It holds the interpreter, say: no word that it started, then silence."""
    b = running(2, task_timeout_ms=1000)
    b.disconnected()
    b.later(1.1)
    assert outcome(b, 1)[0] == EventCode.TIMED_OUT
    b.later(GRACE)
    assert [s.executor for s in b.took(effects.StopExecutor)] == ["e1"]


def test_a_restarted_manager_knows_for_how_long_a_task_has_run() -> None:
    b = running(1, task_timeout_ms=60_000)
    b.started(1)
    b = b.restart()
    b.attach()
    executor = b.executor()
    b.node(executors=[(executor.id, executor.process)])
    b.post(
        events.ExecutorConnected(
            executor.id,
            executor.incarnation,
            True,
            b.session().number,
            2,
            [TaskId(1)],
            [1],
            TaskId(1),
            59.0,
        )
    )
    b.later(1.5)
    assert outcome(b, 1)[0] == EventCode.TIMED_OUT


# --- deadlines ---------------------------------------------------------------------------------


def test_a_task_that_is_not_final_in_time_fails_whether_it_waits_or_runs() -> None:
    b = running(4, deadline_ms=2000)
    b.started(1)
    b.later(1.0)
    b.submit(b"late", first=4)
    b.later(1.1)
    assert sorted(t for _, t in b.told()) == [1, 2, 3, 4]
    assert b.session().failed == 4
    b.later(1.0)
    assert b.session().failed == 5


def test_a_deadline_holds_through_a_restart() -> None:
    b = bench()
    b.open("d", deadline_ms=10_000)
    b.attach(2, "d")
    b.submit(b"x", attachment=2)
    b = b.restart()
    b.later(10.0)
    assert b.session("d").failed == 1


def test_a_task_in_time_does_not_notice_its_deadline() -> None:
    b = running(1, deadline_ms=2000)
    b.finish(1)
    b.later(10.0)
    assert (b.session().succeeded, b.session().failed) == (1, 0)


# --- cancels -----------------------------------------------------------------------------------


def test_a_cancelled_task_that_goes_on_costs_its_executor() -> None:
    b = running(1)
    b.started(1)
    b.post(events.CancelTasks(1, [TaskId(1)], "cancel"))
    assert b.session().cancelled == 1
    b.later(GRACE + 0.1)
    assert [s.executor for s in b.took(effects.StopExecutor)] == ["e1"]


def test_a_cancelled_task_that_had_not_started_costs_nothing() -> None:
    b = running(2)
    b.started(1)
    b.post(events.CancelTasks(1, [TaskId(2)], "cancel"))
    b.take_back(2)
    b.later(GRACE + 0.1)
    assert b.states() == {"e1": ExecutorState.BOUND}
    assert b.session().cancelled == 1


def test_a_restarted_manager_ends_a_task_that_is_final_and_goes_on() -> None:
    b = running(2)
    b.started(1)
    b.post(events.CancelTasks(1, [TaskId(1)], "cancel"))
    b = b.restart()
    b.attach()
    executor = b.executor()
    b.node(executors=[(executor.id, executor.process)])
    b.hello(bound=True, held=[1, 2], running=1)
    assert [list(s.task_ids) for s in b.took(effects.SendCancel)] == [[1]]
    b.later(GRACE + 0.1)
    assert [s.executor for s in b.took(effects.StopExecutor)] == ["e1"]
    assert b.session().queued == 1


# --- clients that vanish -----------------------------------------------------------------------


def test_a_session_outlives_its_client_by_default() -> None:
    b = bench()
    b.post(events.Detach(1))
    b.later(100_000.0)
    assert b.session().state is SessionState.OPEN


def test_a_session_is_closed_some_time_after_its_last_client_if_it_says_so() -> None:
    b = running(1, client_lost_ms=5000)
    b.started(1)
    b.attach(2)
    b.post(events.Detach(1))
    b.later(60.0)
    assert b.session().state is SessionState.OPEN
    b.post(events.Detach(2))
    b.later(4.9)
    assert b.session().state is SessionState.OPEN
    b.later(0.2)
    session = b.session()
    assert (session.state, session.cancelled) == (SessionState.CLOSED, 1)
    assert session.events[-1].code == EventCode.CLIENT_LOST


def test_a_client_that_comes_back_in_time_keeps_its_session() -> None:
    b = running(1, client_lost_ms=5000)
    b.post(events.Detach(1))
    b.later(4.0)
    b.attach(2)
    b.later(60.0)
    assert b.session().state is SessionState.OPEN


def test_a_session_to_which_nobody_ever_attached_is_closed_too() -> None:
    b = bench()
    b.open("never", client_lost_ms=0)
    b.later(FIRST_ATTACH - 0.1)
    assert b.session("never").state is SessionState.OPEN
    b.later(0.2)
    assert b.session("never").state is SessionState.CLOSED


# --- a task's own limits -----------------------------------------------------------------------


def limited(*limits: TaskLimits | None, **spec: Any) -> Bench:
    """Tasks with these limits, in the hands of an executor."""
    b = Bench()
    b.register()
    b.open(**spec)
    b.attach()
    b.node()
    b.submit_limited(*limits)
    b.bind(window=len(limits))
    return b


def test_a_tasks_own_timeout_counts_instead_of_its_sessions() -> None:
    b = limited(TaskLimits(timeout_ms=300), TaskLimits(timeout_ms=5000), None, task_timeout_ms=1000)
    for task, runs in ((1, 0.3), (2, 5.0), (3, 1.0)):
        b.started(task)
        b.later(runs - 0.1)
        assert b.session().failed == task - 1
        b.later(0.2)
        code, message = outcome(b, task)
        assert code == EventCode.TIMED_OUT
        assert f"{runs:g} s" in message
        b.finish(task, sequence=task)


def test_only_the_task_with_a_timeout_has_one() -> None:
    b = limited(TaskLimits(timeout_ms=300), None)
    b.started(1)
    b.later(0.4)
    assert outcome(b, 1)[0] == EventCode.TIMED_OUT
    b.finish(1)
    b.started(2)
    b.later(60.0)
    assert (b.session().failed, b.session().running) == (1, 1)


def test_a_tasks_own_deadline_counts_instead_of_its_sessions() -> None:
    b = bench()
    b.open("d", deadline_ms=1000)
    b.attach(2, name="d")
    b.submit_limited(TaskLimits(deadline_ms=5000), None, TaskLimits(deadline_ms=300), attachment=2)
    b.later(0.5)
    assert list(b.session("d").live) == [1, 2]
    b.later(0.6)
    assert list(b.session("d").live) == [1]
    b.later(4.0)
    code, message = outcome(b, 1)
    assert code == EventCode.DEADLINE_PASSED
    assert "5 s after its creation, its own deadline" in message
    assert b.session("d").limits == {}


def test_own_deadlines_are_kept_by_a_session_without_one_whatever_their_order() -> None:
    b = bench()
    b.submit_limited(TaskLimits(deadline_ms=9000), None)
    b.submit_limited(TaskLimits(deadline_ms=2000), first=2)
    b.later(2.5)
    assert list(b.session().live) == [1, 2]
    b.later(7.0)
    assert list(b.session().live) == [2]


def test_limits_survive_a_restart_with_their_tasks() -> None:
    b = bench()
    b.submit_limited(None, TaskLimits(deadline_ms=2000), TaskLimits(timeout_ms=70))
    b = b.restart()
    assert b.session().limits == {2: TaskLimits(0, 2000), 3: TaskLimits(70, 0)}
    b.later(2.1)
    assert list(b.session().live) == [1, 3]


def test_what_was_submitted_before_keeps_its_limits_when_it_comes_again_with_more() -> None:
    b = bench()
    b.submit_limited(TaskLimits(timeout_ms=1), None)
    b.submit_limited(TaskLimits(timeout_ms=5), None, TaskLimits(timeout_ms=3))
    assert b.session().limits == {1: TaskLimits(1, 0), 3: TaskLimits(3, 0)}
