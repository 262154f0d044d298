"""Watchers of one task are told of its start and its end, once."""

from flame.core.effects import (
    FinalTask,
    NotifyTask,
    Refuse,
    TaskView,
)
from flame.core.events import UnwatchTask, WatchTask
from flame.core.records import OutcomesRecorded
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import STARTED, Task
from flame.core.views import attempt_of, task_view
from flame.model.errors import NotFound
from flame.model.specs import TaskState
from flame.model.task_notes import NO_NOTES


def on_watch(state: State, event: WatchTask, now: float) -> None:
    """Tell a watcher of one task's changes, or at once if it is final."""
    session = state.names.get((event.tenant, event.name))
    if session is None or not 1 <= event.task_id < session.next_id:
        what = "session" if session is None else f"task {event.task_id} in session"
        state.emit(Refuse(event.watcher, NotFound(f"there is no {what} {event.name!r}")))
        return
    task = session.live.get(event.task_id)
    if task is None:
        state.emit(FinalTask(event.watcher, session.number, event.task_id))
        return
    session.watchers.setdefault(event.task_id, []).append(event.watcher)
    if task.stage == STARTED:
        state.emit(NotifyTask(event.watcher, task_view(session, task)))


def on_unwatch(state: State, event: UnwatchTask, now: float) -> None:
    """A watcher has gone."""
    session = state.sessions.get(event.session)
    watchers = session.watchers.get(event.task_id) if session is not None else None
    if session is None or watchers is None or event.watcher not in watchers:
        return
    watchers.remove(event.watcher)
    if not watchers:
        del session.watchers[event.task_id]


def notify_started(state: State, session: Session, task: Task) -> None:
    """Tell the task's watchers that it runs."""
    for watcher in session.watchers.get(task.id, ()):
        state.emit(NotifyTask(watcher, task_view(session, task)))


def notify_final(state: State, session: Session, batch: OutcomesRecorded) -> None:
    """Tell the watchers of these tasks how they ended, before the tasks leave memory."""
    for index, task_id in enumerate(batch.task_ids):
        watchers = session.watchers.pop(task_id, None)
        task = session.live.get(task_id)
        if watchers is None or task is None:
            continue
        failure = batch.failures.get(index)
        view = TaskView(
            session.number,
            session.name,
            task_id,
            failure[0] if failure else TaskState.SUCCEEDED,
            task.input,
            batch.outputs[index],
            task.created_ms,
            batch.finished_ms,
            failure,
            attempt_of(failure, task.attempts),
            tuple(session.history.get(task_id, ())),
            session.notes.get(task_id, NO_NOTES),
        )
        for watcher in watchers:
            state.emit(NotifyTask(watcher, view))
