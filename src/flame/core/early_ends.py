"""Tasks that end before their service does: cancelled, timed out, past their deadline.

    the outcome is recorded ──▶ the service is told (``context.cancelled``) ──▶ its process is ended

Server state first: whatever the service answers after that is stale. It then has a grace period to
return; an executor that still has the task in its hand after that is replaced.
"""

from flame.core.dispatch import ask_back
from flame.core.effects import SendCancel
from flame.core.executor import Executor
from flame.core.outcomes import end_without_result
from flame.core.session import Session
from flame.core.state import State, milliseconds
from flame.core.task import FINISHING, HELD, STARTED, Task
from flame.core.task_limits import has_own_deadline, next_due, past_due
from flame.model.specs import EventCode, Failure, TaskState


def end_early(
    state: State, session: Session, tasks: list[Task], failure: Failure, now: float
) -> None:
    """Make the tasks final, whatever they do; tell executors that hold some of them."""
    held: dict[str, list[Task]] = {}
    ending = [t for t in tasks if t.stage != FINISHING]
    for task in ending:
        if task.stage in (HELD, STARTED) and task.holder is not None:
            held.setdefault(task.holder.id, []).append(task)
            if task.stage == STARTED:
                session.running -= 1
                task.holder.started = None
    end_without_result(state, session, ending, failure, now)
    for theirs in held.values():
        executor = theirs[0].holder
        if executor is None:
            continue
        # What it has not started comes back within moments; the others it must end.
        doom(state, executor, theirs[0], now)
        if executor.connected:
            ids = [t.id for t in theirs]
            ask_back(state, executor, 0, ids)
            state.emit(SendCancel(executor.id, ids))


def doom(state: State, executor: Executor, task: Task, now: float) -> None:
    """Have the executor replaced unless it gives up the task, which is final, in time."""
    if executor.doomed is None:
        executor.doomed = task
        state.deadlines.set(("kill", executor.id), now + state.limits.cancel_grace)


def set_deadline(state: State, session: Session) -> None:
    """Look at the session when its oldest task that is not final has had its time."""
    key = ("deadline", session.number)
    if key not in state.deadlines or session.dues:
        due = next_due(session)
        if due is not None:
            state.deadlines.set(key, due)


def deadline_overdue(state: State, session: Session, now: float) -> None:
    """End the tasks that were not final in time."""
    by_limit: dict[int, list[Task]] = {}
    for task, limit_ms in past_due(session, milliseconds(now)):
        by_limit.setdefault(limit_ms, []).append(task)
    for limit_ms, late in by_limit.items():
        whose = "its own" if has_own_deadline(session, late[0]) else "its session's"
        text = f"it was not final {limit_ms / 1000:g} s after its creation, {whose} deadline"
        failure: Failure = (TaskState.FAILED, int(EventCode.DEADLINE_PASSED), text)
        end_early(state, session, late, failure, now)
    set_deadline(state, session)
