"""A process opens its channel, or opens it again: who may speak for an executor, and what it holds."""

from dataclasses import replace

from flame.core.binding import bound, enter, send_bind
from flame.core.dispatch import ask_back, dispatch
from flame.core.early_ends import doom
from flame.core.effects import RefuseExecutor, SendCancel, SendResultsStored, SendUnbind
from flame.core.events import ExecutorConnected, ExecutorDisconnected, WindowChanged
from flame.core.executor import MOST_WINDOW, RECONNECT_TIMEOUT, Executor
from flame.core.hand import drop_from_hand, give_back, mark_started, return_tasks
from flame.core.leaving import detach, leave_node, stop
from flame.core.outcomes import out_of_work
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import FINISHING, HELD, QUEUED, Task
from flame.core.task_limits import timeout_of
from flame.model.attempts import Cause, Loss
from flame.model.errors import WrongState
from flame.model.ids import ExecutorId, TaskId
from flame.model.specs import WINDOW_AT_BINDING, ExecutorState


def on_connected(state: State, event: ExecutorConnected, now: float) -> None:
    """A process opened its channel: bind it, or agree with it on what it holds."""
    executor = state.executors.get(event.executor)
    if executor is None or not _is_expected(executor, event):
        _refuse(state, event.executor, event.incarnation)
        return
    executor.connected = True
    executor.window = min(event.window, MOST_WINDOW)
    executor.gpu_ids = event.gpu_ids
    executor.takes_early = event.takes_early
    state.deadlines.clear(("reconnect", executor.id))
    session = executor.session
    if session is None:
        state.touch_executor(executor)
        state.replan = True  # an idle one can be bound again
        return
    _receive(state, session, executor, event, now)
    if state.drains(executor.node):
        leave_node(state, executor, now)  # nobody knew before what it holds


def _receive(
    state: State, session: Session, executor: Executor, event: ExecutorConnected, now: float
) -> None:
    """Bind the process, or agree with it on what it holds and give it more."""
    was_awaited = executor.id in session.unreported
    if was_awaited:
        state.touch_executor(executor)
        if any(task_id >= session.first_new_id for task_id in event.task_ids):
            _fence(state, session, executor, event, now)
            return
    session.unreported.pop(executor.id, None)
    if was_awaited and state.waiting:
        state.replan = True  # now it may be taken from its session
    if executor.standby:
        state.touch_executor(executor)
        state.replan = True  # it can be had again
    if executor.state is ExecutorState.BINDING:
        if not event.bound or event.incarnation != executor.incarnation:
            if event.incarnation != executor.incarnation:
                give_back(session, executor)
            elif executor.held or event.task_ids:
                _agree(state, session, executor, event, now)  # they came with the binding
            if executor.granted == executor.incarnation:
                executor.entering_since = 0.0  # it may not have heard
                send_bind(state, executor, session, now)
            if was_awaited:
                dispatch(state, session)
            return
        if event.task_ids:
            bound(state, executor, session, now)
        else:
            enter(state, executor, session, now)
            if executor.state is ExecutorState.BINDING:
                # Its gang may have waited for it to come back, to be told once more.
                send_bind(state, executor, session, now)
    _agree(state, session, executor, event, now)
    state.emit(SendResultsStored(executor.id, executor.stored))
    if executor.state is ExecutorState.UNBINDING:
        if executor.held:
            ask_back(state, executor, len(executor.held))
        state.emit(SendUnbind(executor.id))
    dispatch(state, session)
    if not executor.held and executor.state is ExecutorState.BOUND:
        out_of_work(state, session, executor, now)


def _fence(
    state: State, session: Session, executor: Executor, event: ExecutorConnected, now: float
) -> None:
    """It holds tasks that a loss of power has taken: their numbers are, or will be, other tasks'.

    Whatever it says of such a number must not be heard, so it is replaced. What else it held goes
    elsewhere at no cost.
    """
    known = [i for i, task_id in enumerate(event.task_ids) if task_id < session.first_new_id]
    attempts = [event.attempts[i] for i in known] if event.attempts else ()
    ids = [event.task_ids[i] for i in known]
    _agree(state, session, executor, replace(event, task_ids=ids, attempts=attempts), now)
    loss = Loss(Cause.STOPPED, "it held tasks of its session that a loss of power has taken")
    return_tasks(state, session, executor, None, now, loss)
    detach(state, executor)
    stop(state, executor, now, grace=0.0)


def _is_expected(executor: Executor, event: ExecutorConnected) -> bool:
    """Whether the process speaks for the current binding, or waits, warm, to be told of it."""
    return executor.incarnation == event.incarnation or is_from_before(executor, event.incarnation)


def _agree(
    state: State, session: Session, executor: Executor, event: ExecutorConnected, now: float
) -> None:
    """Make our view of what the executor holds the same as its own."""
    theirs = dict.fromkeys(event.task_ids)
    never_arrived = [t for t in executor.held.values() if t.id not in theirs]
    for task in never_arrived:
        drop_from_hand(session, executor, task)
    session.requeue(t for t in never_arrived if t.stage != FINISHING)
    unwanted: list[TaskId] = []
    for index, task_id in enumerate(event.task_ids):
        if task_id in executor.held:
            if executor.held[task_id].stage == FINISHING:
                unwanted.append(task_id)  # it ended early, and the executor may not know
            continue
        found = session.live.get(task_id)
        attempt = event.attempts[index] if event.attempts else 1
        if found is None or found.stage != QUEUED or found.attempts + 1 != attempt:
            unwanted.append(task_id)
            if task_id == event.running and (found is None or found.stage == FINISHING):
                _hold_final(state, executor, task_id, now)
            continue
        session.withdraw(found)  # a restarted manager learns who has it
        found.stage = HELD
        found.holder = executor
        executor.held[task_id] = found
    executor.take_back = 0
    session.has_room(executor)
    session.holds_more(executor)
    if unwanted:
        ask_back(state, executor, 0, unwanted)
        state.emit(SendCancel(executor.id, unwanted))
    running = executor.held.get(event.running)
    if running is not None and running.stage == HELD:
        mark_started(state, session, executor, running, now - event.running_for)


def _hold_final(state: State, executor: Executor, task_id: TaskId, now: float) -> None:
    """A restarted manager finds a task running that ended early: it must still be given up."""
    ghost = Task(task_id, None, 0)
    ghost.stage = FINISHING
    executor.held[task_id] = ghost
    doom(state, executor, ghost, now)


def on_disconnected(state: State, event: ExecutorDisconnected, now: float) -> None:
    """The channel broke. The process may come back; its node will say if it is gone."""
    executor = state.executors.get(event.executor)
    if executor is None or event.incarnation > executor.incarnation:
        return  # an older one: a warm process that was not told of its next binding yet
    executor.connected = False
    if executor.state is ExecutorState.IDLE or executor.standby:
        state.touch_executor(executor)
    if executor.state is ExecutorState.RELEASING:
        return
    state.deadlines.set(("reconnect", executor.id), now + RECONNECT_TIMEOUT)
    session = executor.session
    first = next(iter(executor.held.values()), None)
    if session is not None and first is not None and executor.started is None:
        # It may run and keep its process from saying so: count from when it fell silent.
        limit = timeout_of(session, first)
        if limit:
            state.deadlines.set(("timeout", executor.id), now + limit)


def _refuse(state: State, executor: ExecutorId, incarnation: int) -> None:
    error = WrongState(
        f"incarnation {incarnation} of executor {executor} has ended; its tasks were given to others"
    )
    state.emit(RefuseExecutor(executor, incarnation, error))


def current(state: State, executor_id: ExecutorId, incarnation: int) -> Executor | None:
    """Return the executor if this incarnation is its current one; refuse the process if not."""
    executor = state.executors.get(executor_id)
    if executor is None or executor.incarnation != incarnation:
        if executor is None or not is_from_before(executor, incarnation):
            _refuse(state, executor_id, incarnation)
        return None
    return executor


def on_window_from_before(state: State, event: WindowChanged) -> None:
    """A process changed its window before it heard of its next binding, which is where it counts.

    As far as a binding leaves it.
    """
    executor = state.executors.get(event.executor)
    if executor is not None and is_from_before(executor, event.incarnation):
        executor.window = min(event.window, WINDOW_AT_BINDING)
        if executor.early and executor.session is not None:
            executor.session.has_room(executor)


def is_from_before(executor: Executor, incarnation: int) -> bool:
    """Whether a process speaks of its last binding because it has not heard of the next one yet.

    All it could say of tasks was recorded before the next binding was stored. No other process can
    speak for the executor, which has one in its life.
    """
    return executor.state is ExecutorState.BINDING and incarnation < executor.incarnation
