"""An executor is made for a session, or a warm one is given to it, and its service enters."""

from dataclasses import dataclass

from flame.core.dispatch import dispatch
from flame.core.effects import SendBind, StartExecutor
from flame.core.events import BindDone, StartDelayed
from flame.core.executor import BIND_TIMEOUT, FIRST_WINDOW, QUICK_ENTER, Executor
from flame.core.hand import give_back
from flame.core.leaving import detach, stop, unbind
from flame.core.node import Node
from flame.core.outcomes import end_without_result, out_of_work
from flame.core.records import BindingPut, SessionEvent
from flame.core.reports import KEPT
from flame.core.session import Session
from flame.core.state import State, milliseconds
from flame.core.task import QUEUED
from flame.model.ids import ExecutorId
from flame.model.service import Peer
from flame.model.specs import (
    WINDOW_AT_BINDING,
    Event,
    EventCode,
    ExecutorState,
    SessionState,
    TaskState,
)

#: Seconds to wait after the n-th failed bind in a row.
BIND_BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True)
class BindingStored:
    """Cause: start the process, or tell the warm one."""

    executor: ExecutorId
    incarnation: int


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
    # A warm process knows how long its application's tasks take.
    most = WINDOW_AT_BINDING if executor.process else FIRST_WINDOW
    executor.window = min(executor.window, most)
    executor.recorded = executor.stored = executor.take_back = 0
    executor.doomed = None
    executor.preparing = False
    executor.gang = 0
    executor.entering_since = 0.0
    executor.entered = executor.early = False
    session.executors[executor.id] = session.starting[executor.id] = executor
    state.touch_executor(executor)
    state.deadlines.set(("bind", executor.id), now + BIND_TIMEOUT)
    state.deadlines.clear(("idle", executor.id))
    put = BindingPut(
        executor.id,
        executor.incarnation,
        executor.node,
        session.number,
        executor.application,
        executor.tenant,
    )
    # Also of a session in memory: its executors must be known after a restart, to be stopped.
    cause = BindingStored(executor.id, executor.incarnation)
    state.store(put, cause, sync=session.is_sync)


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
        send_bind(state, executor, executor.session, now)
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


def send_bind(state: State, executor: Executor, session: Session, now: float) -> None:
    """Let its service enter; of a gang, all members' once all of them are there.

    One that is likely to enter at once is handed tasks together with its binding: it has done them
    by the time at which it would have asked for some.
    """
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
        quick = 0.0 < member.enter_seconds <= QUICK_ENTER
        member.early = quick and member.takes_early and member.connected and not member.gang
        if member.early:
            session.has_room(member)
            dispatch(state, session)


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


def on_bind_done(state: State, executor: Executor, event: BindDone, now: float) -> None:
    """on_session_enter returned, one way or the other."""
    session = executor.session
    if executor.state is ExecutorState.UNBINDING:
        state.deadlines.clear(("bind", executor.id))  # it was asked to leave before it had entered
    if session is None or executor.state is not ExecutorState.BINDING:
        return
    if event.return_code == 0:
        ready = enter(state, executor, session, now)
        dispatch(state, session)
        for member in ready:
            if not member.held:
                out_of_work(state, session, member, now)
        return
    message = (
        f"Executor <{executor.id}> on node <{executor.node}> failed to bind session "
        f"with return_code <{event.return_code}>: {event.message}"
    )
    give_back(session, executor)
    detach(state, executor)
    stop(state, executor, now)
    bind_failed(state, session, message, now)


def enter(state: State, executor: Executor, session: Session, now: float) -> list[Executor]:
    """Its service is ready; return who may have tasks now: it, or all of its gang, or nobody yet."""
    executor.entered = True
    members = _gang_of(session, executor)
    waiting = [m for m in members if m.state is ExecutorState.BINDING]
    if executor.gang and (
        len(members) < session.spec.batch_size or not all(m.entered for m in waiting)
    ):
        return []
    for member in waiting:
        bound(state, member, session, now)
    return waiting


def bound(state: State, executor: Executor, session: Session, now: float) -> None:
    """It may have tasks from now on."""
    executor.state = ExecutorState.BOUND
    executor.early = False
    session.has_room(executor)
    executor.preparing = False
    state.deadlines.clear(("bind", executor.id))
    session.bind_failures = 0
    if executor.entering_since:
        took = executor.enter_seconds = max(now - executor.entering_since, 1e-6)
        if not session.start_seconds or took < session.start_seconds:
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
