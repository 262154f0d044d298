"""A warm executor goes straight from a session without work to one that waits."""

from typing import Any

import pytest

from flame.core import effects, events
from flame.model.specs import EventCode, ExecutorState
from tests.core.builders import Bench


def one_works_one_waits(**spec: Any) -> Bench:
    """Session s has the only executor, and one task on it; session next has one task queued."""
    b = Bench()
    b.register(reusable=True)
    b.open(**spec)
    b.attach()
    b.node()
    b.submit(b"a")
    b.bind()
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    b.handed()
    b.took(effects.SendBind)
    return b


def test_the_next_binding_follows_the_last_result_without_a_word_of_leaving() -> None:
    b = one_works_one_waits()
    old = b.executor().incarnation
    b.finish(1)
    (bind,) = b.took(effects.SendBind)
    assert bind.session == b.session("next").number
    assert bind.incarnation == b.executor().incarnation > old
    assert b.took(effects.SendUnbind) == []
    assert b.told() == [(0, 1)]
    b.entered()
    assert b.handed() == [1]
    b.finish(1)
    assert b.told(2) == [(0, 1)]
    assert b.session().executors == {}


def test_a_window_that_crosses_the_order_to_change_over_counts_in_the_next_session() -> None:
    b = one_works_one_waits()
    executor = b.executor()
    old = executor.incarnation
    b.post(events.WindowChanged(executor.id, old, 0))  # too much of its results is not stored
    b.finish(1)
    b.post(events.WindowChanged(executor.id, old, 2))
    b.entered()
    assert b.handed() == [1]


def test_the_results_are_in_the_store_before_the_process_hears_of_its_next_session() -> None:
    b = one_works_one_waits()
    b.effects.clear()
    b.finish(1)
    kinds = [type(e) for e in b.effects]
    assert kinds.index(effects.SendOutcomes) < kinds.index(effects.SendBind)


@pytest.mark.parametrize("bound", [True, False], ids=["still bound", "left already"])
def test_a_process_that_missed_its_next_binding_is_told_again(bound: bool) -> None:
    b = one_works_one_waits()
    old = b.executor().incarnation
    b.finish(1)
    b.disconnected()
    b.took(effects.SendBind)
    b.hello(bound=bound, held=[1] if bound else [], incarnation=old)
    assert len(b.took(effects.SendBind)) == 1
    assert b.took(effects.RefuseExecutor) == []


def test_what_it_says_again_of_its_last_session_counts_for_nothing() -> None:
    b = one_works_one_waits()
    old = b.executor().incarnation
    b.finish(1)
    b.told()
    b.disconnected()
    b.hello(bound=True, held=[1], incarnation=old)
    b.finish(1, incarnation=old)
    assert b.told() == []
    assert b.told(2) == []
    assert b.took(effects.RefuseExecutor) == []
    b.entered()
    assert b.handed() == [1]


def test_a_restarted_manager_finds_the_process_in_its_last_session_and_goes_on() -> None:
    b = one_works_one_waits()
    old = b.executor().incarnation
    b.finish(1)
    other = b.restart()
    other.node(executors=[(other.executor().id, other.executor().process)])
    other.hello(bound=True, held=[1], incarnation=old)
    (bind,) = other.took(effects.SendBind)
    assert bind.session == other.session("next").number
    other.entered()
    assert other.handed() == [1]


def test_a_session_that_cannot_be_entered_is_told_so_and_the_last_one_is_not() -> None:
    b = one_works_one_waits()
    b.finish(1)
    b.entered(code=12)
    assert any(e.code == EventCode.BIND_FAILED for e in b.session("next").events)
    assert not b.session().events


def test_an_executor_that_its_session_keeps_stays() -> None:
    b = one_works_one_waits(min_instances=1)
    b.finish(1)
    assert b.took(effects.SendBind) == []
    assert b.executor().session is b.session()
    assert b.executor().state is ExecutorState.BOUND


def test_one_that_nobody_can_use_leaves_as_ever() -> None:
    b = Bench()
    b.register(reusable=True)
    b.register("other", reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.bind()
    b.open("next", "other")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    b.finish(1)
    assert b.executor().state is ExecutorState.UNBINDING
    assert len(b.took(effects.SendUnbind)) == 1


def test_a_process_that_may_not_be_reused_leaves() -> None:
    b = Bench()
    b.register()
    b.open()
    b.attach()
    b.node()
    b.submit(b"a")
    b.bind()
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    b.finish(1)
    assert b.executor().state is ExecutorState.UNBINDING


def test_a_session_that_is_being_closed_lets_its_executor_go_and_ends() -> None:
    b = one_works_one_waits()
    b.close()
    b.finish(1)
    b.left()
    assert b.executor().session is None or b.executor().session is b.session("next")
    assert b.session().executors == {}
