"""Attempts: what a task has spent, whether it may have another, and when.

A run that ends without an outcome spends an attempt of the task that was running, unless the cause
was none of its doing (``UNCOUNTED``). The tasks are queued again once it is on record that the lease
was lost: whoever runs one of them a second time can show why. One that was charged before waits a
while first, so that a task which kills its executors does not keep a cluster busy starting them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flame.core.dispatch import dispatch
from flame.core.executor import Executor
from flame.core.records import LeaseLost
from flame.core.session import Session
from flame.core.state import State, milliseconds
from flame.core.task import HELD, Task
from flame.model.attempts import UNCOUNTED, Attempt, Cause, Loss, history, keep
from flame.model.ids import ExecutorId, TaskId
from flame.model.retries import matches
from flame.model.specs import EventCode, Failure, TaskState

#: Seconds that a task waits after its n-th attempt was lost. The first is mostly not its fault.
RETRY_BACKOFF = (0.0, 0.5, 2.0, 5.0)
#: The same after its service failed it.
RAISED_BACKOFF = (0.1, 0.5, 2.0, 5.0)


@dataclass(slots=True)
class LeaseLostStored:
    """Cause: that the lease was lost is on record, so its tasks may be given to others.

    ``executor`` None: it goes on; only a task of its was failed by its service.
    """

    session: Session
    executor: ExecutorId | None
    tasks: list[Task]
    charged: Task | None
    wait: float


def lose_lease(
    state: State,
    session: Session,
    executor: Executor,
    tasks: list[Task],
    running: Task | None,
    loss: Loss,
    now: float,
) -> Failure | None:
    """Take tasks that are out of the executor's hand back, and charge the one that ran.

    Returns:
        Why ``running`` may not be tried again; None if it may. The caller makes it final.
    """
    charged = None if loss.cause in UNCOUNTED else running
    for task in tasks:
        task.stage = HELD
        task.holder = None
    failure, wait = None, 0.0
    spent = 0
    if charged is not None:
        charged.attempts += 1
        spent = charged.attempts
        attempts = session.history.setdefault(charged.id, [])
        keep(attempts, spent, executor.node, executor.id, loss, milliseconds(now))
        failure = _verdict(session, charged, attempts)
        times = RAISED_BACKOFF if loss.cause == Cause.RAISED else RETRY_BACKOFF
        wait = times[min(spent, len(times)) - 1]
    raised = loss.cause == Cause.RAISED
    state.store(
        LeaseLost(
            session.number,
            executor.id,
            executor.incarnation,
            [t.id for t in tasks],
            charged.id if charged is not None else TaskId(0),
            spent,
            loss,
            milliseconds(now),
            executor.node,
        ),
        LeaseLostStored(session, None if raised else executor.id, tasks, charged, wait),
        session=session,
    )
    return failure


def may_retry(session: Session, task: Task, kinds: Sequence[str]) -> bool:
    """Whether a task that its service has just failed is to be tried again."""
    known = session.history.get(task.id)
    often = (known[-1].raised if known else 0) < session.spec.retry_on_failure
    return often and matches(session.spec.retry_on, kinds)


def _verdict(session: Session, task: Task, attempts: Sequence[Attempt]) -> Failure | None:
    """Return why the task is tried no more, or None."""
    lost = task.attempts - attempts[-1].raised
    if lost < session.spec.max_attempts:
        return None
    times = "1 time" if lost == 1 else f"{lost} times"
    text = f"the executor died {times} while it ran this task\n{history(attempts)}"
    return (TaskState.FAILED, int(EventCode.LOST), text)


def lease_lost_stored(state: State, cause: LeaseLostStored, now: float) -> None:
    """Queue the tasks again, but for those that got an outcome in the meantime."""
    session = cause.session
    if cause.executor is not None:
        session.unreported.pop(cause.executor, None)
    back = [t for t in cause.tasks if t.stage == HELD and t.holder is None]
    charged = cause.charged
    if charged is not None and cause.wait and charged in back:
        back.remove(charged)
        session.resting[charged.id] = now + cause.wait
        _set_alarm(state, session)
    session.requeue(back)
    state.replan = True
    dispatch(state, session)


def rest_over(state: State, session: Session, now: float) -> None:
    """Queue the tasks that have waited for their next attempt."""
    rested = [task_id for task_id, due in session.resting.items() if due <= now]
    for task_id in rested:
        del session.resting[task_id]
    tasks = [t for i in rested if (t := session.live.get(i)) is not None]
    session.requeue([t for t in tasks if t.stage == HELD and t.holder is None])
    if session.resting:
        _set_alarm(state, session)
    dispatch(state, session)


def _set_alarm(state: State, session: Session) -> None:
    state.deadlines.set(("rest", session.number), min(session.resting.values()))
