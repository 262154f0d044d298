"""The executor's life: start, bind, work, leave, and every way to be lost."""

from dataclasses import dataclass

from flame.core.attempts import lose_lease
from flame.core.dispatch import ask_back, dispatch, rebalance
from flame.core.early_ends import doom
from flame.core.effects import (
    RefuseExecutor,
    SendBind,
    SendCancel,
    SendResultsStored,
    SendUnbind,
    StartExecutor,
    StopExecutor,
)
from flame.core.events import (
    BindDone,
    ExecutorConnected,
    ExecutorDisconnected,
    ExecutorExited,
    ExecutorUnbound,
    StartDelayed,
    TasksTakenBack,
    TaskStarted,
    WindowChanged,
)
from flame.core.executor import (
    BIND_TIMEOUT,
    FIRST_WINDOW,
    MOST_WINDOW,
    RECONNECT_TIMEOUT,
    STOP_GRACE,
    Executor,
)
from flame.core.node import Node
from flame.core.outcomes import end_without_result, notify_started, out_of_work
from flame.core.records import BindingDeleted, BindingPut, SessionEvent
from flame.core.reports import KEPT
from flame.core.session import Session
from flame.core.state import State, milliseconds
from flame.core.task import FINISHING, HELD, QUEUED, STARTED, Task
from flame.core.task_limits import timeout_of
from flame.model.attempts import Cause, Loss, bounded
from flame.model.errors import WrongState
from flame.model.ids import ExecutorId, TaskId
from flame.model.service import Peer
from flame.model.specs import Event, EventCode, ExecutorState, SessionState, TaskState

#: Seconds to wait after the n-th failed bind in a row.
BIND_BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0)
#: Seconds after which an executor says that a task runs.
STARTED_AFTER = 0.01
#: Deadlines of an executor that end with its process.
_WHILE_ALIVE = ("bind", "idle", "leave", "reconnect", "timeout", "kill", "preempt")


@dataclass(slots=True)
class BindingStored:
    """Cause: start the process, or tell the warm one."""

    executor: ExecutorId
    incarnation: int


# --- birth and binding -------------------------------------------------------------------------


def assign(state: State, session: Session, node: Node, now: float) -> Executor:
    """Make an executor for the session on the node and have its process started."""
    executor = Executor(
        ExecutorId(state.new_id()),
        node.name,
        session.spec.resources,
        session.tenant,
        session.spec.application,
        0,
        ExecutorState.VOID,
    )
    state.executors[executor.id] = executor
    node.executors[executor.id] = executor
    node.used = node.used + executor.resources
    bind(state, executor, session, now)
    return executor


def bind(state: State, executor: Executor, session: Session, now: float) -> None:
    """Give the executor to the session, under a new incarnation."""
    executor.incarnation = state.take_incarnation()
    executor.state = ExecutorState.BINDING
    executor.session = session
    if not executor.process:
        executor.window = FIRST_WINDOW  # a warm process knows how long its application's tasks take
    executor.recorded = executor.stored = executor.take_back = 0
    executor.doomed = None
    executor.preparing = False
    executor.gang = 0
    executor.entering_since = 0.0
    executor.entered = False
    session.executors[executor.id] = session.starting[executor.id] = executor
    state.touch_executor(executor)
    state.deadlines.set(("bind", executor.id), now + BIND_TIMEOUT)
    state.deadlines.clear(("idle", executor.id))
    state.store(
        BindingPut(
            executor.id,
            executor.incarnation,
            executor.node,
            session.number,
            executor.application,
            executor.tenant,
        ),
        BindingStored(executor.id, executor.incarnation),
    )


def binding_stored(state: State, cause: BindingStored, now: float) -> None:
    """The binding is on record: now the process may know of it."""
    executor = state.executors.get(cause.executor)
    if (
        executor is None
        or executor.session is None
        or executor.incarnation != cause.incarnation
        or executor.state is not ExecutorState.BINDING
    ):
        return  # lost, or its session closed, in the meantime
    executor.granted = executor.incarnation
    application = state.application(executor.tenant, executor.application)
    executor.reusable = application.spec.reusable
    if executor.process:
        _send_bind(state, executor, executor.session, now)
        return
    executor.process = executor.incarnation
    state.emit(
        StartExecutor(
            executor.node,
            executor.id,
            executor.incarnation,
            executor.tenant,
            executor.application,
            application.spec,
            executor.resources,
        )
    )


def on_start_delayed(state: State, event: StartDelayed, now: float) -> None:
    """Its process starts later, or (0 seconds) now: the binding may take as long from then on."""
    executor = state.executors.get(event.executor)
    if (
        executor is None
        or executor.incarnation != event.incarnation
        or executor.state is not ExecutorState.BINDING
    ):
        return  # stopped or replaced meanwhile
    executor.preparing = event.seconds > 0
    state.deadlines.set(("bind", executor.id), now + event.seconds + BIND_TIMEOUT)


def _send_bind(state: State, executor: Executor, session: Session, now: float) -> None:
    """Let its service enter; of a gang, all members' once all of them are there."""
    members = _gang_of(session, executor)
    if executor.gang and (
        len(members) < session.spec.batch_size
        or not all(m.connected and m.granted == m.incarnation for m in members)
    ):
        return
    peers = [_peer(state, m) for m in members] if executor.gang else []
    application = state.application(executor.tenant, executor.application)
    for member in members:
        if member.state is not ExecutorState.BINDING or member.entering_since or member.entered:
            continue
        member.entering_since = now
        state.emit(
            SendBind(
                member.id,
                member.incarnation,
                member.tenant,
                session.number,
                session.name,
                member.application,
                application.spec,
                session.spec.common_data,
                member.rank,
                peers,
            )
        )


def _gang_of(session: Session, executor: Executor) -> list[Executor]:
    """Return all members of its gang by rank; itself, if it is in none."""
    if not executor.gang:
        return [executor]
    members = [e for e in session.executors.values() if e.gang == executor.gang and e.state in KEPT]
    return sorted(members, key=lambda e: e.incarnation)


def _peer(state: State, executor: Executor) -> Peer:
    node = state.nodes.get(executor.node)
    address: str = executor.node
    if node is not None:
        address = next((text for _, text in node.addresses), node.hostname or node.name)
    return Peer(executor.id, executor.node, address)


def on_connected(state: State, event: ExecutorConnected, now: float) -> None:
    """A process opened its channel: bind it, or agree with it on what it holds."""
    executor = state.executors.get(event.executor)
    if executor is None or not _is_expected(executor, event):
        _refuse(state, event.executor, event.incarnation)
        return
    executor.connected = True
    executor.window = min(event.window, MOST_WINDOW)
    executor.gpu_ids = event.gpu_ids
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
    session.unreported.pop(executor.id, None)
    if was_awaited and state.waiting:
        state.replan = True  # now it may be taken from its session
    if executor.state is ExecutorState.BINDING:
        if not event.bound or event.incarnation != executor.incarnation:
            if executor.granted == executor.incarnation:
                executor.entering_since = 0.0  # it may not have heard
                _send_bind(state, executor, session, now)
            if was_awaited:
                dispatch(state, session)
            return
        if event.task_ids:
            _bound(state, executor, session, now)
        else:
            _enter(state, executor, session, now)
    _agree(state, session, executor, event, now)
    state.emit(SendResultsStored(executor.id, executor.stored))
    if executor.state is ExecutorState.UNBINDING:
        if executor.held:
            ask_back(state, executor, len(executor.held))
        state.emit(SendUnbind(executor.id))
    dispatch(state, session)
    if not executor.held and executor.state is ExecutorState.BOUND:
        out_of_work(state, session, executor, now)


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
        _drop_from_hand(session, executor, task)
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
        _mark_started(state, session, executor, running, now - event.running_for)


def _hold_final(state: State, executor: Executor, task_id: TaskId, now: float) -> None:
    """A restarted manager finds a task running that ended early: it must still be given up."""
    ghost = Task(task_id, None, 0)
    ghost.stage = FINISHING
    executor.held[task_id] = ghost
    doom(state, executor, ghost, now)


def _drop_from_hand(session: Session, executor: Executor, task: Task) -> None:
    del executor.held[task.id]
    session.has_room(executor)
    if executor.started is task:
        executor.started = None
        if task.stage == STARTED:
            session.running -= 1


def on_bind_done(state: State, executor: Executor, event: BindDone, now: float) -> None:
    """on_session_enter returned, one way or the other."""
    session = executor.session
    if session is None or executor.state is not ExecutorState.BINDING:
        return
    if event.return_code == 0:
        ready = _enter(state, executor, session, now)
        dispatch(state, session)
        for member in ready:
            if not member.held:
                out_of_work(state, session, member, now)
        return
    message = (
        f"Executor <{executor.id}> on node <{executor.node}> failed to bind session "
        f"with return_code <{event.return_code}>: {event.message}"
    )
    detach(state, executor)
    stop(state, executor, now)
    bind_failed(state, session, message, now)


def _enter(state: State, executor: Executor, session: Session, now: float) -> list[Executor]:
    """Its service is ready; return who may have tasks now: it, or all of its gang, or nobody yet."""
    executor.entered = True
    members = _gang_of(session, executor)
    waiting = [m for m in members if m.state is ExecutorState.BINDING]
    if executor.gang and (
        len(members) < session.spec.batch_size or not all(m.entered for m in waiting)
    ):
        return []
    for member in waiting:
        _bound(state, member, session, now)
    return waiting


def _bound(state: State, executor: Executor, session: Session, now: float) -> None:
    executor.state = ExecutorState.BOUND
    session.has_room(executor)
    executor.preparing = False
    state.deadlines.clear(("bind", executor.id))
    session.bind_failures = 0
    took = now - executor.entering_since
    if executor.entering_since and (not session.start_seconds or took < session.start_seconds):
        session.start_seconds = took
    if session.state is SessionState.CLOSED:
        unbind(state, executor, now)


def bind_failed(state: State, session: Session, message: str, now: float) -> None:
    """Count a failed bind; wait before the next one, or give the waiting tasks up."""
    session.bind_failures += 1
    state.touch_session(session)
    _note(state, session, EventCode.BIND_FAILED, message, now)
    works = any(e.state is ExecutorState.BOUND for e in session.executors.values())
    if session.bind_failures < state.limits.bind_attempts or works:
        # While another executor does the session's work, only the next attempt waits.
        wait = BIND_BACKOFF[min(session.bind_failures, len(BIND_BACKOFF)) - 1]
        session.retry_at = now + wait
        state.deadlines.set(("retry", session.number), session.retry_at)
        return
    summary = (
        f"no executor could be bound to session {session.name!r} "
        f"in {session.bind_failures} attempts; the last: {message}"
    )
    _note(state, session, EventCode.BIND_GIVEN_UP, summary, now)
    session.bind_failures = 0
    session.retry_at = now + BIND_BACKOFF[-1]
    state.deadlines.set(("retry", session.number), session.retry_at)
    waiting = [t for t in session.live.values() if t.stage == QUEUED]
    failure = (TaskState.FAILED, int(EventCode.BIND_GIVEN_UP), summary)
    end_without_result(state, session, waiting, failure, now)


def _note(state: State, session: Session, code: EventCode, message: str, now: float) -> None:
    event = Event(int(code), message, milliseconds(now))
    session.note(event)
    state.store(SessionEvent(session.number, event), session=session)


# --- work --------------------------------------------------------------------------------------


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
    _mark_started(state, session, executor, task, now - STARTED_AFTER)
    notify_started(state, session, task)
    rebalance(state, session)


def _mark_started(
    state: State, session: Session, executor: Executor, task: Task, since: float
) -> None:
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
            _drop_from_hand(session, executor, task)
            if task.stage != FINISHING:
                back.append(task)
    session.requeue(back)
    dispatch(state, session)
    if not executor.held and executor.state is ExecutorState.BOUND:
        out_of_work(state, session, executor, now)


# --- the way out -------------------------------------------------------------------------------


def unbind(state: State, executor: Executor, now: float) -> None:
    """Let the executor finish its running task, give the others back, and leave."""
    session = executor.session
    if session is None or executor.state not in (ExecutorState.BOUND, ExecutorState.BINDING):
        return
    if executor.state is ExecutorState.BINDING:
        if executor.id in session.unreported and session.state is SessionState.OPEN:
            return  # it may be at work; nobody knows before it has told
        session.unreported.pop(executor.id, None)
        detach(state, executor)
        stop(state, executor, now)
        return
    executor.state = ExecutorState.UNBINDING
    session.leaving[executor.id] = executor
    state.touch_executor(executor)
    state.deadlines.clear(("idle", executor.id))
    if executor.connected:
        if len(executor.held) > 0:
            ask_back(state, executor, len(executor.held))
        state.emit(SendUnbind(executor.id))


def on_unbound(state: State, executor: Executor, event: ExecutorUnbound, now: float) -> None:
    """on_session_leave returned: keep the warm process if its application allows, else stop it.

    One that we hold for bound was told to leave by the manager before us; tasks may be on their way
    to it, so it is not used again.
    """
    session = executor.session
    if session is None or executor.state not in (ExecutorState.BOUND, ExecutorState.UNBINDING):
        return
    was_asked = executor.state is ExecutorState.UNBINDING
    left = Loss(Cause.STOPPED, "the executor left with tasks in hand")
    return_tasks(state, session, executor, None, now, left)
    detach(state, executor)
    state.deadlines.clear(("leave", executor.id))
    state.deadlines.clear(("preempt", executor.id))
    state.deadlines.clear(("idle", executor.id))
    if not executor.reusable or not was_asked or state.drains(executor.node):
        stop(state, executor, now)
        return
    executor.state = ExecutorState.IDLE
    state.touch_executor(executor)
    state.store(
        BindingPut(
            executor.id,
            executor.incarnation,
            executor.node,
            None,
            executor.application,
            executor.tenant,
        )
    )
    state.deadlines.set(("idle", executor.id), now + state.delay_release(session))


def leave_node(state: State, executor: Executor, now: float) -> None:
    """Have the executor leave its node, with all of its gang. One that serves nobody ends at once."""
    session = executor.session
    if executor.state is ExecutorState.IDLE:
        stop(state, executor, now)
    elif session is not None:
        gang = [e for e in session.executors.values() if executor.gang and e.gang == executor.gang]
        for member in gang or [executor]:
            unbind(state, member, now)


def stop(state: State, executor: Executor, now: float, grace: float = STOP_GRACE) -> None:
    """Have the executor's process ended; its resources return when it is gone."""
    if executor.state is ExecutorState.RELEASING:
        return
    executor.state = ExecutorState.RELEASING
    state.touch_executor(executor)
    for kind in _WHILE_ALIVE:
        state.deadlines.clear((kind, executor.id))
    if executor.process:
        state.emit(StopExecutor(executor.node, executor.id, executor.process, grace))
        state.deadlines.set(("stop", executor.id), now + grace + RECONNECT_TIMEOUT)
    else:
        _remove(state, executor)


def detach(state: State, executor: Executor) -> None:
    session = executor.session
    state.touch_executor(executor)
    if session is not None:
        session.drop_executor(executor)
        if session.closing is not None:
            state.deadlines.set(("review", session.number), 0.0)
    executor.session = None
    executor.doomed = None
    state.replan = True


def _remove(state: State, executor: Executor) -> None:
    for kind in (*_WHILE_ALIVE, "stop"):
        state.deadlines.clear((kind, executor.id))
    executor.state = ExecutorState.RELEASED
    state.touch_executor(executor)
    state.executors.pop(executor.id, None)
    node = state.nodes.get(executor.node)
    if node is not None and node.executors.pop(executor.id, None) is not None:
        node.used = node.used - executor.resources
    state.store(BindingDeleted(executor.id))
    state.replan = True


def on_disconnected(state: State, event: ExecutorDisconnected, now: float) -> None:
    """The channel broke. The process may come back; its node will say if it is gone."""
    executor = state.executors.get(event.executor)
    if executor is None or event.incarnation > executor.incarnation:
        return  # an older one: a warm process that was not told of its next binding yet
    executor.connected = False
    if executor.state is ExecutorState.IDLE:
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


def on_exited(state: State, event: ExecutorExited, now: float) -> None:
    """A node saw the process end."""
    # The node repeats its report until it is told to forget the incarnation.
    state.emit(StopExecutor(event.node, event.executor, event.incarnation, 0.0))
    executor = state.executors.get(event.executor)
    if executor is None or executor.process != event.incarnation:
        return
    detail = bounded(event.detail)
    loss = Loss(event.cause, detail, event.pid, event.exit_code, event.signal)
    lose(state, executor, event.task_id, loss, now, blame_service=True)


def lose(
    state: State,
    executor: Executor,
    running: TaskId | None,
    loss: Loss,
    now: float,
    *,
    blame_service: bool = False,
) -> None:
    """The process is gone: queue its tasks again, charge the one that ran, give the slot up.

    ``running`` None: nobody knows; the task that had started, if any, is charged. A process that
    ends while it binds counts against its session only with ``blame_service``.
    """
    session = executor.session
    was_binding = executor.state is ExecutorState.BINDING
    if session is not None:
        if running is None:
            running = executor.started.id if executor.started is not None else TaskId(0)
        return_tasks(state, session, executor, running, now, loss)
        detach(state, executor)
    _remove(state, executor)
    if session is None:
        return
    if was_binding and blame_service and session.state is SessionState.OPEN:
        message = (
            f"Executor <{executor.id}> on node <{executor.node}> failed to bind session: {loss}"
        )
        bind_failed(state, session, message, now)


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
    if charged is None and running and unreported:
        charged = session.live.get(running)  # a restarted manager hears of it only now
        if charged is not None and charged.stage == QUEUED:
            session.withdraw(charged)
            held.append(charged)
    if charged is not None and charged not in held:
        charged = None
    for task in list(executor.held.values()):
        _drop_from_hand(session, executor, task)
    if not held and not unreported:
        return
    failure = lose_lease(state, session, executor, held, charged, loss, now)
    if failure is not None and charged is not None:
        end_without_result(state, session, [charged], failure, now)


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


def is_from_before(executor: Executor, incarnation: int) -> bool:
    """Whether a process speaks of its last binding because it has not heard of the next one yet.

    All it could say was recorded before the next binding was stored. No other process can speak for
    the executor, which has one in its life.
    """
    return executor.state is ExecutorState.BINDING and incarnation < executor.incarnation
