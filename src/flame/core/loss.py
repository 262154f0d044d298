"""An executor's process is gone, before anybody asked it to go."""

from flame.core.binding import bind_failed
from flame.core.effects import StopExecutor
from flame.core.events import ExecutorExited
from flame.core.executor import Executor
from flame.core.hand import return_tasks
from flame.core.leaving import detach, remove
from flame.core.records import TasksLogged
from flame.core.state import State
from flame.core.task import FINISHING
from flame.model.attempts import Loss, bounded
from flame.model.ids import TaskId
from flame.model.logs import TaskLog
from flame.model.specs import ExecutorState, SessionState


def on_exited(state: State, event: ExecutorExited, now: float) -> None:
    """A node saw the process end."""
    # The node repeats its report until it is told to forget the incarnation.
    state.emit(StopExecutor(event.node, event.executor, event.incarnation, 0.0))
    executor = state.executors.get(event.executor)
    if executor is None or executor.process != event.incarnation:
        return
    if any(event.log):
        _keep_log(state, executor, event)
    detail = bounded(event.detail)
    loss = Loss(event.cause, detail, event.pid, event.exit_code, event.signal)
    lose(state, executor, event.task_id, loss, now, blame_service=True)


def _keep_log(state: State, executor: Executor, event: ExecutorExited) -> None:
    """Store what the task that ran had written: its next attempt may never come so far."""
    session = executor.session
    if session is None:
        return
    task = executor.held.get(event.task_id)
    if task is None and executor.id in session.unreported:
        task = session.live.get(event.task_id)
    if task is None or task.stage == FINISHING or event.attempt != task.attempts + 1:
        return
    log = TaskLog(task.id, event.attempt, *event.log)
    state.store(TasksLogged(session.number, [log]), session=session)


def lose(
    state: State,
    executor: Executor,
    running: TaskId | None,
    loss: Loss,
    now: float,
    *,
    blame_service: bool = False,
) -> None:
    """The process is gone: queue its tasks again, charge the one that ran, give the slot up.

    ``running`` None: nobody knows; the task that had started, if any, is charged. A process that
    ends while it binds counts against its session only with ``blame_service``.
    """
    session = executor.session
    was_binding = executor.state is ExecutorState.BINDING and not running
    if session is not None:
        if running is None:
            running = executor.started.id if executor.started is not None else TaskId(0)
        return_tasks(state, session, executor, running, now, loss)
        detach(state, executor)
    remove(state, executor)
    if session is None:
        return
    if was_binding and blame_service and session.state is SessionState.OPEN:
        message = (
            f"Executor <{executor.id}> on node <{executor.node}> failed to bind session: {loss}"
        )
        bind_failed(state, session, message, now)
