"""Between the core and the scheduler: tell it what changed, take those of its steps that still hold."""

from typing import Protocol

from flame.core.executor import Executor
from flame.core.executors import assign, bind, stop
from flame.core.preemption import release
from flame.core.reports import demand, kept_by, report, somebody_waits
from flame.core.session import Session
from flame.core.state import State
from flame.core.usage import watch
from flame.model.ids import SessionNumber
from flame.model.specs import ExecutorState, NodeState, SessionState
from flame.scheduling.ledger import Ledger
from flame.scheduling.steps import Assign, Evict, Plan, Release, Reuse


class Planner(Protocol):
    """Decides who gets which executor."""

    def plan(self, ledger: Ledger) -> Plan:
        """Return steps in the order in which to take them. Equal ledgers give equal plans."""


def replan(state: State, planner: Planner, now: float) -> None:
    """Have a plan made and take its steps, each re-checked against the state as it is then.

    A step that does not hold is not taken; the ledger, which counted on it, is told so.
    """
    state.replan = False
    report(state, now)
    growth = _Growth(state)
    for step in planner.plan(state.ledger):
        match step:
            case Assign(number, node_name):
                session, node = state.sessions.get(number), state.nodes.get(node_name)
                if session is None or node is None or node.state is not NodeState.READY:
                    continue
                if session.spec.resources.fits_in(node.free) and growth.take(session):
                    assign(state, session, node, now)
            case Reuse(number, executor_id):
                session, executor = state.sessions.get(number), state.executors.get(executor_id)
                if executor is None:
                    continue
                state.touch_executor(executor)
                if session is not None and _matches(executor, session) and growth.take(session):
                    bind(state, executor, session, now)
            case Evict(executor_id):
                executor = state.executors.get(executor_id)
                if executor is not None and executor.state is ExecutorState.IDLE:
                    stop(state, executor, now)
            case Release():
                session = state.sessions.get(step.session)
                if session is not None:
                    release(state, session, step, now)
    report(state, now)
    state.waiting = somebody_waits(state)
    watch(state, now)


class _Growth:
    """How many executors more each session may have, counted once for all steps of a plan."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._left: dict[SessionNumber, int] = {}

    def take(self, session: Session) -> bool:
        """Whether the session may have one more; if so, it is counted."""
        left = self._left.get(session.number)
        if left is None:
            is_open = session.state is SessionState.OPEN
            left = demand(self._state, session) - kept_by(session) if is_open else 0
        self._left[session.number] = left - 1
        return left > 0


def _matches(executor: Executor, session: Session) -> bool:
    return (
        executor.state is ExecutorState.IDLE
        and executor.connected
        and executor.tenant == session.tenant
        and executor.application == session.spec.application
        and executor.resources == session.spec.resources
    )
