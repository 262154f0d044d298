"""Between the core and the scheduling policy: make the snapshot, take the steps that still hold."""

from flame.core.executor import Executor
from flame.core.executors import assign, bind, stop, unbind
from flame.core.session import Session
from flame.core.state import State
from flame.model.errors import NotFound
from flame.model.resources import Resources
from flame.model.specs import ExecutorState, NodeState, SessionState
from flame.scheduling.snapshot import (
    Assign,
    Evict,
    IdleExecutor,
    NodeOffer,
    Policy,
    Release,
    Reuse,
    SessionDemand,
    Snapshot,
)

_KEPT = (ExecutorState.BINDING, ExecutorState.BOUND)
_LEAVING = (ExecutorState.UNBINDING, ExecutorState.RELEASING)


def take_snapshot(state: State, now: float) -> Snapshot:
    """Show a policy who wants executors and what there is."""
    ready = sorted(
        (n for n in state.nodes.values() if n.state is NodeState.READY), key=lambda n: n.name
    )
    fits: dict[Resources, bool] = {}
    sessions: list[SessionDemand] = []
    for session in state.sessions.values():
        if session.state is not SessionState.OPEN:
            continue
        kept = sum([e.state in _KEPT for e in session.executors.values()])
        wanted = demand(state, session)
        if now < session.retry_at:
            wanted = min(wanted, kept)  # no new ones until the next attempt is due
        request = session.spec.resources
        if request not in fits:
            fits[request] = any(request.fits_in(n.capacity) for n in ready)
        if not fits[request]:
            wanted = min(wanted, kept)  # no node could hold one: nobody must make room for it
        if wanted or kept:
            sessions.append(
                SessionDemand(
                    session.number,
                    session.tenant,
                    session.spec.application,
                    int(session.number),
                    session.spec.priority,
                    1.0,
                    session.spec.resources,
                    wanted,
                    min(session.spec.min_instances, wanted),
                    kept,
                    session.spec.batch_size,
                )
            )
    total = Resources()
    offers: list[NodeOffer] = []
    idle: list[IdleExecutor] = []
    for node in ready:
        total = total + node.capacity
        returning = Resources()
        for executor in node.executors.values():
            if executor.state in _LEAVING:
                returning = returning + executor.resources
            elif executor.state is ExecutorState.IDLE and executor.connected:
                idle.append(
                    IdleExecutor(
                        executor.id,
                        node.name,
                        executor.resources,
                        executor.tenant,
                        executor.application,
                    )
                )
        offers.append(NodeOffer(node.name, node.free, returning))
    return Snapshot(sessions, offers, idle, total)


def demand(state: State, session: Session) -> int:
    """Return how many executors the session could use now, within its own limits."""
    wanted = max(session.unfinished, session.spec.min_instances)
    limits = [session.spec.max_instances]
    try:
        limits.append(
            state.application(session.tenant, session.spec.application).spec.max_instances
        )
    except NotFound:
        return 0
    for limit in limits:
        if limit is not None:
            wanted = min(wanted, limit)
    batch = session.spec.batch_size
    return -(-wanted // batch) * batch


def replan(state: State, policy: Policy, now: float) -> None:
    """Ask the policy and take its steps, each re-checked against the state as it is then."""
    state.replan = False
    snapshot = take_snapshot(state, now)
    state.waiting = any(s.bound < s.wanted for s in snapshot.sessions)
    for step in policy.plan(snapshot):
        match step:
            case Assign(number, node_name):
                session, node = state.sessions.get(number), state.nodes.get(node_name)
                if session is None or node is None or node.state is not NodeState.READY:
                    continue
                if _may_grow(state, session) and session.spec.resources.fits_in(node.free):
                    assign(state, session, node, now)
            case Reuse(number, executor_id):
                session, executor = state.sessions.get(number), state.executors.get(executor_id)
                if session is None or executor is None or not _may_grow(state, session):
                    continue
                if _matches(executor, session):
                    bind(state, executor, session, now)
            case Evict(executor_id):
                executor = state.executors.get(executor_id)
                if executor is not None and executor.state is ExecutorState.IDLE:
                    stop(state, executor, now)
            case Release(number, count):
                session = state.sessions.get(number)
                if session is not None:
                    _release(state, session, count, now)


def _may_grow(state: State, session: Session) -> bool:
    kept = sum([e.state in _KEPT for e in session.executors.values()])
    return session.state is SessionState.OPEN and kept < demand(state, session)


def _matches(executor: Executor, session: Session) -> bool:
    return (
        executor.state is ExecutorState.IDLE
        and executor.connected
        and executor.tenant == session.tenant
        and executor.application == session.spec.application
        and executor.resources == session.spec.resources
    )


def _release(state: State, session: Session, count: int, now: float) -> None:
    """Take executors from a session: those without tasks first, then those with the fewest."""
    candidates = sorted(
        (
            e
            for e in session.executors.values()
            if e.state in _KEPT and e.id not in session.unreported
        ),
        key=lambda e: (e.started is not None, len(e.held), -e.incarnation),
    )
    for executor in candidates[:count]:
        unbind(state, executor, now)
