"""The executor's way out: it leaves its session, then its process ends, unless that is kept warm."""

from flame.core.dispatch import ask_back
from flame.core.effects import SendUnbind, StopExecutor
from flame.core.events import ExecutorUnbound
from flame.core.executor import LEAVE_TIMEOUT, RECONNECT_TIMEOUT, STOP_GRACE, Executor
from flame.core.hand import return_tasks
from flame.core.records import BindingDeleted, BindingPut
from flame.core.state import State
from flame.model.attempts import Cause, Loss
from flame.model.specs import ExecutorState, SessionState

#: Deadlines of an executor that end with its process.
_WHILE_ALIVE = ("bind", "idle", "spare", "leave", "reconnect", "timeout", "kill", "preempt")


def unbind(state: State, executor: Executor, now: float) -> None:
    """Let the executor finish its running task, give the others back, and leave."""
    session = executor.session
    if session is None or executor.state not in (ExecutorState.BOUND, ExecutorState.BINDING):
        return
    if executor.early:
        # It has a warm process that enters quickly, and leaves behind that.
        executor.early = False
        state.deadlines.set(("bind", executor.id), now + LEAVE_TIMEOUT)
    elif executor.state is ExecutorState.BINDING:
        if executor.id in session.unreported and session.state is SessionState.OPEN:
            return  # it may be at work; nobody knows before it has told
        session.unreported.pop(executor.id, None)
        detach(state, executor)
        stop(state, executor, now)
        return
    executor.end_standby()
    executor.state = ExecutorState.UNBINDING
    session.leaving[executor.id] = executor
    state.touch_executor(executor)
    state.deadlines.clear(("idle", executor.id))
    if executor.connected:
        if len(executor.held) > 0:
            ask_back(state, executor, len(executor.held))
        state.emit(SendUnbind(executor.id))


def on_unbound(state: State, executor: Executor, event: ExecutorUnbound, now: float) -> None:
    """on_session_leave returned: keep the warm process if its application allows, else stop it.

    One that we hold for bound was told to leave by the manager before us; tasks may be on their way
    to it, so it is not used again.
    """
    session = executor.session
    if session is None or executor.state not in (ExecutorState.BOUND, ExecutorState.UNBINDING):
        return
    was_asked = executor.state is ExecutorState.UNBINDING
    left = Loss(Cause.STOPPED, "the executor left with tasks in hand")
    return_tasks(state, session, executor, None, now, left)
    detach(state, executor)
    for kind in ("bind", "leave", "preempt", "idle"):
        state.deadlines.clear((kind, executor.id))
    if not executor.reusable or not was_asked or state.drains(executor.node):
        stop(state, executor, now)
        return
    executor.state = ExecutorState.IDLE
    state.touch_executor(executor)
    state.store(
        BindingPut(
            executor.id,
            executor.incarnation,
            executor.node,
            None,
            executor.application,
            executor.tenant,
        )
    )
    state.deadlines.set(("idle", executor.id), now + state.delay_release(session))


def leave_node(state: State, executor: Executor, now: float) -> None:
    """Have the executor leave its node, with all of its gang. One that serves nobody ends at once."""
    session = executor.session
    if executor.state is ExecutorState.IDLE:
        stop(state, executor, now)
    elif session is not None:
        gang = [e for e in session.executors.values() if executor.gang and e.gang == executor.gang]
        for member in gang or [executor]:
            unbind(state, member, now)


def stop(state: State, executor: Executor, now: float, grace: float = STOP_GRACE) -> None:
    """Have the executor's process ended; its resources return when it is gone."""
    if executor.state is ExecutorState.RELEASING:
        return
    executor.state = ExecutorState.RELEASING
    state.touch_executor(executor)
    for kind in _WHILE_ALIVE:
        state.deadlines.clear((kind, executor.id))
    if executor.process:
        state.emit(StopExecutor(executor.node, executor.id, executor.process, grace))
        state.deadlines.set(("stop", executor.id), now + grace + RECONNECT_TIMEOUT)
    else:
        remove(state, executor)


def detach(state: State, executor: Executor) -> None:
    """The executor serves its session no more."""
    session = executor.session
    state.touch_executor(executor)
    executor.end_standby()
    if session is not None:
        session.drop_executor(executor)
        if session.closing is not None:
            state.deadlines.set(("review", session.number), 0.0)
    executor.session = None
    executor.doomed = None
    executor.early = False
    state.replan = True


def remove(state: State, executor: Executor) -> None:
    """The executor is gone, and its room is free."""
    for kind in (*_WHILE_ALIVE, "stop"):
        state.deadlines.clear((kind, executor.id))
    executor.state = ExecutorState.RELEASED
    state.touch_executor(executor)
    state.executors.pop(executor.id, None)
    node = state.nodes.get(executor.node)
    if node is not None and node.executors.pop(executor.id, None) is not None:
        node.used = node.used - executor.resources
    state.store(BindingDeleted(executor.id))
    state.replan = True
