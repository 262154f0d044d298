"""The latest final tasks that were created one by one, until somebody has seen them.

A released client creates a task by one call and then watches it by another. A short task is final by
then, and would have to be read back from the store in another thread for every single task.
"""

from collections import OrderedDict

from flame.core.effects import TaskView
from flame.model.errors import FlameError
from flame.model.ids import SessionNumber, TaskId

#: What is kept at most; the oldest leaves first, and is read from the store from then on.
MOST_TASKS = 8192
MOST_BYTES = 16 * 1024 * 1024


class RecentTasks:
    """Watches tasks (as the core's handle) and keeps their final states."""

    def __init__(self, most_tasks: int = MOST_TASKS, most_bytes: int = MOST_BYTES) -> None:
        self._most_tasks = most_tasks
        self._most_bytes = most_bytes
        self._views: OrderedDict[tuple[SessionNumber, TaskId], TaskView] = OrderedDict()
        self._bytes = 0

    def notify(self, view: TaskView) -> None:
        """Keep the view if it is final."""
        if not view.state.is_final:
            return
        views = self._views
        views[(view.session, view.task_id)] = view
        self._bytes += _size(view)
        while self._bytes > self._most_bytes or len(views) > self._most_tasks:
            _, oldest = views.popitem(last=False)
            self._bytes -= _size(oldest)

    def refuse(self, error: FlameError) -> None:
        """Nothing: who creates the task is told."""

    def take(self, session: SessionNumber, task_id: TaskId) -> TaskView | None:
        """Return a final task and forget it: who has seen it rarely comes again."""
        view = self._views.pop((session, task_id), None)
        if view is not None:
            self._bytes -= _size(view)
        return view

    def __len__(self) -> int:
        return len(self._views)


def _size(view: TaskView) -> int:
    return len(view.input or b"") + len(view.output or b"")
