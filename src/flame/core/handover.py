"""From one session straight to the next: a warm executor that its own session needs no more.

Where an application lets its processes be reused, an executor that runs out of work while others wait is
the scheduler's to give away at once. Its next binding is stored with the last results of the one before,
and the order to enter the next session is an order to leave the old one: one message each way instead
of two, one commit instead of three. If nobody takes it, it leaves as any other does.

    Bound (nothing in hand) ──▶ spare ──Reuse──▶ Binding (another session)
                                  └── not taken ──▶ Unbinding
"""

from flame.core.binding import bind
from flame.core.executor import Executor
from flame.core.leaving import unbind
from flame.core.session import Session
from flame.core.state import State


def offer(state: State, executor: Executor) -> bool:
    """Let the scheduler give the executor away, if it can serve another session as it is.

    It has nothing in hand, and its session does not keep it. A plan must follow, and then
    :func:`take_leave`.
    """
    if not (executor.reusable and executor.connected) or executor.take_back:
        return False
    executor.spare = True
    state.touch_executor(executor)
    state.replan = True
    return True


def take(state: State, executor: Executor, session: Session, now: float) -> None:
    """Bind a spare executor to the session that it was given to, which may be its own."""
    previous = executor.session
    _no_longer_spare(state, executor)
    if previous is session or previous is None:
        return  # its own session needs it after all
    previous.drop_executor(executor)
    if previous.closing is not None:
        state.deadlines.set(("review", previous.number), 0.0)
    for kind in ("timeout", "preempt"):
        state.deadlines.clear((kind, executor.id))
    bind(state, executor, session, now)


def take_leave(state: State, now: float) -> None:
    """Unbind the spare executors that nobody took."""
    for executor_id in state.out_of_work:
        executor = state.executors.get(executor_id)
        if executor is not None and executor.spare:
            _no_longer_spare(state, executor)
            unbind(state, executor, now)


def _no_longer_spare(state: State, executor: Executor) -> None:
    executor.spare = False
    state.touch_executor(executor)
