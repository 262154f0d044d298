"""The final states that are kept until somebody has seen them."""

from flame.core.effects import TaskView
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import TaskState
from flame.session_manager.recent import RecentTasks
from tests.session_manager.fake_manager import a_task

SESSION = SessionNumber(7)


def final(task_id: int, size: int = 10) -> TaskView:
    return a_task(task_id, state=TaskState.SUCCEEDED, input=None, output=bytes(size))


def test_a_final_task_is_shown_once() -> None:
    recent = RecentTasks()
    recent.notify(a_task(1, state=TaskState.RUNNING))
    assert recent.take(SESSION, TaskId(1)) is None
    recent.notify(final(1))
    assert recent.take(SessionNumber(8), TaskId(1)) is None
    view = recent.take(SESSION, TaskId(1))
    assert view is not None
    assert view.output == bytes(10)
    assert recent.take(SESSION, TaskId(1)) is None


def test_the_oldest_leave_when_there_are_too_many_tasks_or_bytes() -> None:
    recent = RecentTasks(most_tasks=3, most_bytes=100)
    for task_id in range(1, 6):
        recent.notify(final(task_id))
    assert [recent.take(SESSION, TaskId(i)) is not None for i in range(1, 6)] == [
        *(False, False),
        *(True, True, True),
    ]
    recent.notify(final(6, 60))
    recent.notify(final(7, 60))
    assert len(recent) == 1
    recent.notify(final(8, 200))
    assert len(recent) == 0
    recent.notify(final(9, 100))
    assert recent.take(SESSION, TaskId(9)) is not None
