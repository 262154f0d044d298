"""From records to statements, whatever the database.

Each record becomes the insertion, replacement or deletion of one row; only what the rows say is
decided here. The statements are written once: a parameter is ``?1``, ``?2``, ..., and each engine
gives an ``execute`` that runs them inside its transaction.

What a transaction needs to know of those before it is in memory: which sessions there are. An engine
calls ``learn`` after a transaction that failed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    BindingDeleted,
    BindingPut,
    CordonDeleted,
    CordonPut,
    LeaseLost,
    OutcomesRecorded,
    Record,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    TasksLogged,
    TasksSubmitted,
    TenantDeleted,
    TenantPut,
    TokenDeleted,
    TokenPut,
)
from flame.model.errors import IllegalTransition
from flame.model.logs import KEPT_LOG_BYTES
from flame.storage import rows

Value = int | str | bytes | bytearray | None
Execute = Callable[[str, tuple[Value, ...]], object]

_PUT_META = (
    "INSERT INTO meta (name, value, check_sum) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value, check_sum = excluded.check_sum"
)
_BATCH = (
    "INSERT INTO batches (session, first_id, count, submitter, first_number, created_ms, check_sum,"
    " inputs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
)
_OUTCOMES = (
    "INSERT INTO outcomes (session, first_position, count, min_id, max_id, width, succeeded, failed,"
    " cancelled, finished_ms, check_sum, ids, results)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
)
_LOG = (
    "INSERT INTO task_logs (session, position, size, task_id, attempt, check_sum, log)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
)
_LOG_REPLACED = "DELETE FROM task_logs WHERE session = ?1 AND task_id = ?2"
_LOGS_DROPPED = "DELETE FROM task_logs WHERE session = ?1 AND position <= ?2"
_LEASE_LOSS = (
    "INSERT INTO lease_losses (session, charged, attempt, check_sum, loss)"
    " VALUES (?1, ?2, ?3, ?4, ?5)"
)
_SESSION = (
    "INSERT INTO sessions (session, tenant, name, state, created_ms, closed_ms, check_sum, spec)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (session) DO UPDATE SET"
    " tenant = excluded.tenant, name = excluded.name, state = excluded.state,"
    " created_ms = excluded.created_ms, closed_ms = excluded.closed_ms,"
    " check_sum = excluded.check_sum, spec = excluded.spec"
)
_SESSION_DELETED = (
    "DELETE FROM sessions WHERE session = ?1",
    "INSERT INTO deleted_sessions (session) VALUES (?1) ON CONFLICT (session) DO NOTHING",
)
_EVENT = "INSERT INTO session_events (session, check_sum, event) VALUES (?1, ?2, ?3)"
_APPLICATION = (
    "INSERT INTO applications (tenant, name, created_ms, check_sum, spec)"
    " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (tenant, name) DO UPDATE SET"
    " created_ms = excluded.created_ms, check_sum = excluded.check_sum, spec = excluded.spec"
)
_APPLICATION_DELETED = "DELETE FROM applications WHERE tenant = ?1 AND name = ?2"
_BINDING = (
    "INSERT INTO bindings (executor, tenant, session, incarnation, node, application, check_sum)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (executor) DO UPDATE SET"
    " tenant = excluded.tenant, session = excluded.session, incarnation = excluded.incarnation,"
    " node = excluded.node, application = excluded.application, check_sum = excluded.check_sum"
)
_BINDING_DELETED = "DELETE FROM bindings WHERE executor = ?1"
_TENANT = (
    "INSERT INTO tenants (tenant, created_ms, check_sum, spec) VALUES (?1, ?2, ?3, ?4)"
    " ON CONFLICT (tenant) DO UPDATE SET created_ms = excluded.created_ms,"
    " check_sum = excluded.check_sum, spec = excluded.spec"
)
_TENANT_DELETED = "DELETE FROM tenants WHERE tenant = ?1"
_CREDENTIAL = "INSERT INTO tokens (token, created_ms, check_sum, spec) VALUES (?1, ?2, ?3, ?4)"
_CREDENTIAL_DELETED = "DELETE FROM tokens WHERE token = ?1"
_CORDON = (
    "INSERT INTO cordons (node, drain, since_ms, check_sum) VALUES (?1, ?2, ?3, ?4)"
    " ON CONFLICT (node) DO UPDATE SET drain = excluded.drain, since_ms = excluded.since_ms,"
    " check_sum = excluded.check_sum"
)
_CORDON_DELETED = "DELETE FROM cordons WHERE node = ?1"

#: Old logs are dropped whenever a session has written so much more.
_TRIM = 1024 * 1024

#: Where each session's logs end: for ``Statements.learn``.
LOG_ENDS = "SELECT session, max(position) FROM task_logs GROUP BY session"


class Statements:
    """Writes groups of records by way of ``execute``.

    Attributes:
        deleted: Sessions that were deleted and of which rows are left; see ``purge``.
        next_session: A number that no session ever had.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._sessions: set[int] = set()
        self._deleted_now: list[int] = []
        self._log_ends: dict[int, int] = {}  # how much a session's tasks have written so far
        self.deleted: set[int] = set()
        self.next_session = 1
        self._write: dict[type[Any], Callable[[Any], object]] = {
            TasksSubmitted: self._tasks_submitted,
            OutcomesRecorded: self._outcomes_recorded,
            TasksLogged: self._tasks_logged,
            LeaseLost: self._lease_lost,
            SessionPut: self._session_put,
            SessionDeleted: self._session_deleted,
            SessionEvent: self._session_event,
            ApplicationPut: self._application_put,
            ApplicationDeleted: self._application_deleted,
            BindingPut: self._binding_put,
            BindingDeleted: self._binding_deleted,
            TenantPut: self._tenant_put,
            TenantDeleted: lambda r: self._execute(_TENANT_DELETED, (r.name,)),
            TokenPut: self._token_put,
            TokenDeleted: lambda r: self._execute(_CREDENTIAL_DELETED, (r.token,)),
            CordonPut: self._cordon_put,
            CordonDeleted: lambda r: self._execute(_CORDON_DELETED, (r.node,)),
            # Nothing to store: Barrier, and OutcomesAcknowledged (which only permits forgetting).
        }

    def learn(
        self,
        sessions: Iterable[int],
        deleted: Iterable[int],
        next_session: int,
        log_ends: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Take what the database holds for the truth."""
        self._sessions = set(sessions)
        self._log_ends = dict(log_ends)
        self._deleted_now.clear()
        now = set(deleted)
        self.deleted |= now  # in place: readers look at it meanwhile
        self.deleted &= now
        self.next_session = max(next_session, 1)

    def write(self, group: Sequence[Record]) -> None:
        """Execute what the group's records ask for; say ``committed`` or ``learn`` afterwards."""
        next_session = self.next_session
        for record in group:
            write_record = self._write.get(type(record))
            if write_record is not None:
                write_record(record)
        if self.next_session != next_session:
            self.put_meta("next_session", self.next_session)

    def committed(self) -> None:
        """What was written is in the database."""
        if self._deleted_now:
            self.deleted.update(self._deleted_now)
            self._deleted_now.clear()

    def put_meta(self, name: str, value: int) -> None:
        """Store one of the cluster's counters."""
        self._execute(_PUT_META, (name, value, rows.check_sum("meta", name, value)))

    def _knows(self, session: int) -> bool:
        if session in self._sessions:
            return True
        if session >= self.next_session:
            raise IllegalTransition(f"a record of session {session}, which never existed")
        return False  # deleted

    def _tasks_submitted(self, record: TasksSubmitted) -> None:
        if not record.inputs or not self._knows(record.session):
            return
        columns = (
            record.session,
            record.first_id,
            len(record.inputs),
            record.submitter,
            record.first_number,
            record.created_ms,
        )
        check = rows.check_sum("batches", *columns)
        inputs = rows.with_limits(record.inputs, record.limits, record.notes)
        self._execute(_BATCH, (*columns, check, rows.seal(inputs, check)))

    def _outcomes_recorded(self, record: OutcomesRecorded) -> None:
        if not record.task_ids or not self._knows(record.session):
            return
        columns, run = rows.outcomes_columns(record)
        check = rows.check_sum("outcomes", *columns, int(run))
        width = (columns[4] - columns[3]).bit_length()
        self._execute(
            _OUTCOMES,
            (
                *columns[:5],
                width,
                *columns[5:],
                check,
                None if run else rows.seal(record.task_ids, check),
                rows.seal(rows.encode_results(record), check),
            ),
        )

    def _lease_lost(self, record: LeaseLost) -> None:
        if not self._knows(record.session):
            return
        columns = (record.session, record.charged, record.attempt)
        check = rows.check_sum("lease_losses", *columns)
        loss = record.loss
        lost = rows.Lost(
            record.executor,
            record.incarnation,
            list(record.task_ids),
            loss.cause,
            record.lost_ms,
            record.node,
            loss.detail,
            loss.pid,
            loss.exit_code,
            loss.signal,
        )
        self._execute(_LEASE_LOSS, (*columns, check, rows.seal(lost, check)))

    def _session_put(self, put: SessionPut) -> None:
        columns = (
            put.session,
            put.tenant,
            put.name,
            int(put.state),
            put.created_ms,
            put.closed_ms,
        )
        check = rows.check_sum("sessions", *columns)
        self._execute(_SESSION, (*columns, check, rows.seal(put.spec, check)))
        self._sessions.add(put.session)
        self.next_session = max(self.next_session, put.session + 1)

    def _tasks_logged(self, record: TasksLogged) -> None:
        session = record.session
        if not self._knows(session):
            return
        before = end = self._log_ends.get(session, 0)
        for log in record.logs:
            if log.attempt > 1:
                self._execute(_LOG_REPLACED, (session, log.task_id))
            end += log.size
            columns = (session, end, log.size, log.task_id, log.attempt)
            check = rows.check_sum("task_logs", *columns)
            self._execute(_LOG, (*columns, check, rows.seal((log.stdout, log.stderr), check)))
        self._log_ends[session] = end
        if end // _TRIM != before // _TRIM:
            self._execute(_LOGS_DROPPED, (session, end - KEPT_LOG_BYTES))

    def _session_deleted(self, record: SessionDeleted) -> None:
        # What is beneath it goes later, in pieces: see ``purge``.
        if not self._knows(record.session):
            return
        for sql in _SESSION_DELETED:
            self._execute(sql, (record.session,))
        self._sessions.discard(record.session)
        self._log_ends.pop(record.session, None)
        self._deleted_now.append(record.session)

    def _session_event(self, record: SessionEvent) -> None:
        if not self._knows(record.session):
            return
        check = rows.check_sum("session_events", record.session)
        self._execute(_EVENT, (record.session, check, rows.seal(record.event, check)))

    def _application_put(self, put: ApplicationPut) -> None:
        columns = (put.tenant, put.name, put.created_ms)
        check = rows.check_sum("applications", *columns)
        self._execute(_APPLICATION, (*columns, check, rows.seal(put.spec, check)))

    def _application_deleted(self, record: ApplicationDeleted) -> None:
        self._execute(_APPLICATION_DELETED, (record.tenant, record.name))

    def _binding_put(self, put: BindingPut) -> None:
        columns = (
            put.executor,
            put.tenant,
            put.session,
            put.incarnation,
            put.node,
            put.application,
        )
        self._execute(_BINDING, (*columns, rows.check_sum("bindings", *columns)))

    def _binding_deleted(self, record: BindingDeleted) -> None:
        self._execute(_BINDING_DELETED, (record.executor,))

    def _tenant_put(self, put: TenantPut) -> None:
        check = rows.check_sum("tenants", put.spec.name, put.created_ms)
        self._execute(_TENANT, (put.spec.name, put.created_ms, check, rows.seal(put.spec, check)))

    def _token_put(self, put: TokenPut) -> None:
        check = rows.check_sum("tokens", put.token, put.created_ms)
        self._execute(_CREDENTIAL, (put.token, put.created_ms, check, rows.seal(put.spec, check)))

    def _cordon_put(self, put: CordonPut) -> None:
        columns = (put.node, int(put.drain), put.since_ms)
        self._execute(_CORDON, (*columns, rows.check_sum("cordons", *columns)))
