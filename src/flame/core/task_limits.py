"""How long a task may run, and by when it must be final: its own limits, or else its session's.

Few tasks have limits of their own, so a session keeps those of its live tasks beside them.
"""

from collections.abc import Mapping
from heapq import heappop, heappush

from flame.core.session import Session
from flame.core.task import FINISHING, Task
from flame.model.ids import TaskId
from flame.model.specs import TaskLimits


def limit(session: Session, limits: Mapping[TaskId, TaskLimits], created_ms: int) -> None:
    """Take on the limits of tasks that were created then."""
    session.limits.update(limits)
    for task_id, own in limits.items():
        if own.deadline_ms:
            heappush(session.dues, (created_ms + own.deadline_ms, task_id))


def timeout_of(session: Session, task: Task) -> float:
    """Return for how many seconds the task may run; 0: for ever."""
    own = session.limits.get(task.id) if session.limits else None
    limit_ms = own.timeout_ms if own is not None else 0
    return (limit_ms or session.spec.task_timeout_ms) / 1000


def has_own_deadline(session: Session, task: Task) -> bool:
    """Whether the session's deadline does not count for the task."""
    own = session.limits.get(task.id) if session.limits else None
    return own is not None and own.deadline_ms > 0


def next_due(session: Session) -> float | None:
    """Return when the first deadline of a task that is not final has passed, in seconds."""
    dues: list[float] = []
    own = session.dues
    while own and not _waits(session, own[0][1]):
        heappop(own)
    if own:
        dues.append(own[0][0])
    if session.spec.deadline_ms:
        for task in session.live.values():
            if task.stage != FINISHING and not has_own_deadline(session, task):
                dues.append(task.created_ms + session.spec.deadline_ms)
                break
    return (min(dues) + 1) / 1000 if dues else None


def past_due(session: Session, now_ms: int) -> list[tuple[Task, int]]:
    """Return the tasks that were not final in time, and how many milliseconds they had."""
    late: list[tuple[Task, int]] = []
    common = session.spec.deadline_ms
    if common:
        for task in session.live.values():  # by rising age of creation
            if task.created_ms > now_ms - common:
                break
            if task.stage != FINISHING and not has_own_deadline(session, task):
                late.append((task, common))
    own = session.dues
    while own and own[0][0] <= now_ms:
        task_id = heappop(own)[1]
        if _waits(session, task_id):
            late.append((session.live[task_id], session.limits[task_id].deadline_ms))
    return late


def _waits(session: Session, task_id: TaskId) -> bool:
    task = session.live.get(task_id)
    return task is not None and task.stage != FINISHING
