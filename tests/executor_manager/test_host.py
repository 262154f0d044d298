import sys
from pathlib import Path

import pytest

import flame
from flame.executor_manager.cell import Cell
from flame.executor_manager.hand import End, Enter, Hand
from flame.executor_manager.host import Host
from flame.model.ids import TaskId
from flame.model.service import TaskContext
from flame.model.specs import ApplicationSpec, ShimKind
from flame.wire import frames
from flame.wire.codec import application_spec_to
from tests.assignments import assigned

SEEN: list[TaskContext] = []


class Keeper(flame.FlameService):
    """Keeps what it is told of each task."""

    def on_task_invoke(self, context: TaskContext) -> None:
        SEEN.append(context)


class Reports:
    """Hears what the I/O thread is told."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self.codes: list[int] = []
        self.woken_with: list[int] = []

    def wake(self) -> None:
        self.woken_with.append(len(self._hand.finished))
        self._hand.awake = False  # it has sent them, and sleeps again

    def entered(self, incarnation: int, code: int, message: str) -> None:
        self.codes.append(code)

    def left(self) -> None:
        raise AssertionError("nobody asked it to leave")


def test_a_task_is_told_all_that_a_context_says_and_its_result_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    application = ApplicationSpec(shim=ShimKind.PYTHON, entry_point=f"{__name__}:Keeper")
    hand = Hand()
    hand.awake = False  # the I/O thread sleeps
    hand.cancelled.add(2)
    hand.command(
        Enter(
            frames.Bind(session_id="s", incarnation=1, application=application_spec_to(application))
        )
    )
    hand.deal([(TaskId(1), 1, b"one"), (TaskId(2), 3, None)])
    hand.command(End())
    assignment = assigned(tmp_path)
    reports = Reports(hand)
    SEEN.clear()
    with Cell(assignment.cell) as cell:
        Host(hand, cell, assignment, reports, lambda reason, end=None: None).run()
    made = [
        TaskContext(TaskId(1), "s", b"one", 1, hand.cancelled),
        TaskContext(TaskId(2), "s", None, 3, hand.cancelled),
    ]
    assert [all_of(context) for context in SEEN] == [all_of(context) for context in made]
    assert [(row[0], row[1], row[2]) for row in hand.finished] == [(1, 1, None), (2, 3, None)]
    assert reports.codes == [0]
    assert reports.woken_with[-1] == 2


def all_of(context: TaskContext) -> dict[str, object]:
    return {name: getattr(context, name) for name in TaskContext.__slots__}
