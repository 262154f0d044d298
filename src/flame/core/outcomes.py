"""Results become outcomes: recorded once, stored, then told to everybody who waits for them.

Those are subscribers, who read a session's log (``subscribers``), and watchers of one task (``watchers``).

The first result under the current lease counts. A result from an incarnation that has ended, for a
task that was taken back, cancelled or finished, is an ordinary case: counted and dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flame.core.attempts import lose_lease, may_retry
from flame.core.dispatch import dispatch, give_credit_back, rebalance
from flame.core.effects import (
    SendResultsStored,
)
from flame.core.events import TasksFinished
from flame.core.executor import MOST_WINDOW, Executor
from flame.core.keeping import acknowledge, acknowledge_taken
from flame.core.records import Barrier, OutcomesRecorded, TasksLogged
from flame.core.session import Session
from flame.core.state import State, milliseconds
from flame.core.subscribers import serve
from flame.core.task import FINISHING, QUEUED, STARTED, Task
from flame.core.watchers import notify_final
from flame.model.attempts import Cause, Loss, bounded, history
from flame.model.ids import ExecutorId, TaskId
from flame.model.logs import TaskLog
from flame.model.specs import ExecutorState, Failure, TaskState

#: One recorded batch that did not come from an executor has at most this many tasks.
RECORD_TASKS = 2048


@dataclass(slots=True)
class OutcomesStored:
    """Cause: tell the subscribers, and the executor (if it was one) that it may forget."""

    session: Session
    executor: ExecutorId | None = None
    incarnation: int = 0
    sequence: int = 0


def on_finished(state: State, executor: Executor, event: TasksFinished, now: float) -> None:
    """Record the results of a batch."""
    session = executor.session
    if event.sequence <= executor.recorded or session is None:
        # Sent again after a broken channel; what is stored by now may be forgotten.
        state.emit(SendResultsStored(executor.id, executor.stored))
        return
    executor.recorded = event.sequence
    if event.window:
        executor.window = min(event.window, MOST_WINDOW)
    stale = _take_from_hand(session, executor, event.task_ids, event.attempts)
    session.has_room(executor)
    ids, outputs, failures = event.task_ids, event.outputs, event.failures
    if event.logs:
        _keep_logs(state, session, event, stale)
    if stale:
        state.stale_results += len(stale)
        ids, outputs, failures = _without(stale, ids, outputs, failures)
    if failures and session.spec.retry_on_failure:
        kinds = {event.task_ids[i]: k for i, k in event.kinds.items() if i not in stale}
        retried = _try_again(state, session, executor, ids, failures, kinds, now)
        ids, outputs, failures = _without(retried, ids, outputs, failures)
    cause = OutcomesStored(session, executor.id, executor.incarnation, event.sequence)
    if ids:
        record(state, session, ids, outputs, failures, now, cause)
    else:
        state.store(Barrier(), cause, session=session)
    dispatch(state, session)
    if not executor.held:
        out_of_work(state, session, executor, now)


def _keep_logs(state: State, session: Session, event: TasksFinished, stale: set[int]) -> None:
    """Store what the tasks wrote, in the commit that stores their outcomes."""
    logs = [
        TaskLog(event.task_ids[index], event.attempts[index] if event.attempts else 1, *streams)
        for index, streams in event.logs.items()
        if index not in stale
    ]
    if logs:
        state.store(TasksLogged(session.number, logs), session=session)


def _take_from_hand(
    session: Session, executor: Executor, task_ids: Sequence[TaskId], attempts: Sequence[int]
) -> set[int]:
    """Mark the tasks as finishing; return the indexes of results that do not count."""
    held = executor.held
    stale: set[int] = set()
    for index, task_id in enumerate(task_ids):
        task = held.pop(task_id, None)
        if task is None:
            stale.add(index)
            continue
        if attempts and attempts[index] != task.attempts + 1:
            stale.add(index)
            held[task_id] = task
            continue
        if task.stage == STARTED:
            session.running -= 1
            executor.started = None
        elif task.stage == FINISHING:
            stale.add(index)
            continue
        task.stage = FINISHING
    return stale


def _try_again(
    state: State,
    session: Session,
    executor: Executor,
    ids: Sequence[TaskId],
    failures: dict[int, Failure],
    kinds: dict[TaskId, Sequence[str]],
    now: float,
) -> set[int]:
    """Give tasks that their service failed another attempt; return which of them."""
    retried: set[int] = set()
    for index, (_, _, text) in failures.items():
        task = session.live[ids[index]]
        if may_retry(session, task, kinds.get(task.id, ())):
            loss = Loss(Cause.RAISED, bounded(text))
            lose_lease(state, session, executor, [task], task, loss, now)
            retried.add(index)
        elif session.history.get(task.id):
            before = history(session.history[task.id])
            failures[index] = (*failures[index][:2], f"{text}\nbefore this:\n{before}")
    return retried


def _without(
    stale: set[int],
    ids: Sequence[TaskId],
    outputs: Sequence[bytes | None],
    failures: dict[int, Failure],
) -> tuple[list[TaskId], list[bytes | None], dict[int, Failure]]:
    kept = [i for i in range(len(ids)) if i not in stale]
    return (
        [ids[i] for i in kept],
        [outputs[i] for i in kept],
        {new: failures[old] for new, old in enumerate(kept) if old in failures},
    )


def out_of_work(state: State, session: Session, executor: Executor, now: float) -> None:
    """The executor has nothing in hand: find it something, or let it wait for its release."""
    if executor.standby or executor.state is not ExecutorState.BOUND:
        return  # it opened its channel again, or is on its way out
    rebalance(state, session)
    state.deadlines.set(("idle", executor.id), now + state.delay_release(session))
    if state.waiting:
        state.out_of_work[executor.id] = None  # somebody else may have it at once
        _review_binding(state, session)


def _review_binding(state: State, session: Session) -> None:
    """Have executors taken away that start for work which others have done in the meantime."""
    if session.unfinished < len(session.executors) and session.has_starting:
        state.replan = True


def record(
    state: State,
    session: Session,
    ids: Sequence[TaskId],
    outputs: Sequence[bytes | None],
    failures: dict[int, Failure],
    now: float,
    cause: OutcomesStored,
) -> None:
    """Give the outcomes their positions in the log and have them stored."""
    batch = OutcomesRecorded(
        session.number, session.next_position, ids, outputs, failures, milliseconds(now)
    )
    session.next_position += len(ids)
    state.touch_session(session)
    state.store(batch, cause, session=session)


def end_without_result(
    state: State, session: Session, tasks: Iterable[Task], failure: Failure, now: float
) -> None:
    """Make tasks final that no executor answers for: cancelled, lost, or never startable.

    They must be QUEUED, or already out of their executor's hand.
    """
    ending: list[TaskId] = []
    for task in tasks:
        if task.stage == QUEUED:
            session.withdraw(task)
        task.stage = FINISHING
        ending.append(task.id)
    for start in range(0, len(ending), RECORD_TASKS):
        ids = ending[start : start + RECORD_TASKS]
        failures = dict.fromkeys(range(len(ids)), failure)
        record(state, session, ids, [None] * len(ids), failures, now, OutcomesStored(session))
    give_credit_back(state, session)  # the queue has become shorter


def outcomes_stored(state: State, batch: OutcomesRecorded, cause: OutcomesStored) -> None:
    """The outcomes are safe: forget the tasks, tell everybody."""
    session = cause.session
    if cause.executor is not None:
        results_dropped(state, cause)
    if session.watchers:
        notify_final(state, session, batch)
    _count(session, batch)
    session.log_end = batch.first_position + len(batch.task_ids)
    subscribed = [a for a in session.attachments.values() if a.subscribed]
    if subscribed:
        session.tail.append(batch)
        for attachment in subscribed:
            serve(state, session, attachment)
        if all(a.cursor == session.log_end for a in subscribed):
            # Nobody is behind. Kept on, a few outcomes scattered over the heap would hold the pages
            # of a million that are gone; who reconnects is served from the store.
            session.tail.clear()
        if session.is_volatile:
            acknowledge_taken(state, session)
    elif session.is_volatile and not session.was_attached:
        acknowledge(state, session, session.log_end)
    if state.waiting:
        _review_binding(state, session)


def results_dropped(state: State, cause: OutcomesStored) -> None:
    """Tell the executor that it may forget its results: they are stored, or count for nothing."""
    executor = state.executors.get(cause.executor) if cause.executor is not None else None
    if executor is not None and executor.incarnation == cause.incarnation:
        executor.stored = cause.sequence
        leaving = executor.state is ExecutorState.UNBINDING  # it leaves when all is stored
        state.emit(SendResultsStored(executor.id, cause.sequence, awaited=leaving))


def _count(session: Session, batch: OutcomesRecorded) -> None:
    live = session.live
    for task_id in batch.task_ids:
        live.pop(task_id, None)
    said: tuple[dict[TaskId, Any], ...] = (
        session.history, session.notes, session.limits, session.preempted,
    )  # fmt: skip
    for known in said:
        if known:
            for task_id in batch.task_ids:
                known.pop(task_id, None)
    if not live and len(batch.task_ids) > 1:
        live.clear()  # a dictionary that held a million keeps their room, though it is empty
    session.succeeded += len(batch.task_ids) - len(batch.failures)
    for final, _, _ in batch.failures.values():
        if final is TaskState.CANCELLED:
            session.cancelled += 1
        else:
            session.failed += 1
