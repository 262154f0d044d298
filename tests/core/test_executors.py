"""The executor's life: bind, reconnect, leave, and every way to be lost."""

from flame.core import effects, events
from flame.core.attempts import RETRY_BACKOFF
from flame.core.executor import BIND_TIMEOUT, LEAVE_TIMEOUT, RECONNECT_TIMEOUT, STOP_GRACE
from flame.core.records import BindingDeleted, BindingPut, LeaseLost
from flame.core.state import Limits
from flame.model.ids import DEFAULT_TENANT, ExecutorId
from flame.model.specs import EventCode, ExecutorState, TaskState
from tests.core.builders import Bench, bench, running

# --- binding -----------------------------------------------------------------------------------


def test_a_process_is_started_only_when_its_binding_is_stored() -> None:
    b = bench(commit_at_once=False)
    b.commit()
    b.node()
    b.submit(b"a")
    group = b.engine.take_group()
    assert group is not None
    b.store.commit(group.records, sync=False)
    b._take(b.engine.committed(b.now), pump=False)  # the task; now the binding waits
    assert b.took(effects.StartExecutor) == []
    b.commit()
    (start,) = b.took(effects.StartExecutor)
    assert [r.incarnation for r in b.stored(BindingPut)] == [start.incarnation]


def test_a_process_that_says_hello_is_told_its_session() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.hello()
    (bind,) = b.took(effects.SendBind)
    assert (bind.session_name, bind.incarnation) == ("s", b.executor().incarnation)


def test_an_unknown_process_is_refused() -> None:
    b = bench()
    b.hello("stranger", incarnation=3)
    assert len(b.took(effects.RefuseExecutor)) == 1


def test_failed_bindings_back_off_then_fail_the_pending_tasks_with_their_reason() -> None:
    b = bench()
    b.node()
    b.submit(b"a", b"b")
    for attempt in range(1, 6):
        name = f"e{attempt}"
        assert b.states() == {name: ExecutorState.BINDING}
        b.bind(name, code=12)
        b.exited(name)
        b.later(4.9 if attempt < 5 else 0.0)
    view = b.cluster.session(DEFAULT_TENANT, "s")
    assert view.failed == 2
    codes = [e.code for e in view.events]
    assert codes == [EventCode.BIND_FAILED] * 5 + [EventCode.BIND_GIVEN_UP]
    (sent,) = b.took(effects.SendOutcomes)
    state, code, message = sent.failures[0]
    assert (state, code) == (TaskState.FAILED, 1002)
    assert "it raised" in message


def test_a_retry_waits_for_its_time() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.bind(code=12)
    b.exited()
    assert b.states() == {}
    b.later(0.11)
    assert b.states() == {"e2": ExecutorState.BINDING}


def test_failed_bindings_do_not_fail_tasks_while_another_executor_works() -> None:
    """One bad node must not take a session down."""
    b = bench(limits=Limits(bind_attempts=2))
    b.node("good")
    b.submit(*[b"x"] * 6)
    b.bind("e1")
    b.node("bad")
    for name in ("e2", "e3", "e4"):
        b.bind(name, code=12)
        b.exited(name)
        b.later(6.0)
    assert b.cluster.session(DEFAULT_TENANT, "s").failed == 0
    assert b.session().queued == 4


def test_a_backoff_takes_no_working_executor_away() -> None:
    """A session that waits for its next attempt still wants what it has."""
    b = bench()
    b.node(slots=2)
    b.submit(*[b"x"] * 6)
    b.bind("e1")
    b.open("other")
    b.attach(2, "other")
    b.bind("e2", code=12)
    b.submit(b"y", attachment=2)
    b.exited("e2")
    assert b.states()["e1"] is ExecutorState.BOUND


def test_a_success_forgets_earlier_failures() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.bind("e1", code=12)
    b.exited("e1")
    b.later(1.0)
    b.bind("e2")
    assert b.session().bind_failures == 0


def test_a_service_that_never_enters_is_given_up() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.hello()
    b.later(BIND_TIMEOUT + 1.0)
    assert len(b.took(effects.StopExecutor)) == 1
    assert b.session().bind_failures == 1


def test_a_binding_may_take_longer_while_the_package_is_being_prepared() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    executor = b.executor()
    b.post(events.StartDelayed(executor.id, executor.incarnation, 600.0))
    waiting = b.cluster.session(DEFAULT_TENANT, "s").waiting
    assert "package of application 'app' is being prepared on n;" in waiting
    b.later(BIND_TIMEOUT + 500.0)
    b.post(events.StartDelayed(executor.id, executor.incarnation, 0.0))
    assert b.cluster.session(DEFAULT_TENANT, "s").waiting == ""
    b.later(BIND_TIMEOUT - 1.0)
    assert b.took(effects.StopExecutor) == []
    b.later(2.0)
    assert len(b.took(effects.StopExecutor)) == 1


def test_a_delay_of_an_executor_that_was_replaced_changes_nothing() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    executor = b.executor()
    b.post(events.StartDelayed(executor.id, executor.incarnation - 1, 600.0))
    b.post(events.StartDelayed(ExecutorId("stranger"), 1, 600.0))
    assert not executor.preparing
    b.later(BIND_TIMEOUT + 1.0)
    assert len(b.took(effects.StopExecutor)) == 1


def test_a_process_that_dies_while_it_binds_counts_as_a_failed_bind() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.exited(cause="exit 1")
    assert b.session().bind_failures == 1
    assert "exit 1" in b.session().events[0].message


def test_a_node_that_is_lost_does_not_count_as_a_failed_bind() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.node(instance=b"2", executors=[])
    b.post(events.NodeDisconnected(b.executor().node, b"1"))
    b.node(instance=b"2", executors=[])
    assert b.session().bind_failures == 0


# --- death -------------------------------------------------------------------------------------


def test_only_the_task_that_ran_spends_an_attempt_when_its_executor_dies() -> None:
    b = running(2)
    b.exited(task=1)
    assert {t.id: t.attempts for t in b.session().live.values()} == {1: 1, 2: 0}
    (lost,) = b.stored(LeaseLost)
    assert (lost.charged, lost.attempt, list(lost.task_ids)) == (1, 1, [1, 2])
    b.bind("e2")
    (sent,) = [e for e in b.took(effects.SendTasks) if e.executor == "e2"]
    assert (sent.task_ids, sent.attempts) == ([1, 2], [2, 1])


def test_tasks_of_a_lost_lease_go_out_again_only_when_the_loss_is_stored() -> None:
    """Whoever runs a task a second time must be able to show why."""
    b = running(2)
    b.node("other")
    b.submit(b"x", first=2)
    b.bind("e2", window=9)
    b.handed("e2")
    b.commit_at_once = False
    b.exited("e1", task=1)
    assert b.handed("e2") == []
    b.commit()
    assert b.handed("e2") == [1]  # its share: another executor is on its way


def test_a_task_cancelled_between_the_loss_and_its_record_stays_cancelled() -> None:
    b = running(1)
    b.commit_at_once = False
    b.exited(task=1)
    b.post(events.CancelTasks(1, [1], "cancel"))  # type: ignore[list-item]
    b.commit()
    assert not b.session().live
    assert b.session().cancelled == 1


def test_a_poison_task_fails_after_its_attempts_while_the_others_return_free() -> None:
    b = running(2)
    for number in range(1, 4):
        name = f"e{number}"
        if number > 1:
            b.later(RETRY_BACKOFF[number - 2])
            b.bind(name)
        b.exited(name, task=1, cause=f"signal {number}")
    (sent,) = b.took(effects.SendOutcomes)
    assert list(sent.task_ids) == [1]
    state, code, message = sent.failures[0]
    assert (state, code) == (TaskState.FAILED, EventCode.LOST)
    assert "3 times" in message
    for number in (1, 2, 3):
        assert f"attempt {number} on node n, executor e{number}: signal {number}" in message
    assert b.session().live[2].attempts == 0  # type: ignore[index]
    assert [r.loss.cause for r in b.stored(LeaseLost)] == ["signal 1", "signal 2", "signal 3"]
    assert not b.session().history


def test_a_report_of_an_end_is_confirmed_so_that_the_node_forgets_it() -> None:
    b = running(1)
    process = b.executor().process
    b.exited()
    assert [(s.incarnation, s.grace) for s in b.took(effects.StopExecutor)] == [(process, 0.0)]
    assert b.stored(BindingDeleted) == [BindingDeleted(ExecutorId("e1"))]


# --- broken channels ---------------------------------------------------------------------------


def test_an_executor_that_comes_back_keeps_what_it_holds() -> None:
    b = running(2)
    b.disconnected()
    b.handed()
    b.hello(bound=True, held=[1, 2])
    assert b.handed() == []
    assert set(b.executor().held) == {1, 2}


def test_tasks_that_never_arrived_are_handed_out_again() -> None:
    b = running(2)
    b.disconnected()
    b.handed()
    b.hello(bound=True, held=[1])
    assert b.handed() == [2]
    assert b.stored(LeaseLost) == []


def test_an_executor_that_holds_a_task_of_others_is_asked_to_give_it_up() -> None:
    b = running(1)
    b.finish(1)
    b.disconnected()
    b.took(effects.SendTakeBack)
    b.hello(bound=True, held=[1])
    (asked,) = b.took(effects.SendTakeBack)
    assert list(asked.task_ids) == [1]


def test_an_executor_that_stays_away_is_replaced() -> None:
    b = running(2)
    b.started(1)
    b.disconnected()
    b.later(RECONNECT_TIMEOUT + 1.0)
    assert b.executor("e1").state is ExecutorState.RELEASING
    assert {t.id: t.attempts for t in b.session().live.values()} == {1: 1, 2: 0}


def test_a_process_that_does_not_end_is_asked_again_and_then_forgotten() -> None:
    b = running(2)
    b.disconnected()
    b.later(RECONNECT_TIMEOUT + 1.0)
    b.took(effects.StopExecutor)
    b.later(STOP_GRACE + RECONNECT_TIMEOUT + 1.0)
    assert [s.grace for s in b.took(effects.StopExecutor)] == [0.0]
    assert "e1" not in b.states()


# --- release -----------------------------------------------------------------------------------


def test_an_executor_without_work_is_released_after_a_while() -> None:
    b = running(1, standby=0)
    b.finish(1)
    b.later(29.0)
    assert b.took(effects.SendUnbind) == []
    b.later(2.0)
    assert len(b.took(effects.SendUnbind)) == 1
    b.left()
    assert b.executor().state is ExecutorState.RELEASING
    b.exited()
    assert b.states() == {}
    assert b.state.nodes[b.state.nodes.__iter__().__next__()].used.cpu_millis == 0


def test_an_executor_without_work_is_released_at_once_when_another_session_waits() -> None:
    b = running(1)
    b.open("other")
    b.attach(2, "other")
    b.submit(b"y", attachment=2)
    assert b.took(effects.SendUnbind) == []
    b.finish(1)
    assert len(b.took(effects.SendUnbind)) == 1


def test_a_surplus_executor_is_released_at_once_although_its_session_still_works() -> None:
    """The other task may take hours; who waits must not wait for the idle deadline."""
    b = bench()
    b.node(slots=2)
    b.submit(b"a", b"b")
    b.bind("e1", window=1)
    b.bind("e2", window=1)
    b.open("other")
    b.attach(2, "other", submitter=b"another one's id")
    b.open("third", priority=0)
    b.finish(1)
    b.took(effects.SendUnbind)
    b.submit(b"y", attachment=2)
    assert ExecutorState.UNBINDING in b.states().values()


def test_an_executor_that_leaves_gives_its_unstarted_tasks_back() -> None:
    b = running(4, window=4)
    b.handed()
    b.open("other", priority=5)
    b.attach(2, "other")
    b.submit(b"y", attachment=2)
    (asked,) = b.took(effects.SendTakeBack)
    assert asked.count == 4
    b.take_back(2, 3, 4)
    assert b.session().queued == 3
    b.finish(1)
    b.left()
    b.exited()
    assert b.executor("e2").session is b.session("other")


def test_min_instances_stay_bound_without_work() -> None:
    b = running(1, min_instances=1)
    b.finish(1)
    b.later(100.0)
    assert b.states() == {"e1": ExecutorState.BOUND}


def test_an_idle_deadline_survives_a_time_when_nothing_may_be_handed_out() -> None:
    b = running(2, window=1, standby=0)
    b.handed()
    b.started(1)
    b.node("other")
    b.submit(b"x", first=2)
    b.bind("e2", window=1)
    b.close()
    assert "Cannot close" in str(b.answers["close"])
    b.finish(*b.executor("e2").held, name="e2")
    b.finish(*b.executor("e2").held, name="e2", sequence=2)
    b.later(40.0)
    assert b.executor("e2").state is ExecutorState.UNBINDING


# --- warm processes ----------------------------------------------------------------------------


def warm() -> Bench:
    """A reusable executor that has left its session and is idle."""
    b = Bench()
    b.register(reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.bind()
    b.finish(1)
    b.close()
    b.left()
    assert b.states() == {"e1": ExecutorState.IDLE}
    return b


def test_a_reusable_process_is_bound_again_under_a_new_incarnation() -> None:
    b = warm()
    old = b.executor().incarnation
    b.took(effects.StartExecutor)
    b.took(effects.SendBind)
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    (bind,) = b.took(effects.SendBind)
    assert bind.incarnation == b.executor().incarnation > old
    assert b.took(effects.StartExecutor) == []
    b.entered()
    b.handed()
    b.finish(1, incarnation=old)
    assert len(b.took(effects.RefuseExecutor)) == 1
    b.finish(1)
    assert b.told(2) == [(0, 1)]


def test_a_warm_process_that_missed_its_bind_is_told_again() -> None:
    b = warm()
    old = b.executor().incarnation
    b.disconnected()
    b.post(events.ExecutorConnected(ExecutorId("e1"), old, False, 0, 2))  # type: ignore[arg-type]
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    b.took(effects.SendBind)
    b.post(events.ExecutorDisconnected(ExecutorId("e1"), old))
    b.hello(incarnation=old)
    assert b.took(effects.RefuseExecutor) == []
    (bind,) = b.took(effects.SendBind)
    assert bind.incarnation == b.executor().incarnation


def test_a_warm_process_serves_only_its_own_application() -> None:
    b = warm()
    b.register("else")
    b.open("next", "else")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    assert b.states() == {"e1": ExecutorState.RELEASING}  # evicted to make room
    b.exited()
    assert b.executor("e2").application == "else"


def test_a_warm_process_that_was_away_is_used_as_soon_as_it_is_back() -> None:
    b = warm()
    b.disconnected()
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    assert b.states() == {"e1": ExecutorState.IDLE}
    b.hello()
    assert b.executor().session is b.session("next")


def test_an_idle_process_ends_after_a_while() -> None:
    b = warm()
    b.later(31.0)
    assert b.states() == {"e1": ExecutorState.RELEASING}


def test_a_service_that_does_not_leave_a_closed_session_is_ended() -> None:
    b = running(1)
    b.started(1)
    b.close(cancel_running=True)
    b.later(LEAVE_TIMEOUT - 0.5)
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    b.later(1.0)
    assert b.states() == {"e1": ExecutorState.RELEASING}


def test_an_executor_that_was_leaving_when_its_session_closed_is_ended_too() -> None:
    b = running(1)
    b.started(1)
    b.open("other", priority=5)
    b.attach(2, "other")
    b.submit(b"y", attachment=2)
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    b.close(cancel_running=True)
    b.later(LEAVE_TIMEOUT + 0.5)
    assert b.states()["e1"] is ExecutorState.RELEASING


def test_an_executor_that_a_former_manager_told_to_leave_is_replaced() -> None:
    """Found by simulation: its Left was ignored, and tasks were handed to nobody for ever."""
    b = running(2)
    b.open("other", priority=5)
    b.attach(2, "other")
    b.submit(b"y", attachment=2)
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    b.close("other")
    incarnation = b.executor().incarnation
    after = b.restart()
    after.node(executors=[(ExecutorId("e1"), incarnation)])
    after.hello(bound=True, held=[1])
    assert after.states() == {"e1": ExecutorState.BOUND}
    after.finish(1)
    after.left()
    assert after.executor("e1").state is ExecutorState.RELEASING
    assert all(t.holder is None for t in after.session().live.values())
