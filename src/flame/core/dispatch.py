"""Which task goes to which bound executor: the hot path.

Tasks are handed out in order of their id, as many as an executor's window allows and never more than
its share of what is queued, so that the end of a session is spread over all its executors. What an
executor holds unstarted is asked back when another has nothing to do (take-back, in two phases: only
what the executor says it gave up is queued again).
"""

from collections.abc import Sequence

from flame.core.effects import GrantSubmits, SendTakeBack, SendTasks
from flame.core.executor import Executor
from flame.core.outcome_log import Attachment
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import HELD, Task
from flame.model.ids import ExecutorId, TaskId

#: Tasks, and bytes of input, handed out in one go.
HAND_OUT_TASKS = 2048
HAND_OUT_BYTES = 8 * 1024 * 1024
#: This part of a window is a fraction of a millisecond of work, and is not split.
WHOLE = 16
#: Of very quick tasks so many go together: among hundreds of executors the frames would cost us more
#: than the tasks cost them. A window that holds four times as many is of such tasks.
TOGETHER = 256
#: An executor with a larger window works through it in a few milliseconds: not worth a take-back.
TAKE_BACK_WINDOW = 16
#: Of those that hold more than one task, so many are compared to find who holds most.
LOOKED_AT = 64


def dispatch(state: State, session: Session) -> None:
    """Hand queued tasks to the session's executors that have room."""
    if not session.queued or session.unreported or session.closing is not None:
        return
    ready = _first(session.empty, session.queued)
    if len(ready) < session.queued:
        ready = _first(session.roomy)
        if not ready:
            return
        if len(ready) > 1:
            ready.sort(key=_tasks_in_hand)
    share = -(-session.queued // len(session.executors))
    for executor in ready:
        # A few quick tasks are not worth a frame to each executor: one gets them whole.
        window = executor.window
        fair = max(share, window // WHOLE, TOGETHER if window >= 4 * TOGETHER else 0)
        count = min(executor.window - len(executor.held), fair, HAND_OUT_TASKS, session.queued)
        if count <= 0:
            break
        _hand_out(state, session, executor, count)
    give_credit_back(state, session)


def rebalance(state: State, session: Session) -> None:
    """Ask for unstarted tasks back where one executor holds several and another has none."""
    if session.queued or len(session.executors) < 2 or session.closing is not None:
        return
    if not _first(session.empty, 1):
        return
    richest = _richest(session)
    if richest is not None:
        ask_back(state, richest, len(richest.held) // 2)


def _first(index: dict[ExecutorId, Executor], count: int = 0) -> list[Executor]:
    """Return the first ``count`` in the index (0: all) that have room; drop those that have none."""
    found: list[Executor] = []
    stale: list[ExecutorId] = []
    for executor in index.values():
        if executor.is_usable and len(executor.held) < executor.window:
            found.append(executor)
            if len(found) == count:
                break
        else:
            stale.append(executor.id)
    for executor_id in stale:
        del index[executor_id]
    return found


def _richest(session: Session) -> Executor | None:
    """Return the one that holds most and may be asked, of the first few that hold more than one task."""
    richest: Executor | None = None
    stale: list[ExecutorId] = []
    looked_at = 0
    for executor in session.ahead.values():
        if len(executor.held) < 2:
            stale.append(executor.id)
        elif executor.is_usable and executor.take_back == 0 and _is_slow(executor):
            if richest is None or len(executor.held) > len(richest.held):
                richest = executor
            looked_at += 1
            if looked_at == LOOKED_AT:
                break
    for executor_id in stale:
        del session.ahead[executor_id]
    return richest


def ask_back(state: State, executor: Executor, count: int, task_ids: Sequence[TaskId] = ()) -> None:
    """Ask the executor to give up unstarted tasks."""
    request = state.take_request()
    executor.take_back = request
    state.emit(SendTakeBack(executor.id, request, count, task_ids))


def _tasks_in_hand(executor: Executor) -> int:
    return len(executor.held)


def _is_slow(executor: Executor) -> bool:
    return executor.started is not None or executor.early or executor.window <= TAKE_BACK_WINDOW


def _hand_out(state: State, session: Session, executor: Executor, count: int) -> None:
    queue, held = session.queue, executor.held
    ids: list[TaskId] = []
    inputs: list[bytes | None] = []
    attempts: list[int] = []
    retried = False
    size = 0
    while count and queue:
        task: Task = queue.popleft()
        if task.stage:
            continue  # it got its outcome while it was queued
        task.stage = HELD
        task.holder = executor
        held[task.id] = task
        ids.append(task.id)
        inputs.append(task.input)
        attempts.append(task.attempts + 1)
        if task.attempts:
            retried = True
        count -= 1
        if task.input is not None:
            size += len(task.input)
            if size > HAND_OUT_BYTES:
                break
    session.count_queued(-len(ids), -size)
    if ids:
        session.holds_more(executor)
        notes = session.notes and {i: session.notes[i] for i in ids if i in session.notes}
        state.emit(SendTasks(executor.id, ids, inputs, attempts if retried else [], notes or None))
        state.deadlines.clear(("idle", executor.id))


def queue_is_full(state: State, session: Session) -> bool:
    """Whether the session has as much queued as the cluster holds for one session."""
    return (
        session.queued >= state.limits.max_queued_tasks
        or session.queued_bytes >= state.limits.max_queued_bytes
    )


def give_credit_back(state: State, session: Session) -> None:
    """Return the submit credit that was withheld while the queue was full."""
    if not any(a.withheld for a in session.attachments.values()) or queue_is_full(state, session):
        return
    for attachment in session.attachments.values():
        if attachment.withheld:
            grant_submits(state, attachment, attachment.withheld)
            attachment.withheld = 0


def grant_submits(state: State, attachment: Attachment, credit: int) -> None:
    """Let the client submit this many bytes more."""
    attachment.allowance += credit
    state.emit(GrantSubmits(attachment.id, credit))
