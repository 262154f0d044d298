"""The core's state as callers see it."""

from flame.core.effects import ApplicationView, ExecutorView, NodeView, SessionView, TaskView
from flame.core.executor import Executor
from flame.core.node import Node
from flame.core.records import ApplicationPut
from flame.core.session import Session
from flame.core.state import State
from flame.core.task import STARTED, Task
from flame.model.resources import Resources
from flame.model.specs import EventCode, Failure, TaskState
from flame.model.task_notes import NO_NOTES


def application_view(application: ApplicationPut) -> ApplicationView:
    """Show an application."""
    return ApplicationView(
        application.tenant, application.name, application.spec, application.created_ms
    )


def session_view(session: Session) -> SessionView:
    """Show a session. What is on its way into the store still counts as it was before."""
    return SessionView(
        session.number,
        session.tenant,
        session.name,
        session.spec,
        session.state,
        session.created_ms,
        session.closed_ms,
        len(session.live) - session.running,
        session.running,
        session.succeeded,
        session.failed,
        session.cancelled,
        tuple(session.events),
        preemptions=session.preemptions,
        preempted_seconds=session.preempted_seconds,
        standing_by=session.standing_by,
    )


def attempt_of(failure: Failure | None, spent: int) -> int:
    """Return the number of a final task's last attempt."""
    return spent if failure is not None and failure[1] == EventCode.LOST else spent + 1


def task_view(session: Session, task: Task) -> TaskView:
    """Show a task that is not final."""
    return TaskView(
        session.number,
        session.name,
        task.id,
        TaskState.RUNNING if task.stage == STARTED else TaskState.PENDING,
        task.input,
        None,
        task.created_ms,
        None,
        None,
        task.attempts + 1,
        tuple(session.history.get(task.id, ())),
        session.notes.get(task.id, NO_NOTES),
    )


def executor_view(executor: Executor) -> ExecutorView:
    """Show an executor."""
    return ExecutorView(
        executor.id,
        executor.node,
        executor.resources,
        executor.state,
        executor.session.name if executor.session is not None else None,
        executor.incarnation,
        len(executor.held),
        executor.tenant,
        executor.gpu_ids,
        executor.rank if executor.gang else None,
        executor.standby,
    )


def _allocatable(node: Node) -> Resources:
    """Return what is free; nothing where it has executors on record and is not back to say what it has."""
    free = node.free
    return Resources(
        max(0, free.cpu_millis),
        max(0, free.memory_bytes),
        max(0, free.gpus),
        tuple((name, max(0, amount)) for name, amount in free.extras),
    )


def node_view(state: State, node: Node) -> NodeView:
    """Show a node."""
    return NodeView(
        node.name,
        node.hostname,
        node.state,
        node.capacity,
        _allocatable(node),
        node.arch,
        node.os,
        node.addresses,
        node.renewed,
        node.labels,
        node.name in state.cordons,
        state.drains(node.name),
        len(node.executors),
        sum(e.started is not None for e in node.executors.values()),
        sum(len(e.held) for e in node.executors.values()),
        tuple(
            dict.fromkeys(
                f"{e.tenant}/{e.session.name}"
                for e in node.executors.values()
                if e.session is not None and e.held
            )
        ),
        node.isolation,
    )
