"""From what the store holds back to a cluster, after a restart.

Tasks that executors may still hold are not handed out again until those executors have said what they
hold, or are known to be gone: a session with stored bindings starts with its executors unreported.
"""

from flame.core.early_ends import set_deadline
from flame.core.executor import BIND_TIMEOUT, RECONNECT_TIMEOUT, Executor
from flame.core.gangs import find_again
from flame.core.node import RESTART_GRACE, Node
from flame.core.records import (
    BindingDeleted,
    BindingPut,
    Recovered,
    RecoveredSession,
    SessionEvent,
    SessionPut,
)
from flame.core.session import Session
from flame.core.state import State, await_client, milliseconds
from flame.core.submitter import Submitter
from flame.core.task import Task
from flame.core.task_limits import limit
from flame.model.ids import NodeName
from flame.model.resources import Resources
from flame.model.specs import Durability, Event, EventCode, ExecutorState, NodeState, SessionState

#: Seconds that clients have to come back after the manager was restarted.
CLIENT_RETURN = 30.0


def restore(state: State, recovered: Recovered, now: float) -> None:
    """Fill an empty state with what survived."""
    state.epoch = recovered.epoch
    state.next_session = recovered.next_session
    state.next_incarnation = recovered.next_incarnation
    state.cordons = {put.node: put for put in recovered.cordons}
    for application in recovered.applications:
        state.applications[(application.tenant, application.name)] = application
    for known in recovered.sessions:
        session = _session(state, known)
        state.sessions[session.number] = session
        state.names[(session.tenant, session.name)] = session
        if session.spec.durability is Durability.MEMORY and session.state is SessionState.OPEN:
            _close_lost(state, session, now)
        if session.state is SessionState.OPEN:
            session.backlog.add_session(1)
            await_client(state, session, now, CLIENT_RETURN)
            if session.spec.deadline_ms or session.dues:
                set_deadline(state, session)
    for binding in recovered.bindings:
        _executor(state, binding, now)
    for session in state.sessions.values():
        if session.spec.batch_size > 1 and session.executors:
            find_again(session)
            state.touched_gangs[session.number] = None
    state.touched_sessions.update(dict.fromkeys(state.sessions))
    state.touched_nodes.update(dict.fromkeys(state.nodes))
    state.touched_executors.update(dict.fromkeys(state.executors))
    state.replan = True


def _session(state: State, known: RecoveredSession) -> Session:
    put = known.put
    backlog = state.backlogs.of(put.tenant)
    session = Session(put.session, put.tenant, put.name, put.spec, put.created_ms, backlog)
    session.state = put.state
    session.closed_ms = put.closed_ms
    session.next_id = session.first_new_id = known.next_task_id
    session.next_position = session.log_end = known.log_end
    session.succeeded, session.failed = known.succeeded, known.failed
    session.cancelled = known.cancelled
    session.events = list(known.events)
    session.submitters = {key: Submitter(ranges) for key, ranges in known.submitters.items()}
    if put.state is SessionState.CLOSED:
        return session
    tasks: list[Task] = []
    for task_id, value, created_ms, attempts in known.pending:
        task = Task(task_id, value, created_ms)
        if attempts:
            task.attempts = attempts
        tasks.append(task)
    session.live = {task.id: task for task in tasks}
    for task_id, own in known.limits.items():
        limit(session, {task_id: own}, session.live[task_id].created_ms)
    session.notes = dict(known.notes)
    session.history = {task_id: list(known.history[task_id]) for task_id in known.history}
    session.enqueue(tasks)
    return session


def _close_lost(state: State, session: Session, now: float) -> None:
    """A memory session did not survive; say so rather than forget its name."""
    session.state = SessionState.CLOSED
    session.closed_ms = milliseconds(now)
    event = Event(
        int(EventCode.LOST),
        "the session manager was restarted; a session with durability 'memory' does not survive it",
        milliseconds(now),
    )
    session.note(event)
    state.store(SessionEvent(session.number, event))
    state.store(
        SessionPut(
            session.number,
            session.tenant,
            session.name,
            session.spec,
            session.state,
            session.created_ms,
            session.closed_ms,
        )
    )


def _executor(state: State, binding: BindingPut, now: float) -> None:
    session = state.sessions.get(binding.session) if binding.session is not None else None
    if session is None or session.state is SessionState.CLOSED:
        # Idle, or its session has gone: its node will be told to stop it.
        state.store(BindingDeleted(binding.executor))
        return
    node = state.nodes.get(binding.node)
    if node is None:
        node = Node(binding.node, b"", NodeState.UNKNOWN, Resources())
        state.nodes[NodeName(binding.node)] = node
        state.deadlines.set(("lease", node.name), now + RESTART_GRACE)
    executor = Executor(
        binding.executor,
        binding.node,
        session.spec.resources,
        binding.tenant,
        binding.application,
        binding.incarnation,
        ExecutorState.BINDING,
        session,
        process=binding.incarnation,
        granted=binding.incarnation,
        reusable=state.application(binding.tenant, binding.application).spec.reusable,
    )
    state.executors[executor.id] = executor
    node.executors[executor.id] = executor
    node.used = node.used + executor.resources
    session.executors[executor.id] = session.starting[executor.id] = executor
    session.unreported[executor.id] = None
    state.deadlines.set(("reconnect", executor.id), now + RECONNECT_TIMEOUT)
    state.deadlines.set(("bind", executor.id), now + BIND_TIMEOUT)
