"""A warm executor whose service enters at once is handed tasks together with its binding."""

import pytest

from flame.core import effects, events
from flame.core.executor import LEAVE_TIMEOUT, QUICK_ENTER
from flame.core.leaving import unbind
from flame.core.records import LeaseLost
from flame.model.ids import TaskId
from flame.model.specs import EventCode, ExecutorState
from tests.core.builders import Bench


def handed_over(*, took: float = 0.001, takes_early: bool = True) -> Bench:
    """The only executor has done session s's task, and is told to enter next, which has two."""
    b = Bench()
    b.register(reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.hello(takes_early=takes_early)
    b.now += took
    b.entered()
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", b"z", attachment=2)
    b.handed()
    b.effects.clear()
    b.finish(1)
    return b


def kinds(b: Bench) -> list[type]:
    return [type(e) for e in b.effects if isinstance(e, effects.SendBind | effects.SendTasks)]


def test_tasks_follow_the_order_to_enter() -> None:
    b = handed_over()
    assert kinds(b) == [effects.SendBind, effects.SendTasks]
    assert b.handed() == [1, 2]
    b.entered()
    assert b.handed() == []
    b.finish(1, 2)
    assert b.told(2) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("took", "takes_early"), [(2 * QUICK_ENTER, True), (0.001, False)], ids=["slow", "older"]
)
def test_a_service_that_enters_slowly_or_a_process_that_cannot_gets_them_when_it_has_entered(
    took: float, takes_early: bool
) -> None:
    b = handed_over(took=took, takes_early=takes_early)
    assert kinds(b) == [effects.SendBind]
    b.entered()
    assert b.handed() == [1, 2]


def test_a_binding_that_fails_gives_them_back_unspent() -> None:
    b = handed_over()
    b.entered(code=12)
    session = b.session("next")
    assert [t.attempts for t in session.live.values()] == [0, 0]
    assert session.queued == 2
    assert b.stored(LeaseLost) == []
    assert any(e.code == EventCode.BIND_FAILED for e in session.events)


def test_what_was_cancelled_meanwhile_is_not_given_back() -> None:
    b = handed_over()
    b.post(events.CancelTasks(2, [TaskId(1)], "cancel"))
    b.entered(code=12)
    assert b.session("next").queued == 1


def test_a_process_that_comes_back_while_it_enters_keeps_what_it_has() -> None:
    b = handed_over()
    b.handed()
    b.disconnected()
    b.hello(held=[1, 2], takes_early=True)
    assert b.handed() == []
    b.entered()
    b.finish(1, 2)
    assert b.told(2) == [(0, 1), (1, 2)]


def test_one_that_missed_its_binding_gets_it_again_with_the_tasks() -> None:
    b = handed_over()
    b.effects.clear()
    b.disconnected()
    b.hello(bound=True, held=[1], incarnation=b.executor().incarnation - 1, takes_early=True)
    assert kinds(b) == [effects.SendBind, effects.SendTasks]
    assert b.handed() == [1, 2]
    assert b.stored(LeaseLost) == []


def test_a_restarted_manager_learns_what_came_with_the_binding() -> None:
    b = handed_over()
    other = b.restart()
    other.node(executors=[(other.executor().id, other.executor().process)])
    other.hello(held=[1, 2], takes_early=True)
    assert list(other.executor().held) == [1, 2]
    assert other.handed() == []
    other.entered()
    other.finish(1, 2)
    assert other.session("next").succeeded == 2


def test_a_death_in_a_task_before_its_word_of_having_entered_is_the_tasks_and_no_failed_binding() -> (
    None
):
    b = handed_over()
    b.exited(task=1)
    session = b.session("next")
    assert [session.live[i].attempts for i in (1, 2)] == [1, 0]  # type: ignore[index]
    assert not session.events


def test_one_that_has_to_leave_before_it_has_entered_stays_warm() -> None:
    b = handed_over()
    unbind(b.state, b.executor(), b.now)
    assert b.executor().state is ExecutorState.UNBINDING
    b.entered()
    b.take_back(1, 2)
    b.left()
    assert b.executor().state in (ExecutorState.IDLE, ExecutorState.BINDING)
    b.later(2 * LEAVE_TIMEOUT)
    assert b.took(effects.StopExecutor) == []


def test_one_that_has_to_leave_and_hangs_is_stopped_without_blame() -> None:
    b = handed_over()
    unbind(b.state, b.executor(), b.now)
    b.later(LEAVE_TIMEOUT + 1)
    assert len(b.took(effects.StopExecutor)) == 1
    session = b.session("next")
    assert not session.events
    assert [t.attempts for t in session.live.values()] == [0, 0]


def test_a_hang_in_enter_gives_them_to_others() -> None:
    b = handed_over()
    b.later(130.0)
    session = b.session("next")
    assert any(e.code == EventCode.BIND_FAILED for e in session.events)
    assert [t.attempts for t in session.live.values()] == [0, 0]


def test_a_session_that_is_closed_takes_them_back_and_ends() -> None:
    b = handed_over()
    b.close("next")
    b.take_back(1, 2)
    b.entered()
    b.left()
    assert b.answers["close"] is not None
    assert b.session("next").executors == {}


def test_its_window_is_small_again_without_a_word() -> None:
    b = Bench()
    b.register(reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.hello(window=1000, takes_early=True)
    b.now += 0.001
    b.entered()
    b.open("next")
    b.attach(2, "next")
    b.submit(*[b"y"] * 500, attachment=2)
    b.handed()
    b.finish(1)
    assert len(b.handed()) == 128
