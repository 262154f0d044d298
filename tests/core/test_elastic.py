"""A session has as many executors as it has work for, within its limits, and keeps them for a while."""

from typing import Any

import pytest

from flame.core.effects import StartExecutor
from flame.model.specs import ExecutorState
from tests.core.builders import Bench

DELAY = 20.0


def elastic(slots: int = 8, **spec: Any) -> Bench:
    """An open session without tasks on a node with room."""
    b = Bench()
    b.register(delay_release=DELAY, standby=0)
    b.node(slots=slots)
    b.open(**spec)
    b.attach()
    return b


def bound(b: Bench, name: str = "s") -> int:
    return sum(e.state is ExecutorState.BOUND for e in b.session(name).executors.values())


def serve(b: Bench, *names: str) -> None:
    """They bind and finish all that they are given, one task at a time."""
    for name in names:
        b.bind(name, window=1)
    for name in names:
        if b.executor(name).held:
            b.finish(*b.executor(name).held, name=name)


def test_minimum_instances_start_before_there_is_a_task() -> None:
    b = elastic(min_instances=3)
    assert len(b.took(StartExecutor)) == 3
    for name in ("e1", "e2", "e3"):
        b.bind(name)
    assert bound(b) == 3
    b.submit(b"x")
    assert sum(len(b.handed(name)) for name in ("e1", "e2", "e3")) == 1
    assert b.took(StartExecutor) == [], "a warm one takes the first task"


def test_a_session_without_a_minimum_starts_nothing_before_there_is_a_task() -> None:
    b = elastic()
    b.later(5.0)
    assert b.states() == {}


@pytest.mark.parametrize(("tasks", "executors"), [(1, 1), (5, 5), (100, 8)])
def test_as_many_start_at_once_as_the_queue_justifies(tasks: int, executors: int) -> None:
    b = elastic()
    b.submit(*[b"x"] * tasks)
    assert len(b.took(StartExecutor)) == executors


def test_more_start_when_more_is_queued_up_to_the_maximum() -> None:
    b = elastic(max_instances=4)
    b.submit(b"x", b"x")
    assert len(b.took(StartExecutor)) == 2
    b.submit(*[b"x"] * 50, first=2)
    assert len(b.took(StartExecutor)) == 2
    assert len(b.session().executors) == 4


def test_the_least_of_the_maxima_of_a_session_and_its_application_holds() -> None:
    b = Bench()
    b.register(max_instances=3)
    b.node(slots=8)
    for attachment, (name, own, got) in enumerate([("a", 2, 2), ("b", 5, 3)], start=1):
        b.open(name, max_instances=own)
        b.attach(attachment, name)
        b.submit(*[b"x"] * 20, attachment=attachment)
        assert len(b.session(name).executors) == got


def test_an_executor_waits_for_the_next_task_as_long_as_the_delay_says() -> None:
    b = elastic()
    b.submit(b"x")
    serve(b, "e1")
    b.later(DELAY - 1.0)
    assert bound(b) == 1
    b.submit(b"y", first=1)
    assert b.handed("e1")[-1] == 2, "it is warm, and gets it at once"
    b.finish(2, sequence=2)
    b.later(DELAY - 1.0)
    assert bound(b) == 1, "the delay begins again"
    b.later(2.0)
    assert b.states() == {"e1": ExecutorState.UNBINDING}


def test_the_delay_ends_when_another_session_waits() -> None:
    b = elastic(slots=2)
    b.submit(b"x", b"x")
    serve(b, "e1", "e2")
    assert bound(b) == 2
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    leaving = [n for n, state in b.states().items() if state is ExecutorState.UNBINDING]
    assert len(leaving) == 1, "no more than the other one needs"
    b.left(leaving[0])
    b.exited(leaving[0])
    assert len(b.session("next").executors) == 1
    assert bound(b) == 1


def test_the_delay_goes_on_while_there_is_room_for_the_other_session() -> None:
    b = elastic(slots=3)
    b.submit(b"x", b"x")
    serve(b, "e1", "e2")
    b.open("next")
    b.attach(2, "next")
    b.submit(b"y", attachment=2)
    assert bound(b) == 2
    assert len(b.session("next").executors) == 1


def test_minimum_instances_are_kept_when_another_session_waits_and_the_rest_is_not() -> None:
    b = elastic(slots=3, min_instances=1)
    b.submit(b"x", b"x", b"x")
    serve(b, "e1", "e2", "e3")
    b.open("next")
    b.attach(2, "next")
    b.submit(*[b"y"] * 9, attachment=2)
    leaving = [n for n, state in b.states().items() if state is ExecutorState.UNBINDING]
    assert len(leaving) == 2
    for name in leaving:
        b.left(name)
        b.exited(name)
    assert len(b.session("next").executors) == 2
    assert bound(b) == 1
    b.later(2 * DELAY)
    assert bound(b) == 1
