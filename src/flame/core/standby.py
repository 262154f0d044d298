"""Standby: an executor that its session has no work for stays warm in it, and is anybody's.

    Bound (nothing in hand) ──▶ standing by ──Reuse──▶ Bound: its session has work again
                                  │  └──────Reuse──▶ Binding: another session's, as it is
                                  └─────────Evict──▶ Unbinding: somebody needs its room,
                                                     or its time is over

To the scheduler it is idle: it counts for no session and no tenant, and leaves when its room is of use
to anybody. It stands by when the delay of its release is over. One that runs out of work while others
wait is let go at once; but where its application lets processes be reused, it stands by for the plan
that is made then: its next binding is stored with the last results of the one before, and the order to
enter the next session is an order to leave the old one, so that there is one message each way instead
of two, and one commit instead of three.
"""

from flame.core.binding import bind
from flame.core.executor import Executor
from flame.core.leaving import unbind
from flame.core.session import Session
from flame.core.state import State


def stand_by(state: State, executor: Executor, session: Session, now: float) -> None:
    """Its delay is over: keep it for as long as that is nobody's loss, or let it go.

    It has nothing in hand, its session does not keep it, and it is in no gang.
    """
    seconds = state.standby(session)
    if seconds and executor.node not in state.cordons and _can_serve(executor):
        _begin(state, executor, session)
        state.deadlines.set(("idle", executor.id), now + seconds)
    else:
        unbind(state, executor, now)


def offer(state: State, executor: Executor, session: Session, now: float) -> None:
    """Others wait: let it go, or let the plan give it to one of them. :func:`take_leave` follows."""
    if executor.reusable and _can_serve(executor):
        _begin(state, executor, session)
    else:
        unbind(state, executor, now)


def _can_serve(executor: Executor) -> bool:
    return executor.connected and not executor.take_back


def _begin(state: State, executor: Executor, session: Session) -> None:
    executor.standby = True
    session.standing_by += 1
    state.touch_executor(executor)
    state.replan = True  # what it counted for, a limit perhaps, is another's to use


def take(state: State, executor: Executor, session: Session, now: float) -> None:
    """Give an executor that stands by to a session. Its own has tasks handed out afterwards."""
    previous = executor.session
    executor.end_standby()
    state.touch_executor(executor)
    if previous is session or previous is None:
        state.deadlines.set(("idle", executor.id), now + state.delay_release(session))
        session.has_room(executor)
        return
    previous.drop_executor(executor)
    if previous.closing is not None:
        state.deadlines.set(("review", previous.number), 0.0)
    for kind in ("timeout", "preempt"):
        state.deadlines.clear((kind, executor.id))
    bind(state, executor, session, now)


def take_leave(state: State, now: float) -> None:
    """Unbind those that were offered and that nobody took."""
    for executor_id in state.out_of_work:
        executor = state.executors.get(executor_id)
        if executor is not None and executor.standby:
            unbind(state, executor, now)
