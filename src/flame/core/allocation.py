"""Between the core and the scheduler: tell it what changed, take those of its steps that still hold."""

from collections.abc import Iterator
from typing import Protocol

from flame.core.binding import assign, bind
from flame.core.dispatch import dispatch
from flame.core.executor import Executor
from flame.core.gangs import join
from flame.core.leaving import leave_node
from flame.core.node import Node
from flame.core.preemption import release
from flame.core.reports import demand, kept_by, report, somebody_waits
from flame.core.session import Session
from flame.core.standby import take, take_leave
from flame.core.state import State
from flame.core.usage import watch
from flame.model.ids import NodeName, SessionNumber
from flame.model.resources import Resources
from flame.model.specs import ExecutorState, NodeState, SessionState
from flame.scheduling.ledger import Ledger
from flame.scheduling.steps import Assign, Evict, Plan, Release, Reuse, Step

#: Plans in one event: each may make room for the next one, but not for ever.
ROUNDS = 4


class Planner(Protocol):
    """Decides who gets which executor."""

    def plan(self, ledger: Ledger) -> Plan:
        """Return steps in the order in which to take them. Equal ledgers give equal plans."""


def replan(state: State, planner: Planner, now: float) -> None:
    """Have a plan made and take its steps, each re-checked against the state as it is then.

    A step that does not hold is not taken; the ledger, which counted on it, is told so. What following
    a plan gives reason to plan again for (an executor that had not started is gone at once, say) is
    seen to in the same event: nobody knows when the next one comes.
    """
    for _ in range(ROUNDS):
        state.replan = False
        report(state, now)
        if not _follow(state, planner, now) and not state.replan:
            break
    take_leave(state, now)
    report(state, now)
    state.waiting = somebody_waits(state)
    watch(state, now)


def _follow(state: State, planner: Planner, now: float) -> bool:
    """Have a plan made and take its steps; return whether somebody had to give.

    Whoever gave may fit where the taker does not, and a limit may allow somebody more than before.
    """
    growth = _Growth(state)
    gave = False
    resumed: dict[SessionNumber, Session] = {}
    for step in _with_gangs(state, planner.plan(state.ledger)):
        match step:
            case tuple():
                _assign_all(state, step, growth, now)
            case Reuse(number, executor_id):
                session, executor = state.sessions.get(number), state.executors.get(executor_id)
                if executor is None:
                    continue
                state.touch_executor(executor)
                if (
                    session is not None
                    and _matches(state, executor, session)
                    and growth.take(session)
                ):
                    if executor.standby:
                        take(state, executor, session, now)
                        resumed[session.number] = session
                    else:
                        bind(state, executor, session, now)
            case Evict(executor_id):
                executor = state.executors.get(executor_id)
                if executor is not None and _is_idle(executor):
                    leave_node(state, executor, now)
            case Release():
                session = state.sessions.get(step.session)
                if session is not None:
                    release(state, session, step, now)
                    gave = True
    for session in resumed.values():
        dispatch(state, session)
    return gave


def _with_gangs(state: State, plan: Plan) -> Iterator[Step | tuple[Assign, ...]]:
    """Put what is assigned to a session one after the other together, as many as go together."""
    gang: list[Assign] = []
    for step in plan:
        if not isinstance(step, Assign):
            gang.clear()
            yield step
            continue
        if gang and gang[0].session != step.session:
            gang.clear()
        gang.append(step)
        session = state.sessions.get(step.session)
        if session is not None and len(gang) == session.spec.batch_size:
            yield tuple(gang)
            gang.clear()


def _assign_all(state: State, steps: tuple[Assign, ...], growth: "_Growth", now: float) -> None:
    """Make all of these executors, or none."""
    session = state.sessions[steps[0].session]
    most = state.limits.max_executors
    if most is not None and len(state.executors) + len(steps) > most:
        return
    places: list[Node] = []
    asked: dict[NodeName, Resources] = {}
    for step in steps:
        node = state.nodes.get(step.node)
        if node is None or node.state is not NodeState.READY or node.name in state.cordons:
            return
        asked[node.name] = asked.get(node.name, Resources()) + session.spec.resources
        if not asked[node.name].fits_in(node.free):
            return
        places.append(node)
    if not growth.take(session, len(steps)):
        return
    places.sort(key=lambda node: node.name)  # ranks on one node follow one another
    made = [assign(state, session, node, now) for node in places]
    if len(made) > 1:
        join(made)


class _Growth:
    """How many executors more each session may have, counted once for all steps of a plan."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._left: dict[SessionNumber, int] = {}

    def take(self, session: Session, count: int = 1) -> bool:
        """Whether the session may have so many more; if so, they are counted."""
        left = self._left.get(session.number)
        if left is None:
            is_open = session.state is SessionState.OPEN
            left = demand(self._state, session) - kept_by(session) if is_open else 0
        enough = left >= count
        self._left[session.number] = left - count if enough else left
        return enough


def _is_idle(executor: Executor) -> bool:
    return executor.standby or executor.state is ExecutorState.IDLE


def _matches(state: State, executor: Executor, session: Session) -> bool:
    return (
        _is_idle(executor)
        and (executor.reusable or executor.session is session)
        and executor.connected
        and executor.node not in state.cordons
        and executor.tenant == session.tenant
        and executor.application == session.spec.application
        and executor.resources == session.spec.resources
    )
