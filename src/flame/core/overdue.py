"""What happens to an executor when something that was expected of it did not come in time."""

from flame.core.binding import bind_failed
from flame.core.early_ends import doom, end_early
from flame.core.effects import StopExecutor
from flame.core.executor import (
    BIND_TIMEOUT,
    LEAVE_TIMEOUT,
    RECONNECT_TIMEOUT,
    Executor,
)
from flame.core.gangs import members_of
from flame.core.hand import return_tasks
from flame.core.leaving import detach, stop, unbind
from flame.core.loss import lose
from flame.core.reports import demand, kept_by
from flame.core.session import Session
from flame.core.standby import offer, stand_by
from flame.core.state import State
from flame.core.task import FINISHING, Task
from flame.core.task_limits import timeout_of
from flame.model.attempts import Cause, Loss
from flame.model.specs import EventCode, ExecutorState, Failure, TaskState

#: Seconds after which it is looked again at one that is idle beside others with as many tasks.
LOOK_AGAIN = 0.1


def idle_overdue(
    state: State, session: Session, executor: Executor, now: float, *, others_wait: bool = False
) -> None:
    """It had nothing in hand for a while: let it stand by or go, unless the session keeps that many."""
    if session.queued:
        # Nothing may be handed out at the moment; look again later.
        state.deadlines.set(("idle", executor.id), now + state.delay_release(session) + 1.0)
        return
    if executor.gang:
        _gang_overdue(state, session, executor, now)
        return
    least = session.spec.min_instances
    kept = sum(e.state is ExecutorState.BOUND and not e.standby for e in session.executors.values())
    if least and kept <= least:
        return
    if others_wait:
        offer(state, executor, session, now)
    elif demand(state, session) < kept_by(session):
        stand_by(state, executor, session, now)
    else:
        # It would be given back at once: there are as many tasks, and one may yet be given up.
        wait = max(state.delay_release(session), LOOK_AGAIN)
        state.deadlines.set(("idle", executor.id), now + wait)


def _gang_overdue(state: State, session: Session, executor: Executor, now: float) -> None:
    members = members_of(session, executor.gang)
    if any(e.held or e.state is ExecutorState.BINDING for e in members):
        return  # the last one that runs out of work takes the others with it
    if kept_by(session) - len(members) >= session.spec.min_instances:
        for member in members:
            unbind(state, member, now)


def leave_overdue(state: State, executor: Executor, now: float) -> None:
    """The service did not finish its running task after its session was closed: end the process."""
    session = executor.session
    if session is not None:
        text = f"it did not leave within {LEAVE_TIMEOUT:.0f} s after its session was closed"
        return_tasks(state, session, executor, None, now, Loss(Cause.STOPPED, text))
    detach(state, executor)
    stop(state, executor, now)


def bind_overdue(state: State, executor: Executor, now: float) -> None:
    """The service did not start, or did not come back from on_session_enter."""
    session = executor.session
    if session is not None:
        text = "its service did not come back from on_session_enter"
        return_tasks(state, session, executor, None, now, Loss(Cause.STOPPED, text))
        if executor.state is ExecutorState.UNBINDING:
            session = None  # which has done without it since it was asked to leave
    detach(state, executor)
    stop(state, executor, now)
    if session is not None:
        message = (
            f"Executor <{executor.id}> on node <{executor.node}> failed to bind session: "
            f"it was not ready after {BIND_TIMEOUT:.0f} s"
        )
        bind_failed(state, session, message, now)


def reconnect_overdue(state: State, executor: Executor, now: float) -> None:
    """Its node is there, but its process does not find back: replace it."""
    session = executor.session
    if session is not None:
        running = running_task(executor)
        loss = Loss(Cause.EXECUTOR_LOST, f"its channel was away for {RECONNECT_TIMEOUT:.0f} s")
        return_tasks(state, session, executor, running.id if running else None, now, loss)
        detach(state, executor)
    stop(state, executor, now)


def stop_overdue(state: State, executor: Executor, now: float) -> None:
    """Its node does not answer for it; the node's own lease will show. Ask once more, and move on."""
    state.emit(StopExecutor(executor.node, executor.id, executor.process, 0.0))
    lose(state, executor, None, Loss(Cause.STOPPED, "its process did not end when asked"), now)


def running_task(executor: Executor) -> Task | None:
    """Return the task that runs, as far as can be told: tasks run in the order of handing out."""
    if executor.started is not None:
        return executor.started
    return next(iter(executor.held.values()), None)


def timeout_overdue(state: State, session: Session, executor: Executor, now: float) -> None:
    """A task may have run for as long as it is allowed to: end it, then its service."""
    task = executor.started
    if task is None and not executor.connected:
        task = next(iter(executor.held.values()), None)
    if task is None or task.stage == FINISHING:
        return
    limit = timeout_of(session, task)
    if not limit:
        return
    if task is executor.started and now < executor.started_at + limit:
        state.deadlines.set(("timeout", executor.id), executor.started_at + limit)
        return
    text = f"it ran for {limit:g} s, as long as it may (task_timeout, or its own timeout)"
    failure: Failure = (TaskState.FAILED, int(EventCode.TIMED_OUT), text)
    end_early(state, session, [task], failure, now)


def kill_overdue(state: State, session: Session, executor: Executor, now: float) -> None:
    """The executor still has a task that is final: replace its process, unless it gave that up."""
    doomed = executor.doomed
    executor.doomed = None
    if doomed is None or executor.held.get(doomed.id) is not doomed:
        left = next((t for t in executor.held.values() if t.stage == FINISHING), None)
        if left is not None:
            doom(state, executor, left, now)
        return
    text = f"task {doomed.id} was final and did not end within {state.limits.cancel_grace:g} s"
    return_tasks(state, session, executor, None, now, Loss(Cause.ENDED_EARLY, text))
    detach(state, executor)
    stop(state, executor, now, grace=0.0)
