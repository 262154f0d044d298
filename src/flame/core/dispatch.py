"""Which task goes to which bound executor: the hot path.

Tasks are handed out in order of their id, as many as an executor's window allows and never more than
its share of what is queued, so that the end of a session is spread over all its executors. What an
executor holds unstarted is asked back when another has nothing to do (take-back, in two phases: only
what the executor says it gave up is queued again).
"""

from collections.abc import Sequence

from flame.core.effects import GrantSubmits, SendTakeBack, SendTasks
from flame.core.executor import Executor
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import HELD, Task
from flame.model.ids import TaskId

#: Tasks, and bytes of input, handed out in one go.
HAND_OUT_TASKS = 2048
HAND_OUT_BYTES = 8 * 1024 * 1024
#: This part of a window is a fraction of a millisecond of work, and is not split.
WHOLE = 16
#: An executor with a larger window works through it in a few milliseconds: not worth a take-back.
TAKE_BACK_WINDOW = 16


def dispatch(state: State, session: Session) -> None:
    """Hand queued tasks to the session's executors that have room."""
    if not session.queued or session.unreported or session.closing is not None:
        return
    ready = [e for e in session.executors.values() if e.is_usable and len(e.held) < e.window]
    if not ready:
        return
    if len(ready) > 1:
        ready.sort(key=_tasks_in_hand)
    share = -(-session.queued // len(session.executors))
    for executor in ready:
        # A few quick tasks are not worth a frame to each executor: one gets them whole.
        fair = max(share, executor.window // WHOLE)
        count = min(executor.window - len(executor.held), fair, HAND_OUT_TASKS, session.queued)
        if count <= 0:
            break
        _hand_out(state, session, executor, count)
    give_credit_back(state, session)


def rebalance(state: State, session: Session) -> None:
    """Ask for unstarted tasks back where one executor holds several and another has none."""
    if session.queued or len(session.executors) < 2 or session.closing is not None:
        return
    usable = [e for e in session.executors.values() if e.is_usable]
    if all(e.held for e in usable):
        return
    richest = max(
        (e for e in usable if e.take_back == 0 and _is_slow(e)), key=_tasks_in_hand, default=None
    )
    if richest is not None and len(richest.held) > 1:
        ask_back(state, richest, len(richest.held) // 2)


def ask_back(state: State, executor: Executor, count: int, task_ids: Sequence[TaskId] = ()) -> None:
    """Ask the executor to give up unstarted tasks."""
    request = state.take_request()
    executor.take_back = request
    state.emit(SendTakeBack(executor.id, request, count, task_ids))


def _tasks_in_hand(executor: Executor) -> int:
    return len(executor.held)


def _is_slow(executor: Executor) -> bool:
    return executor.started is not None or executor.window <= TAKE_BACK_WINDOW


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
        state.emit(SendTasks(executor.id, ids, inputs, attempts if retried else []))
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
            state.emit(GrantSubmits(attachment.id, attachment.withheld))
            attachment.withheld = 0
