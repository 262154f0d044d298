"""The disk is full: what is new is refused, what has happened waits, and it goes on by itself."""

from typing import Any

import pytest

from flame.core import effects, events
from flame.core.records import OutcomesRecorded, SessionPut, TasksSubmitted
from flame.model.errors import FlameError, ResourceExhausted
from flame.model.ids import DEFAULT_TENANT
from flame.model.specs import ApplicationSpec, Durability, SessionSpec, SessionState
from tests.core.builders import Bench, bench, running

FULL = ResourceExhausted("the disk of /data/flame.db is full")


def quiet(**options: Any) -> Bench:
    """A cluster whose records wait until the test commits them."""
    b = bench(**options)
    b.commit_at_once = False
    return b


def fill(b: Bench) -> None:
    """The next group finds the disk full."""
    assert b.engine.take_group() is not None
    b._take(b.engine.store_full(FULL, b.now), pump=False)


def room(b: Bench) -> None:
    b._take(b.engine.retry(b.now), pump=False)
    b.commit()


def refused(b: Bench) -> list[tuple[int, int]]:
    found = b.took(effects.SubmitRefused)
    assert all(isinstance(e.error, ResourceExhausted) for e in found)
    assert all("/data/flame.db" in str(e.error) for e in found)
    return [(e.first_number, e.count) for e in found]


def test_submits_that_could_not_be_stored_are_refused_and_get_their_credit_back() -> None:
    b = quiet()
    b.submit(b"a", b"b")
    assert b.engine.take_group() is not None  # on its way
    b.submit(b"c", first=2)  # and behind it
    b._take(b.engine.store_full(FULL, b.now), pump=False)
    assert refused(b) == [(0, 2), (2, 1)]
    assert [e.credit for e in b.took(effects.GrantSubmits)] == [130, 65]
    assert b.took(effects.Accepted) == []


def test_while_the_store_is_full_new_submits_are_refused_at_once() -> None:
    b = quiet()
    b.submit(b"a")
    fill(b)
    refused(b)
    b.submit(b"a")
    assert refused(b) == [(0, 1)]
    assert b.engine.is_idle


def test_numbers_and_ids_of_refused_submits_are_free_again() -> None:
    b = quiet()
    b.submit(b"a")
    b.commit()
    b.submit(b"b", b"c", first=1)
    fill(b)
    room(b)
    b.took(effects.Accepted)
    b.submit(b"b", first=1)
    b.commit()
    assert [(e.first_number, e.first_id) for e in b.took(effects.Accepted)] == [(1, 2)]
    assert [(r.first_id, r.inputs) for r in b.stored(TasksSubmitted)] == [(1, [b"a"]), (2, [b"b"])]


def test_a_submit_that_comes_again_is_acknowledged_as_far_as_it_is_stored() -> None:
    b = quiet()
    b.submit(b"a", b"b")
    b.commit()
    b.took(effects.Accepted)
    b.submit(b"c", first=2)
    b.submit(b"a", b"b", b"c", first=0)
    fill(b)
    assert refused(b) == [(2, 1), (2, 1)]
    assert [(e.first_number, e.count) for e in b.took(effects.Accepted)] == [(0, 2)]
    b.submit(b"a", b"b", b"c", first=0)  # while it is full
    assert refused(b) == [(2, 1)]
    assert [(e.first_number, e.count) for e in b.took(effects.Accepted)] == [(0, 2)]


def test_results_wait_for_room_and_the_executor_keeps_them() -> None:
    b = running(2)
    b.commit_at_once = False
    b.finish(1, 2)
    fill(b)
    assert b.took(effects.SendResultsStored) == []
    assert b.told() == []
    room(b)
    assert [e.sequence for e in b.took(effects.SendResultsStored)] == [1]
    assert b.told() == [(0, 1), (1, 2)]
    assert sum(len(r.task_ids) for r in b.stored(OutcomesRecorded)) == 2


def test_a_try_in_vain_keeps_what_waits() -> None:
    b = running(2)
    b.took(effects.Accepted)
    b.commit_at_once = False
    b.finish(1)
    fill(b)
    for _ in range(3):
        assert b.engine.take_group() is None  # not before the next try is due
        b._take(b.engine.retry(b.now), pump=False)
        fill(b)
    room(b)
    assert b.told() == [(0, 1)]
    b.submit(b"x", first=2)
    b.commit()
    assert len(b.took(effects.Accepted)) == 1


def test_a_session_that_could_not_be_stored_was_never_made() -> None:
    b = quiet()
    b.open("new")
    b.post(events.OpenSession(DEFAULT_TENANT, "new", SessionSpec("app"), "another"))
    fill(b)
    assert isinstance(b.answers["open new"], ResourceExhausted)
    assert isinstance(b.answers["another"], ResourceExhausted)
    assert (DEFAULT_TENANT, "new") not in b.state.names
    room(b)
    b.open("new")
    b.commit()
    made = b.answers["open new"]
    assert isinstance(made, effects.SessionView)
    assert made.state is SessionState.OPEN
    names = [r.name for r in b.stored(SessionPut)]
    assert names == ["s", "new"]


def test_a_session_that_an_executor_was_bound_to_stays() -> None:
    """Its binding is a fact; whoever wanted it is told, and finds it when there is room."""
    b = quiet()
    b.node()
    b.open("new", min_instances=1)
    fill(b)
    assert isinstance(b.answers["open new"], ResourceExhausted)
    room(b)
    assert b.session("new").executors


CALLS = [
    events.RegisterApplication(DEFAULT_TENANT, "other", ApplicationSpec(), "call"),
    events.UnregisterApplication(DEFAULT_TENANT, "app", "call"),
    events.CreateSession(DEFAULT_TENANT, "new", SessionSpec("app"), "call"),
    events.OpenSession(DEFAULT_TENANT, "s", None, "call"),
    events.CloseSession(DEFAULT_TENANT, "s", False, "call"),
    events.DeleteSession(DEFAULT_TENANT, "s", "call"),
    events.CreateTask(DEFAULT_TENANT, "s", b"x", "call"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
def test_a_call_that_would_add_to_a_full_store_is_refused(call: Any) -> None:
    b = quiet()
    b.submit(b"a")
    fill(b)
    b.post(call)
    assert isinstance(b.answers["call"], ResourceExhausted)
    assert b.engine.is_idle


@pytest.mark.parametrize(
    "call",
    [CALLS[0], CALLS[4], CALLS[6]],
    ids=lambda call: type(call).__name__,
)
def test_a_call_on_its_way_is_answered_too(call: Any) -> None:
    b = quiet()
    b.post(call)
    fill(b)
    assert isinstance(b.answers["call"], FlameError)
    room(b)
    assert b.engine.is_idle


def test_a_session_in_memory_does_not_notice() -> None:
    b = quiet()
    b.open("m", durability=Durability.MEMORY)
    b.commit()
    b.attach(2, "m")
    b.submit(b"a")
    fill(b)
    b.took(effects.Accepted)
    b.submit(b"x", attachment=2)
    b.post(events.CreateTask(DEFAULT_TENANT, "m", b"y", "create"))
    assert [e.attachment for e in b.took(effects.Accepted)] == [2]
    assert b.answers["create"].task_id == 2


def test_after_a_crash_only_what_was_acknowledged_is_there() -> None:
    b = quiet()
    b.submit(b"a")
    b.commit()
    b.submit(b"b", first=1)
    fill(b)
    after = b.restart()
    assert list(after.session().live) == [1]
