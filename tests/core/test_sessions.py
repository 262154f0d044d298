"""Applications and sessions: open, close, delete, cancel."""

from typing import Any

import pytest

from flame.core import effects, events
from flame.core.records import ApplicationDeleted, OutcomesRecorded, SessionDeleted, SessionPut
from flame.core.state import Limits
from flame.model.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    WrongState,
)
from flame.model.ids import DEFAULT_TENANT, TaskId, Tenant
from flame.model.specs import ApplicationSpec, Durability, ExecutorState, SessionSpec, SessionState
from flame.model.unnamed import content_name
from tests.core.builders import Bench, bench, running


def cancel(b: Bench, *tasks: int) -> None:
    b.post(events.CancelTasks(1, [TaskId(t) for t in tasks], "cancel"))


# --- applications and opening ------------------------------------------------------------------


def test_an_application_is_registered_once_and_then_updated() -> None:
    b = Bench()
    b.register()
    assert b.answers["register"] == "done"
    b.register()
    assert isinstance(b.answers["register"], AlreadyExists)
    spec = ApplicationSpec(command="x")
    b.post(events.RegisterApplication(DEFAULT_TENANT, "app", spec, "update", replace=True))
    assert b.cluster.application(DEFAULT_TENANT, "app").spec.command == "x"
    b.post(events.RegisterApplication(DEFAULT_TENANT, "no", spec, "update", replace=True))
    assert isinstance(b.answers["update"], NotFound)


def test_an_application_with_open_sessions_stays() -> None:
    b = bench()
    b.post(events.UnregisterApplication(DEFAULT_TENANT, "app", "bye"))
    assert isinstance(b.answers["bye"], WrongState)
    b.close()
    b.post(events.UnregisterApplication(DEFAULT_TENANT, "app", "goodbye"))
    assert b.answers["goodbye"] == "done"


def test_more_instances_for_an_application_are_used_at_once() -> None:
    b = Bench()
    b.register(max_instances=1)
    b.open()
    b.attach()
    b.node(slots=2)
    b.submit(b"a", b"b")
    assert len(b.states()) == 1
    spec = ApplicationSpec(max_instances=2)
    b.post(events.RegisterApplication(DEFAULT_TENANT, "app", spec, "update", replace=True))
    assert len(b.states()) == 2


def test_a_session_is_answered_once_it_is_stored() -> None:
    b = Bench(commit_at_once=False)
    b.register()
    b.open()
    assert "open s" not in b.answers
    b.commit()
    assert b.answers["open s"].state is SessionState.OPEN


def test_opening_twice_gives_the_same_session_also_while_it_is_being_stored() -> None:
    b = Bench(commit_at_once=False)
    b.register()
    b.open()
    b.post(events.OpenSession(DEFAULT_TENANT, "s", None, "again"))
    b.commit()
    assert b.answers["again"].number == b.answers["open s"].number == 1


@pytest.mark.parametrize(
    "difference",
    [
        {"priority": 3},
        {"max_attempts": 5},
        {"task_timeout_ms": 100},
        {"deadline_ms": 100},
        {"retry_on_failure": 1},
        {"retry_on": ("OSError",)},
        {"client_lost_ms": 0},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_opening_with_another_specification_names_the_difference(
    difference: dict[str, Any],
) -> None:
    b = bench()
    b.open(**difference)
    [field] = difference
    assert f"spec mismatch: {field} differs" in str(b.answers["open s"])


def test_opening_with_other_preferences_or_common_data_gives_the_same_session() -> None:
    b = bench()
    b.open(prefer=(("zone", "a", 1),), near=("n1",), common_data=b"other")
    assert b.answers["open s"].number == 1


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (events.OpenSession(DEFAULT_TENANT, "none", None, "r"), NotFound),
        (events.CreateSession(DEFAULT_TENANT, "s", SessionSpec("app"), "r"), AlreadyExists),
        (events.CreateSession(DEFAULT_TENANT, "t", SessionSpec("no"), "r"), NotFound),
        (events.CreateSession(DEFAULT_TENANT, "", SessionSpec("app"), "r"), InvalidRequest),
        (events.CloseSession(DEFAULT_TENANT, "none", False, "r"), NotFound),
        (events.DeleteSession(DEFAULT_TENANT, "s", "r"), WrongState),
        (events.DeleteSession(DEFAULT_TENANT, "none", "r"), NotFound),
        (events.CancelTasks(9, [], "r"), NotFound),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_kind_of_error(
    event: Any, error: type[Exception]
) -> None:
    b = bench()
    b.post(event)
    assert isinstance(b.answers["r"], error)


def test_more_sessions_than_allowed_are_refused() -> None:
    b = bench(limits=Limits(max_sessions=1))
    b.post(events.CreateSession(DEFAULT_TENANT, "t", SessionSpec("app"), "r"))
    assert isinstance(b.answers["r"], ResourceExhausted)


def test_opening_a_session_without_reserve_does_not_forget_a_plan_that_is_due() -> None:
    b = bench()
    b.state.replan = True
    b.open("t")
    b.node()
    b.submit(b"a")
    assert len(b.states()) == 1


# --- close -------------------------------------------------------------------------------------


def test_closing_cancels_what_is_pending_and_tells_everybody() -> None:
    b = bench()
    b.submit(b"a", b"b")
    b.close()
    assert b.answers["close"].state is SessionState.CLOSED
    assert b.answers["close"].cancelled == 2
    kinds = [
        type(e)
        for e in b.effects
        if isinstance(e, effects.SendOutcomes | effects.SendSessionClosed)
    ]
    assert kinds == [effects.SendOutcomes, effects.SendSessionClosed]


def test_closing_takes_handed_out_tasks_back_first() -> None:
    b = running(2)
    b.close()
    (asked,) = b.took(effects.SendTakeBack)
    assert asked.count == 2
    b.take_back(1, 2)
    assert b.answers["close"].cancelled == 2


def test_closing_waits_for_a_result_that_is_on_its_way() -> None:
    b = running(2)
    b.close()
    b.take_back(2)
    assert "close" not in b.answers
    b.finish(1)
    view = b.answers["close"]
    assert (view.succeeded, view.cancelled) == (1, 1)


def test_closing_is_refused_while_a_task_runs() -> None:
    b = running(1)
    b.started(1)
    b.close()
    assert "running tasks" in str(b.answers["close"])


def test_a_refused_close_hands_out_again_what_it_took_back() -> None:
    """Else the session would wait for its running task, which may take hours."""
    b = bench()
    b.node(slots=2)
    b.submit(b"a", b"b", b"c", b"d")
    b.bind("e1", window=4)
    b.bind("e2", window=4)
    b.handed("e1"), b.handed("e2")
    b.close()
    mine = sorted(b.executor("e2").held)
    b.take_back(*mine, name="e2")
    assert b.handed("e2") == []
    b.started(1)
    assert isinstance(b.answers["close"], WrongState)
    assert b.session().queued == 0 or b.handed("e2")
    assert b.executor("e2").held


def test_a_close_that_gets_no_answer_is_refused_after_a_moment() -> None:
    b = running(1)
    b.close()
    b.later(1.0)
    assert isinstance(b.answers["close"], WrongState)


def test_a_close_goes_on_when_one_of_two_holders_dies() -> None:
    """The other has not answered yet: that is no reason to refuse."""
    b = bench()
    b.node(slots=2)
    b.submit(b"a", b"b")
    b.bind("e1")
    b.bind("e2")
    one = "e1" if b.executor("e1").held else "e2"
    b.submit(*[b"x"] * 4, first=2)
    other = "e2" if one == "e1" else "e1"
    assert b.executor(one).held
    assert b.executor(other).held
    b.close()
    b.exited(one)
    b.later(0.1)
    assert "close" not in b.answers
    b.take_back(*b.executor(other).held, name=other)
    assert b.answers["close"].state is SessionState.CLOSED


def test_a_close_cancels_running_tasks_if_asked() -> None:
    b = running(2)
    b.started(1)
    b.close(cancel_running=True)
    assert b.answers["close"].cancelled == 2
    (told,) = b.took(effects.SendCancel)
    assert list(told.task_ids) == [1, 2]
    b.finish(1)  # too late: counted and dropped
    assert b.state.stale_results == 1
    assert [len(r.task_ids) for r in b.stored(OutcomesRecorded)] == [2]


def test_a_cancelled_task_that_still_runs_does_not_hold_a_close_up() -> None:
    b = running(1)
    b.started(1)
    cancel(b, 1)
    b.close()
    assert b.answers["close"].state is SessionState.CLOSED


def test_submits_on_their_way_into_the_store_are_cancelled_with_the_rest() -> None:
    b = bench(commit_at_once=False)
    b.commit()
    b.submit(b"a")
    b.close()
    b.close(cancel_running=True, reply="again")
    b.commit()
    for reply in ("close", "again"):
        assert b.answers[reply].cancelled == 1
    assert not b.session().live


def test_a_hurried_second_close_does_not_overtake_submits_before_the_first() -> None:
    """Found by review: their tasks would have stayed pending in a closed session."""
    b = running(1)
    b.handed()
    b.commit_at_once = False
    b.submit(b"late", first=1)
    b.close()
    b.exited()
    b.later(0.01)
    b.close(cancel_running=True, reply="again")
    b.commit()
    b.later(1.0)
    b.commit()
    assert b.answers["again"].state is SessionState.CLOSED
    assert not b.session().live


def test_closing_again_answers_like_the_first_time() -> None:
    b = bench()
    b.close()
    b.close(reply="again")
    assert b.answers["again"].state is SessionState.CLOSED


def test_a_memory_session_says_closed_only_when_it_is() -> None:
    """Found by simulation: the second close was answered before the first was stored."""
    b = Bench()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.commit_at_once = False
    b.close()
    b.close(reply="again")
    b.commit()
    assert b.answers["again"].state is SessionState.CLOSED


def test_a_closed_session_lets_its_executors_go() -> None:
    b = running(1)
    b.finish(1)
    b.close()
    assert b.states() == {"e1": ExecutorState.UNBINDING}


def test_a_session_that_waits_to_close_takes_no_tasks() -> None:
    b = running(1)
    b.close()
    b.submit(b"x", first=1)
    (refused,) = b.took(effects.SubmitRefused)
    assert isinstance(refused.error, WrongState)


# --- delete ------------------------------------------------------------------------------------


def test_a_deleted_session_frees_its_name_but_never_its_number() -> None:
    b = bench()
    b.close()
    b.post(events.DeleteSession(DEFAULT_TENANT, "s", "delete"))
    assert b.answers["delete"].number == 1
    assert len(b.stored(SessionDeleted)) == 1
    assert b.open().number == 2


def test_an_application_that_nobody_named_leaves_with_its_last_session() -> None:
    b = Bench()
    unnamed = content_name("Adder", b"pickle", b"modules")
    b.register(unnamed, pickled_service=b"pickle", local_modules=b"modules")
    b.register("named-0123456789ab", pickled_service=b"pickle", local_modules=b"modules")
    b.register("program")
    for name, application in (("s", unnamed), ("t", unnamed), ("u", "named-0123456789ab")):
        b.open(name, application)
    b.open("v", "program")

    def registered() -> set[str]:
        return {view.name for view in b.cluster.applications(DEFAULT_TENANT)}

    everything = {unnamed, "named-0123456789ab", "program"}
    for name, left in (
        ("s", everything),
        ("u", everything),
        ("v", everything),
        ("t", everything - {unnamed}),
    ):
        b.post(events.CloseSession(DEFAULT_TENANT, name, False, f"close {name}"))
        assert registered() == everything
        b.post(events.DeleteSession(DEFAULT_TENANT, name, f"delete {name}"))
        assert registered() == left
    assert b.stored(ApplicationDeleted) == [ApplicationDeleted(DEFAULT_TENANT, unnamed)]


def test_one_that_another_tenants_session_runs_stays() -> None:
    b = Bench()
    unnamed = content_name("Adder", b"pickle", b"")
    b.register(unnamed, pickled_service=b"pickle")
    other = Tenant("other")
    b.open("s", unnamed)
    b.post(events.OpenSession(other, "t", SessionSpec(unnamed), "open t"))
    for tenant, name in ((DEFAULT_TENANT, "s"), (other, "t")):
        b.post(events.CloseSession(tenant, name, False, f"close {name}"))
    b.post(events.DeleteSession(DEFAULT_TENANT, "s", "delete s"))
    assert [view.name for view in b.cluster.applications(other)] == [unnamed]
    b.post(events.DeleteSession(other, "t", "delete t"))
    assert b.cluster.applications(other) == []


def test_clients_that_were_not_done_with_a_deleted_session_are_told() -> None:
    b = bench()
    b.post(events.Detach(1))
    b.submit(b"a")
    b.attach(2)
    b.submit(b"a", attachment=2)
    b.post(events.Detach(2))
    b.close()
    b.attach(3, credit=0)
    b.took(effects.SendSessionClosed)
    b.post(events.DeleteSession(DEFAULT_TENANT, "s", "delete"))
    assert [e.attachment for e in b.took(effects.SendSessionClosed)] == [3]


def test_late_words_of_an_executor_of_a_deleted_session_are_harmless() -> None:
    b = running(1)
    b.close(cancel_running=True)
    b.post(events.DeleteSession(DEFAULT_TENANT, "s", "delete"))
    b.finish(1)
    b.left()
    b.exited()
    assert b.states() == {}


# --- cancel ------------------------------------------------------------------------------------


def test_a_queued_task_is_cancelled_and_never_handed_out() -> None:
    b = bench()
    b.submit(b"a", b"b")
    cancel(b, 1)
    assert b.answers["cancel"] == "done"
    b.node()
    b.bind()
    assert b.handed() == [2]


def test_a_task_named_twice_in_a_cancel_gets_one_outcome() -> None:
    b = bench()
    b.submit(b"a")
    cancel(b, 1, 1)
    assert [r.task_ids for r in b.stored(OutcomesRecorded)] == [[1]]


def test_a_running_task_is_cancelled_and_its_late_result_dropped() -> None:
    b = running(2)
    b.started(1)
    cancel(b, 1)
    assert b.session().running == 0
    assert [list(e.task_ids) for e in b.took(effects.SendCancel)] == [[1]]
    b.finish(1, 2)
    assert b.session().succeeded == 1
    assert b.session().cancelled == 1


def test_a_final_task_stays_as_it_is() -> None:
    b = running(1)
    b.finish(1)
    cancel(b, 1, 77)
    assert b.answers["cancel"] == "done"
    assert b.session().succeeded == 1


def test_session_states_are_stored() -> None:
    b = bench()
    b.close()
    assert [r.state for r in b.stored(SessionPut)] == [SessionState.OPEN, SessionState.CLOSED]
