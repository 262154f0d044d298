"""Records with defaults, so that a test mentions only what matters to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flame.core.records import (
    BindingPut,
    LeaseLost,
    OutcomesAcknowledged,
    OutcomesRecorded,
    Recovered,
    SessionDeleted,
    SessionPut,
    TasksLogged,
    TasksSubmitted,
)
from flame.model.attempts import Loss
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import TaskLog
from flame.model.specs import Durability, Failure, SessionSpec, SessionState

S1 = SessionNumber(1)
S2 = SessionNumber(2)
TENANT = Tenant("acme")
SUBMITTER = b"submitter-number"


def session_put(
    session: SessionNumber = S1,
    *,
    durability: Durability = Durability.DURABLE,
    state: SessionState = SessionState.OPEN,
    closed_ms: int | None = None,
) -> SessionPut:
    spec = SessionSpec("render", common_data=b"\0common", priority=3, durability=durability)
    return SessionPut(session, TENANT, f"session é {session}", spec, state, 1_000, closed_ms)


def submitted(
    first_id: int,
    *inputs: bytes | None,
    session: SessionNumber = S1,
    submitter: bytes = SUBMITTER,
    first_number: int = 0,
) -> TasksSubmitted:
    return TasksSubmitted(session, submitter, first_number, TaskId(first_id), inputs, 2_000)


def recorded(
    first_position: int,
    *task_ids: int,
    session: SessionNumber = S1,
    outputs: Sequence[bytes | None] | None = None,
    failures: dict[int, Failure] | None = None,
) -> OutcomesRecorded:
    ids = [TaskId(task_id) for task_id in task_ids]
    if outputs is None:
        outputs = [b"output %d" % task_id for task_id in ids]
    return OutcomesRecorded(session, first_position, ids, outputs, failures or {}, 3_000)


def acknowledged(position: int, session: SessionNumber = S1) -> OutcomesAcknowledged:
    return OutcomesAcknowledged(session, position)


def deleted(session: SessionNumber = S1) -> SessionDeleted:
    return SessionDeleted(session)


def logged(
    *task_ids: int,
    session: SessionNumber = S1,
    attempt: int = 1,
    stdout: bytes = b"said",
    stderr: bytes = b"\xff",
) -> TasksLogged:
    return TasksLogged(session, [TaskLog(TaskId(i), attempt, stdout, stderr) for i in task_ids])


def lease_lost(
    *held: int, charged: int = 0, attempt: int = 0, session: SessionNumber = S1
) -> LeaseLost:
    return LeaseLost(
        session=session,
        executor=ExecutorId("e-1"),
        incarnation=(1 << 32) + 7,
        task_ids=[TaskId(task_id) for task_id in held],
        charged=TaskId(charged),
        attempt=attempt,
        loss=Loss("signal", "the executor was ended by SIGKILL", pid=7, signal=9),
        lost_ms=4_000,
        node=NodeName("n-1"),
    )


def binding(
    executor: str = "e-1", *, session: SessionNumber | None = S1, incarnation: int = (1 << 32) + 7
) -> BindingPut:
    return BindingPut(ExecutorId(executor), incarnation, NodeName("n-1"), session, "render", TENANT)


@dataclass
class Read:
    """What a store recovers, with the pending tasks read, so that it can be compared."""

    recovered: Recovered
    pending: dict[SessionNumber, list[tuple[TaskId, bytes | None, int, int]]] = field(
        default_factory=dict
    )


def read(recovered: Recovered) -> Read:
    pending = {s.put.session: list(s.pending) for s in recovered.sessions}
    for session in recovered.sessions:
        session.pending = ()
    return Read(recovered, pending)
