"""What is said of single tasks goes to their executors, and is kept as long as they are."""

from flame.core import effects, events
from flame.model.ids import DEFAULT_TENANT
from flame.model.task_notes import TaskNotes
from tests.core.builders import bench

SAID = TaskNotes((("a", "b"),), "in/x")


def test_notes_go_with_their_task_and_end_with_it() -> None:
    b = bench()
    b.node()
    b.post(events.SubmitTasks(1, 0, [b"1", b"2"], None, {1: SAID}))
    b.bind(window=2)
    sent = [effect for effect in b.effects if isinstance(effect, effects.SendTasks)]
    assert [effect.notes for effect in sent] == [{2: SAID}]
    b.finish(1, 2)
    assert b.session().notes == {}


def test_notes_survive_a_restart_with_their_tasks() -> None:
    b = bench()
    b.post(events.SubmitTasks(1, 0, [b"1", b"2"], None, {1: SAID}))
    assert b.restart().session().notes == {2: SAID}


def test_what_was_submitted_before_keeps_its_notes_when_it_comes_again_with_more() -> None:
    b = bench()
    b.post(events.SubmitTasks(1, 0, [b"1"], None, {0: SAID}))
    b.post(events.SubmitTasks(1, 0, [b"1", b"2"], None, {0: TaskNotes(), 1: SAID}))
    assert b.session().notes == {1: SAID, 2: SAID}


def test_a_task_of_a_single_call_has_its_notes_too() -> None:
    b = bench()
    b.post(events.CreateTask(DEFAULT_TENANT, "s", b"1", "create", notes=SAID))
    b.post(events.CreateTask(DEFAULT_TENANT, "s", b"2", "create"))
    assert b.session().notes == {1: SAID}
    assert b.restart().session().notes == {1: SAID}
