"""A restart is a non-event."""

from flame.core import effects, events
from flame.core.executor import RECONNECT_TIMEOUT
from flame.core.node import RESTART_GRACE
from flame.core.records import BindingPut, LeaseLost
from flame.core.views import node_view
from flame.model.ids import DEFAULT_TENANT, ExecutorId, SessionNumber, TaskId
from flame.model.resources import Resources
from flame.model.specs import Durability, ExecutorState, SessionState
from tests.core.builders import Bench, running


def restarted(tasks: int = 3, **options: int) -> tuple[Bench, int]:
    """A manager that comes up while executor e1 holds the first two tasks."""
    b = running(tasks)
    incarnation = b.executor().incarnation
    return b.restart(), incarnation


def test_pending_tasks_come_back_in_order_with_their_inputs() -> None:
    b, _ = restarted()
    assert [t.input for t in b.session().live.values()] == [b"in 1", b"in 2", b"in 3"]


def test_nothing_is_handed_out_before_an_executor_told_what_it_holds() -> None:
    b, incarnation = restarted()
    b.node("other")
    b.state.replan = True
    b.bind("e100", window=9)
    assert b.handed("e100") == []
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.hello(bound=True, held=[1, 2])
    assert b.handed("e100") == [3]
    assert set(b.executor("e1").held) == {1, 2}


def test_a_node_that_is_not_back_has_nothing_to_give_rather_than_less() -> None:
    b, _ = restarted()
    (node,) = b.state.nodes.values()
    assert not node.used.fits_in(node.capacity)
    assert node_view(b.state, node).allocatable == Resources()


def test_results_that_were_on_their_way_are_taken() -> None:
    b, incarnation = restarted()
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.hello(bound=True, held=[1, 2])
    b.attach(2)
    b.finish(1, 2, sequence=7)
    assert b.told(2) == [(0, 1), (1, 2)]
    assert 7 in [e.sequence for e in b.took(effects.SendResultsStored)]


def test_a_result_that_was_stored_before_the_restart_is_not_recorded_again() -> None:
    b = running(2)
    b.finish(1)
    after = b.restart()
    after.node(executors=[(ExecutorId("e1"), b.executor().incarnation)])
    after.hello(bound=True, held=[1, 2])
    after.finish(1, sequence=1)
    assert after.session().log_end == 1
    assert [e.sequence for e in after.took(effects.SendResultsStored)][-1] == 1


def test_tasks_are_free_when_their_node_does_not_come_back() -> None:
    b, _ = restarted()
    b.node("other")
    b.state.replan = True
    b.bind("e100", window=9)
    b.later(RESTART_GRACE - 1.0)
    assert b.handed("e100") == []
    b.later(2.0)
    assert b.handed("e100") == [1, 2, 3]
    assert [r.executor for r in b.stored(LeaseLost)] == ["e1"]


def test_tasks_are_free_when_the_executor_does_not_come_back_to_its_node() -> None:
    b, incarnation = restarted()
    b.node(slots=2, executors=[(ExecutorId("e1"), incarnation)])
    b.bind("e100", window=9)
    assert b.handed("e100") == []
    b.later(RECONNECT_TIMEOUT + 1.0)
    assert b.handed("e100") == [1, 2, 3]


def test_an_executor_that_has_not_reported_is_not_taken_from_its_session() -> None:
    """It may be at work: taking it would give its tasks to others while it runs them."""
    b, incarnation = restarted()
    b.open("other", priority=5)
    b.attach(2, "other")
    b.node("small", executors=[])
    b.submit(b"x", b"y", attachment=2)
    assert b.states()["e1"] is ExecutorState.BINDING
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.submit(b"z", attachment=2, first=2)
    assert b.states()["e1"] is ExecutorState.BINDING


def test_the_task_that_ran_when_its_executor_died_during_a_restart_is_charged() -> None:
    """Else a task that kills executors and managers alike would never run out of attempts."""
    b, incarnation = restarted()
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.exited("e1", task=1)
    assert {t.id: t.attempts for t in b.session().live.values()} == {1: 1, 2: 0, 3: 0}
    (lost,) = b.stored(LeaseLost)
    assert (lost.charged, lost.attempt) == (1, 1)


def test_attempts_survive_a_restart() -> None:
    b = running(1)
    b.exited(task=1)
    after = b.restart()
    assert [t.attempts for t in after.session().live.values()] == [1]


def test_an_executor_with_a_task_that_a_loss_of_power_took_is_replaced() -> None:
    """It holds the third task of before, and the third one now is another."""
    b, incarnation = restarted(2)
    b.attach(submitter=b"another one's id")
    b.submit(b"something else")
    b.node(slots=2, executors=[(ExecutorId("e1"), incarnation)])
    b.hello(bound=True, held=[1, 2, 3], running=3)
    assert b.states()["e1"] is ExecutorState.RELEASING
    [stop] = b.took(effects.StopExecutor)
    assert (stop.executor, stop.grace) == ("e1", 0.0)
    assert [(r.task_ids, r.charged) for r in b.stored(LeaseLost)] == [([1, 2], 0)]
    b.finish(3)
    assert b.session().next_position == 0
    b.bind("e100", window=9)
    assert b.handed("e100") == [1, 2, 3]


def test_the_end_of_an_executor_is_not_charged_to_a_task_that_took_over_a_number() -> None:
    b, incarnation = restarted(2)
    b.attach(submitter=b"another one's id")
    b.submit(b"something else")
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.exited(task=3)
    assert [(r.executor, r.charged) for r in b.stored(LeaseLost)] == [("e1", 0)]


def test_the_binding_of_a_sync_session_is_synced() -> None:
    for durability in Durability:
        b = Bench(commit_at_once=False)
        b.register()
        b.open(durability=durability)
        b.attach()
        b.submit(b"a")
        b.commit()
        b.node()
        group = b.engine.take_group()
        assert group is not None
        assert BindingPut in map(type, group.records)
        assert group.sync is (durability is Durability.SYNC)


def test_a_process_that_was_not_bound_yet_is_told_its_session() -> None:
    b = running(1)
    after = b.restart()
    after.node(executors=[(ExecutorId("e1"), b.executor().incarnation)])
    after.hello()
    (bind,) = after.took(effects.SendBind)
    assert bind.session == 1
    after.later(121.0)  # it does not enter
    assert after.session().bind_failures == 1


def test_a_reusable_process_stays_reusable() -> None:
    b = Bench()
    b.register(reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.bind()
    after = b.restart()
    after.node(executors=[(ExecutorId("e1"), b.executor().incarnation)])
    after.hello(bound=True, held=[1])
    after.finish(1)
    after.close()
    after.left()
    assert after.states() == {"e1": ExecutorState.IDLE}


def test_a_memory_session_is_closed_and_says_why() -> None:
    b = Bench()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.attach()
    b.submit(b"a")
    after = b.restart()
    view = after.cluster.session(DEFAULT_TENANT, "s")
    assert view.state is SessionState.CLOSED
    assert "does not survive" in view.events[0].message
    third = after.restart()
    assert third.cluster.session(DEFAULT_TENANT, "s").state is SessionState.CLOSED


def test_numbers_are_never_used_again() -> None:
    b, incarnation = restarted()
    assert b.open("other").number == 2
    assert b.state.next_incarnation > incarnation
    assert b.state.epoch == 2


def test_a_submit_that_was_not_acknowledged_gets_the_ids_it_had() -> None:
    b, _ = restarted()
    b.attach(2)
    b.submit(b"in 1", b"in 2", b"in 3", b"in 4", attachment=2)
    ranges = [(e.first_number, e.count, e.first_id) for e in b.took(effects.Accepted)]
    assert ranges == [(0, 3, 1), (3, 1, 4)]


def test_a_final_task_is_answered_from_the_store() -> None:
    b = running(1)
    b.finish(1)
    after = b.restart()
    after.post(events.WatchTask(DEFAULT_TENANT, "s", TaskId(1), "w"))
    assert after.took(effects.FinalTask)[0].session == SessionNumber(1)
    stored = after.store.task(SessionNumber(1), TaskId(1))
    assert stored is not None
    assert stored.output == b"out 1"
