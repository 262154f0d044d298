"""What the core tells the scheduler's ledger, and when.

Rules only note what they changed (``state.touch_…``); the facts themselves are derived from the state
as it is when somebody is about to read the ledger. So nothing is reported per task, and a fact that
changed and changed back costs nothing.
"""

from flame.core.executor import Executor
from flame.core.node import Node
from flame.core.session import Session
from flame.core.state import State
from flame.model.errors import NotFound
from flame.model.ids import NodeName
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.specs import ExecutorState, NodeState, SessionState
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.limits import ceiling_of
from flame.scheduling.tree import Leaf, chain, in_turn, leaves_of
from flame.scheduling.victims import MAX_PREEMPTIONS

_NOWHERE: dict[NodeName, float] = {}
KEPT = (ExecutorState.BINDING, ExecutorState.BOUND)


def report(state: State, now: float) -> None:
    """Bring the ledger up to date: nodes, then sessions, then the executors that refer to both."""
    ledger = state.ledger
    if state.touched_nodes:
        for name in state.touched_nodes:
            node = state.nodes.get(name)
            machine = machine_of(state, node) if node is not None else None
            if node is None or machine is None:
                ledger.drop_machine(name)
                continue
            if name not in ledger.rooms.by_node:
                state.touched_executors.update(dict.fromkeys(node.executors))
            ledger.put_machine(machine)
        state.touched_nodes.clear()
        state.possible.clear()
    if state.touched_sessions:
        for number in state.touched_sessions:
            session = state.sessions.get(number)
            if session is None or session.state is not SessionState.OPEN:
                ledger.drop_wish(number)
            elif not _is_as_reported(state, session, now):
                ledger.put_wish(wish_of(state, session, now))
        state.touched_sessions.clear()
    if state.touched_executors:
        for executor_id in state.touched_executors:
            executor = state.executors.get(executor_id)
            if executor is None:
                ledger.drop_holding(executor_id)
            else:
                ledger.put_holding(holding_of(executor))
        state.touched_executors.clear()


def _is_as_reported(state: State, session: Session, now: float) -> bool:
    """Whether the session wants what it wanted: the rest of its wish is its specification's."""
    leaf = state.ledger.leaves.get(session.number)
    if leaf is None or session.preempted or leaf.wish.protected:
        return False
    return leaf.wish.wanted == _wanted(state, session, now)


def _wanted(state: State, session: Session, now: float) -> int:
    wanted = demand(state, session)
    if now < session.retry_at:
        wanted = min(wanted, kept_by(session))  # no new ones until the next attempt is due
    return wanted


def wish_of(state: State, session: Session, now: float) -> Wish:
    """Return what the session wants."""
    spec = session.spec
    wanted = _wanted(state, session, now)
    return Wish(
        session.number,
        session.tenant,
        spec.application,
        int(session.number),
        spec.resources,
        wanted,
        min(spec.min_instances, wanted),
        spec.priority,
        1.0,
        spec.batch_size,
        spec.require,
        spec.prefer,
        dict.fromkeys(map(NodeName, spec.near), 1.0) if spec.near else _NOWHERE,
        protected=_protected(session) if session.preempted else 0,
    )


def _protected(session: Session) -> int:
    return sum(
        session.preempted.get(e.started.id, 0) >= MAX_PREEMPTIONS
        for e in session.executors.values()
        if e.started is not None
    )


def machine_of(state: State, node: Node) -> Machine | None:
    """Return the node as the scheduler sees it; None: its executors are lost, nothing is there."""
    if node.state is NodeState.NOT_READY:
        return None
    away = node.state is NodeState.UNKNOWN
    cordoned = away or node.name in state.cordons
    drained = state.drains(node.name)
    return Machine(
        node.name, node.capacity, node.labels, cordoned=cordoned, away=away, drained=drained
    )


def holding_of(executor: Executor) -> Holding:
    """Return the executor as the scheduler sees it."""
    state = executor.state
    session = executor.session.number if executor.session is not None else None
    serves = state in KEPT and session is not None and not executor.standby
    # An idle one without a channel can serve nobody now; it comes back or is stopped.
    is_idle = (executor.standby or state is ExecutorState.IDLE) and executor.connected
    return Holding(
        executor.id,
        executor.node,
        executor.resources,
        executor.tenant,
        executor.application,
        session if serves else None,
        leaving=not serves and not is_idle,
        standby=session if executor.standby else None,
        reusable=executor.reusable or not executor.standby,
    )


def kept_by(session: Session) -> int:
    """Return how many executors the session has, those on their way out excluded."""
    return sum([e.state in KEPT and not e.standby for e in session.executors.values()])


def demand(state: State, session: Session) -> int:
    """Return how many executors the session could use now, within its own limits."""
    unfinished = session.unfinished
    if session.leaving:
        # Who was asked to leave ends the task that it runs; nobody else is needed for that one.
        unfinished -= sum(e.started is not None for e in session.leaving.values())
    wanted = max(unfinished, session.spec.min_instances)
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


def somebody_waits(state: State, besides: Session | None = None) -> bool:
    """Whether a session (another than ``besides``) could have, and does not have, an executor more."""
    ledger = state.ledger
    giver = ledger.leaves.get(besides.number) if besides is not None else None
    for tier in ledger.tiers:
        for leaf in in_turn(ledger.root, tier):
            if besides is not None and leaf.wish.session == besides.number:
                continue
            if _is_possible(state, leaf) and _could_have(leaf, giver):
                return True
    return False


def _could_have(leaf: Leaf, giver: Leaf | None) -> bool:
    """Whether its tenants may have more, or could if the giver (None: anybody) gave an executor."""
    full = ceiling_of(leaf, leaf.wish.batch_size)
    if full is None:
        return True
    if giver is not None:
        return full in chain(giver)
    return any(other.kept and other is not leaf for other in leaves_of(full))


def _is_possible(state: State, leaf: Leaf) -> bool:
    """Whether some node, were it empty, could hold one of the session's executors."""
    key: tuple[Resources, Labels] = (leaf.wish.request, leaf.wish.requires)
    known = state.possible.get(key)
    if known is None:
        rooms = state.ledger.rooms
        known = any(rooms.suits(leaf.wish, room) for room in rooms.by_node.values())
        state.possible[key] = known
    return known
