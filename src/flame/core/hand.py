"""What an executor has in hand: tasks start there, are taken back, or are lost with it."""

from flame.core.attempts import lose_lease
from flame.core.dispatch import dispatch, rebalance
from flame.core.events import TasksTakenBack, TaskStarted, WindowChanged
from flame.core.executor import MOST_WINDOW, Executor
from flame.core.outcomes import end_without_result, out_of_work
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import FINISHING, HELD, QUEUED, STARTED, Task
from flame.core.task_limits import timeout_of
from flame.core.watchers import notify_started
from flame.model.attempts import Loss
from flame.model.ids import TaskId
from flame.model.specs import ExecutorState

#: Seconds after which an executor says that a task runs.
STARTED_AFTER = 0.01


def on_window(state: State, executor: Executor, event: WindowChanged, now: float) -> None:
    """The executor wants more, or less, in hand."""
    executor.window = min(event.window, MOST_WINDOW)
    session = executor.session
    if session is not None:
        session.has_room(executor)
        dispatch(state, session)
        rebalance(state, session)  # its tasks may have turned out to be slow


def on_started(state: State, executor: Executor, event: TaskStarted, now: float) -> None:
    """A task has run for more than 10 ms: now it counts as running."""
    session = executor.session
    task = executor.held.get(event.task_id)
    if session is None or task is None or task.stage != HELD:
        return
    mark_started(state, session, executor, task, now - STARTED_AFTER)
    notify_started(state, session, task)
    rebalance(state, session)


def mark_started(
    state: State, session: Session, executor: Executor, task: Task, since: float
) -> None:
    """The executor runs the task, since then."""
    previous = executor.started
    if previous is not None and previous.stage == STARTED:
        previous.stage = HELD  # its result is on its way; one task per executor runs
        session.running -= 1
    task.stage = STARTED
    executor.started = task
    executor.started_at = since
    session.running += 1
    if session.preempted or session.leaving:
        # It may run a task that is not to be thrown away again, or one that needs nobody else.
        state.touch_session(session)
    limit = timeout_of(session, task)
    if limit:
        state.deadlines.set(("timeout", executor.id), since + limit)


def on_taken_back(state: State, executor: Executor, event: TasksTakenBack, now: float) -> None:
    """The executor gave up unstarted tasks: queue them again, without spending an attempt."""
    session = executor.session
    if event.request == executor.take_back:
        executor.take_back = 0
    if session is None:
        return
    back: list[Task] = []
    for task_id in event.task_ids:
        task = executor.held.get(task_id)
        if task is not None:
            drop_from_hand(session, executor, task)
            if task.stage != FINISHING:
                back.append(task)
    session.requeue(back)
    dispatch(state, session)
    if not executor.held and executor.state is ExecutorState.BOUND:
        out_of_work(state, session, executor, now)


def drop_from_hand(session: Session, executor: Executor, task: Task) -> None:
    """The executor does not have the task any more; what becomes of it is the caller's affair."""
    del executor.held[task.id]
    session.has_room(executor)
    if executor.started is task:
        executor.started = None
        if task.stage == STARTED:
            session.running -= 1


def give_back(session: Session, executor: Executor) -> None:
    """Queue what the executor certainly has not started, without spending an attempt."""
    tasks = list(executor.held.values())
    for task in tasks:
        drop_from_hand(session, executor, task)
    session.requeue(task for task in tasks if task.stage != FINISHING)


def return_tasks(
    state: State,
    session: Session,
    executor: Executor,
    running: TaskId | None,
    now: float,
    loss: Loss,
) -> None:
    """Take everything out of the executor's hand; charge an attempt to the task that ran."""
    unreported = executor.id in session.unreported
    held = [t for t in executor.held.values() if t.stage != FINISHING]
    charged = executor.held.get(running) if running else None
    if charged is None and running and unreported and running < session.first_new_id:
        charged = session.live.get(running)  # a restarted manager hears of it only now
        if charged is not None and charged.stage == QUEUED:
            session.withdraw(charged)
            held.append(charged)
    if charged is not None and charged not in held:
        charged = None
    for task in list(executor.held.values()):
        drop_from_hand(session, executor, task)
    if not held and not unreported:
        return
    failure = lose_lease(state, session, executor, held, charged, loss, now)
    if failure is not None and charged is not None:
        end_without_result(state, session, [charged], failure, now)
