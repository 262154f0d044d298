"""Which task goes to which executor."""

from flame.core import effects, events
from flame.core.state import Limits
from flame.model.ids import ExecutorId
from flame.model.specs import ExecutorState
from tests.core.builders import Bench, bench, running


def two_executors(tasks: int, *, window: int = 2) -> Bench:
    b = bench()
    b.node(slots=2)
    b.submit(*[b"x"] * tasks)
    b.bind("e1", window=window)
    b.bind("e2", window=window)
    return b


def test_an_executor_gets_no_more_than_its_window() -> None:
    b = running(5, window=3)
    assert b.handed() == [1, 2, 3]


def test_an_executor_with_an_empty_window_gets_nothing_until_it_opens() -> None:
    b = running(1, window=0)
    assert b.handed() == []
    executor = b.executor()
    b.post(events.WindowChanged(executor.id, executor.incarnation, 1))
    assert b.handed() == [1]


def test_the_end_of_a_session_is_spread_over_all_its_executors() -> None:
    b = bench()
    b.node(slots=2)
    b.submit(*[b"x"] * 8)
    b.bind("e1", window=20)
    assert len(b.handed("e1")) == 4  # its share: another one is on its way
    b.bind("e2", window=20)
    assert len(b.handed("e2")) == 2


def test_a_few_quick_tasks_go_to_one_executor_in_one_frame() -> None:
    """A window of 100 means that six tasks take a fraction of a millisecond."""
    b = two_executors(2, window=100)
    for name in ("e1", "e2"):
        b.finish(*b.executor(name).held, name=name)
    b.submit(*[b"x"] * 6, first=2)
    assert sorted(len(b.executor(name).held) for name in ("e1", "e2")) == [0, 6]


def test_tasks_are_handed_out_in_the_order_of_their_ids() -> None:
    b = running(6, window=2)
    assert b.handed() == [1, 2]
    b.finish(1, 2)
    assert b.handed() == [3, 4]


def test_a_disconnected_executor_gets_nothing() -> None:
    b = running(3, window=1)
    b.handed()
    b.disconnected()
    b.submit(b"y", first=3)
    assert b.handed() == []


def test_take_back_asks_first_and_requeues_only_what_was_given_up() -> None:
    """Two phases: what the executor has started meanwhile stays with it."""
    b = running(4, window=4)
    b.state.nodes[b.executor().node].capacity *= 2
    b.state.touch_node(b.executor().node)
    b.state.replan = True
    assert b.handed() == [1, 2, 3, 4]
    b.submit(b"x", first=4)  # a change triggers the plan: a second executor comes
    b.bind("e2", window=4)
    assert b.handed("e2") == [5]
    b.finish(5, name="e2")
    b.started(1)
    (asked,) = b.took(effects.SendTakeBack)
    assert (asked.executor, asked.count) == ("e1", 2)
    b.take_back(4)
    assert b.handed("e2") == [4]
    assert set(b.executor("e1").held) == {1, 2, 3}
    assert all(t.attempts == 0 for t in b.session().live.values())


def test_an_idle_executor_gets_work_when_another_turns_out_to_be_slow() -> None:
    b = two_executors(2, window=20)
    b.submit(*[b"x"] * 6, first=2)
    assert len(b.executor("e1").held) == len(b.executor("e2").held) == 4
    b.finish(*b.executor("e2").held, name="e2")
    assert b.took(effects.SendTakeBack) == []  # a few quick tasks: not worth it
    e1 = b.executor("e1")
    b.post(events.WindowChanged(e1.id, e1.incarnation, 2))
    assert [t.executor for t in b.took(effects.SendTakeBack)] == ["e1"]


def _out_of_work_while_the_other_is_asked() -> Bench:
    """e2 has nothing to do until e1, which is slow to answer, gives tasks up; the session wants more."""
    b = two_executors(2, window=20)
    b.submit(*[b"x"] * 6, first=2)
    e1 = b.executor("e1")
    b.post(events.WindowChanged(e1.id, e1.incarnation, 2))
    b.finish(*b.executor("e2").held, name="e2")
    assert [t.executor for t in b.took(effects.SendTakeBack)] == ["e1"]
    assert not b.executor("e2").held
    return b


def test_an_idle_executor_stays_however_long_another_takes_to_give_tasks_up() -> None:
    b = _out_of_work_while_the_other_is_asked()
    assert b.state.waiting  # the session itself
    b.later(1.0)
    assert b.states() == {"e1": ExecutorState.BOUND, "e2": ExecutorState.BOUND}


def test_an_idle_executor_goes_to_a_session_that_waits_when_another_takes_long() -> None:
    b = _out_of_work_while_the_other_is_asked()
    b.open("other")
    b.attach(2, "other", submitter=b"another one's id")
    b.submit(b"y", attachment=2)
    b.later(1.0)
    assert b.states()["e2"] is ExecutorState.UNBINDING


def test_an_idle_executor_is_not_let_go_while_others_hold_as_many_tasks_as_there_are_executors() -> (
    None
):
    """Without a delay it would be bound again in the same moment, and let go again, and so on."""
    b = Bench()
    b.register(delay_release=0.0)
    b.open()
    b.attach(1)
    b.node(slots=2)
    b.submit(*[b"x"] * 2)
    b.bind("e1", window=20)
    b.bind("e2", window=20)
    b.submit(*[b"x"] * 6, first=2)
    e1 = b.executor("e1")
    b.post(events.WindowChanged(e1.id, e1.incarnation, 2))
    b.finish(*b.executor("e2").held, name="e2")
    (asked,) = b.took(effects.SendTakeBack)
    b.post(events.TasksTakenBack(e1.id, e1.incarnation, asked.request, []))
    b.later(1.0)
    assert b.states() == {"e1": ExecutorState.BOUND, "e2": ExecutorState.BOUND}
    assert not b.executor("e2").standby


def test_a_task_taken_back_goes_out_again_before_later_ones() -> None:
    b = running(6, window=3)
    assert b.handed() == [1, 2, 3]
    executor = b.executor()
    b.post(events.TasksTakenBack(executor.id, executor.incarnation, 0, [3, 2]))  # type: ignore[list-item]
    assert b.handed() == [2, 3]


def test_a_hand_out_is_bounded_in_bytes() -> None:
    b = bench(limits=Limits(max_input_bytes=8 << 20))
    b.node()
    b.submit(*[b"x" * (4 << 20)] * 3)
    b.bind(window=100)
    assert len(b.handed(ExecutorId("e1"))) == 3 or b.session().queued == 0


def test_a_change_of_the_window_of_an_executor_without_session_is_harmless() -> None:
    b = running(1, standby=0)
    b.finish(1)
    b.later(31.0)
    executor = b.executor()
    assert executor.state is ExecutorState.UNBINDING
    b.left()
    b.post(events.WindowChanged(executor.id, executor.incarnation, 9))
    assert b.handed() == [1]  # only the hand-out from before
