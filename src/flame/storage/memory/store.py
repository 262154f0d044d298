"""The store's contract over sessions that are objects."""

import threading
from collections.abc import Sequence

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    Barrier,
    BindingDeleted,
    BindingPut,
    CordonDeleted,
    CordonPut,
    LeaseLost,
    OutcomesAcknowledged,
    OutcomesRecorded,
    Record,
    Recovered,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    StoredTask,
    TasksLogged,
    TasksSubmitted,
    TenantDeleted,
    TenantPut,
    TokenDeleted,
    TokenPut,
)
from flame.model.credentials import TokenId
from flame.model.errors import IllegalTransition
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import TaskLog
from flame.storage.batches import slice_outcomes
from flame.storage.memory.session import MemorySession

KEPT_TASKS = 10_000
KEPT_BYTES = 64 * 1024 * 1024


class MemoryStore:
    """Everything in dicts and lists, under one lock.

    ``load`` may be called again, as after a restart: then it describes what this object holds,
    under the next epoch. The simulator uses that.

    Args:
        kept_tasks: How many acknowledged finished tasks a MEMORY session keeps at most.
        kept_bytes: And how many bytes of their inputs and outputs.
    """

    name = "memory"
    settings = "nothing survives the process"
    is_quick = True

    def __init__(self, *, kept_tasks: int = KEPT_TASKS, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_tasks = kept_tasks
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._epoch = 0
        self._next_session = 1
        self._applications: dict[tuple[Tenant, str], ApplicationPut] = {}
        self._sessions: dict[SessionNumber, MemorySession] = {}
        self._bindings: dict[ExecutorId, BindingPut] = {}
        self._tenants: dict[Tenant, TenantPut] = {}
        self._tokens: dict[TokenId, TokenPut] = {}
        self._cordons: dict[NodeName, CordonPut] = {}

    def load(self) -> Recovered:
        with self._lock:
            self._epoch += 1
            return Recovered(
                epoch=self._epoch,
                next_session=self._next_session,
                # An epoch is never used twice, so its incarnations are not either.
                next_incarnation=(self._epoch << 32) + 1,
                applications=[put for _, put in sorted(self._applications.items())],
                sessions=[session.recovered() for _, session in sorted(self._sessions.items())],
                bindings=[put for _, put in sorted(self._bindings.items())],
                tenants=[put for _, put in sorted(self._tenants.items())],
                tokens=[put for _, put in sorted(self._tokens.items())],
                cordons=[put for _, put in sorted(self._cordons.items())],
            )

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        with self._lock:
            for record in group:
                match record:
                    case TasksSubmitted():
                        if session := self._find(record.session):
                            session.submitted.add(record)
                    case OutcomesRecorded():
                        if session := self._find(record.session):
                            session.record(record)
                    case OutcomesAcknowledged():
                        if session := self._find(record.session):
                            session.acknowledge(record.position, self._kept_tasks, self._kept_bytes)
                    case TasksLogged():
                        if session := self._find(record.session):
                            session.keep_logs(record.logs)
                    case LeaseLost():
                        if session := self._find(record.session):
                            session.lose_lease(record)
                    case SessionEvent():
                        if session := self._find(record.session):
                            session.events.append(record.event)
                    case SessionPut():
                        self._put_session(record)
                    case SessionDeleted():
                        self._sessions.pop(record.session, None)
                    case ApplicationPut():
                        self._applications[record.tenant, record.name] = record
                    case ApplicationDeleted():
                        self._applications.pop((record.tenant, record.name), None)
                    case BindingPut():
                        self._bindings[record.executor] = record
                    case BindingDeleted():
                        self._bindings.pop(record.executor, None)
                    case TenantPut():
                        self._tenants[record.spec.name] = record
                    case TenantDeleted():
                        self._tenants.pop(record.name, None)
                    case TokenPut():
                        self._tokens[record.token] = record
                    case TokenDeleted():
                        self._tokens.pop(record.token, None)
                    case CordonPut():
                        self._cordons[record.node] = record
                    case CordonDeleted():
                        self._cordons.pop(record.node, None)
                    case Barrier():
                        pass

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        with self._lock:
            found = self._sessions.get(session)
            return None if found is None else found.task(task_id)

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        with self._lock:
            found = self._sessions.get(session)
            return [] if found is None else found.tasks(after, limit)

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        with self._lock:
            found = self._sessions.get(session)
            batch = None if found is None else found.log.at(position)
        return None if batch is None else slice_outcomes(batch, position, max_bytes)

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        with self._lock:
            found = self._sessions.get(session)
            return ([], False) if found is None else found.logs_after(after, limit)

    def first_kept(self, session: SessionNumber) -> int:
        with self._lock:
            found = self._sessions.get(session)
            return 0 if found is None else found.log.first_kept

    def maintain(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to release: what it holds lives as long as the object."""

    def _put_session(self, put: SessionPut) -> None:
        known = self._sessions.get(put.session)
        if known is not None:
            known.put = put
            return
        self._sessions[put.session] = MemorySession(put)
        self._next_session = max(self._next_session, put.session + 1)

    def _find(self, number: SessionNumber) -> MemorySession | None:
        found = self._sessions.get(number)
        if found is None and number >= self._next_session:
            raise IllegalTransition(f"a record of session {number}, which never existed")
        return found
