"""Gangs: executors that only make sense together come, restart and go together.

The members of a gang get their bindings one after the other, so that their incarnations follow one
another; that is how they are known again after a restart of the manager.
"""

from collections.abc import Sequence

from flame.core.executor import Executor
from flame.core.hand import return_tasks
from flame.core.leaving import detach, stop, unbind
from flame.core.reports import KEPT
from flame.core.session import Session
from flame.core.state import State
from flame.model.attempts import Cause, Loss
from flame.model.specs import ExecutorState, SessionState


def join(members: Sequence[Executor]) -> None:
    """Make one gang of these."""
    for executor in members:
        executor.gang = members[0].incarnation


def find_again(session: Session) -> None:
    """After a restart: tell which executors were a gang. A part of one is none."""
    size = session.spec.batch_size
    known = sorted(session.executors.values(), key=lambda e: e.incarnation)
    index = 0
    while index + size <= len(known):
        members = known[index : index + size]
        if members[-1].incarnation - members[0].incarnation == size - 1:
            join(members)
            index += size
        else:
            index += 1


def members_of(session: Session, gang: int) -> list[Executor]:
    """Return those of the gang that are not on their way out."""
    return [e for e in session.executors.values() if e.gang == gang and e.state in KEPT]


def review(state: State, now: float) -> None:
    """End what is left of a gang that lost a member: all of it starts again."""
    numbers = list(state.touched_gangs)
    state.touched_gangs.clear()
    for number in numbers:
        session = state.sessions.get(number)
        if session is None or session.state is not SessionState.OPEN:
            continue
        for gang in {e.gang for e in session.executors.values() if e.state in KEPT}:
            members = members_of(session, gang)
            if gang and len(members) == session.spec.batch_size:
                continue
            for executor in members:
                if executor.id not in session.unreported:  # it may be at work; it tells soon
                    _restart(state, session, executor, now)


def _restart(state: State, session: Session, executor: Executor, now: float) -> None:
    if executor.state is ExecutorState.BINDING:
        unbind(state, executor, now)
        return
    loss = Loss(Cause.STOPPED, "another executor of its gang was lost")
    return_tasks(state, session, executor, None, now, loss)
    detach(state, executor)
    stop(state, executor, now)
