"""Writing: one group of records is one transaction.

One connection, used by one thread at a time. SQLite appends a transaction to the write-ahead log;
after the death of the process the log is replayed, so a commit with ``synchronous=NORMAL`` is safe
from that. ``FULL`` waits for the disk as well, which a loss of power needs. ``checkpointer`` keeps the log short.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    BindingDeleted,
    BindingPut,
    LeaseLost,
    OutcomesRecorded,
    Record,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    TasksSubmitted,
)
from flame.model.errors import IllegalTransition, ResourceExhausted
from flame.storage.sqlite import rows
from flame.storage.sqlite.schema import OF_A_SESSION

LOG_SIZE_LIMIT = 256 * 1024 * 1024  # a longer log is cut back to this after a checkpoint

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Writer:
    """The only writer of the database."""

    def __init__(self, connection: apsw.Connection, file: str) -> None:
        self._connection = connection
        self._file = file
        self._execute = connection.execute
        self._full: bool | None = None
        self._sessions: set[int] = set()
        self._next_session = 1
        connection.pragma("journal_size_limit", LOG_SIZE_LIMIT)
        self._write: dict[type[Any], Callable[[Any], None]] = {
            TasksSubmitted: self._tasks_submitted,
            OutcomesRecorded: self._outcomes_recorded,
            LeaseLost: self._lease_lost,
            SessionPut: self._session_put,
            SessionDeleted: self._session_deleted,
            SessionEvent: self._session_event,
            ApplicationPut: self._application_put,
            ApplicationDeleted: self._application_deleted,
            BindingPut: self._binding_put,
            BindingDeleted: self._binding_deleted,
            # Nothing to store: Barrier, and OutcomesAcknowledged (which only permits forgetting).
        }

    def start(self) -> tuple[int, int]:
        """Raise the epoch, synced, and return it with the next session's number."""
        self._learn()
        epoch = self._meta("epoch") + 1
        self._set_synchronous(True)
        self._transaction(lambda: self._put_meta("epoch", epoch))
        return epoch, self._next_session

    def commit(self, group: Sequence[Record], sync: bool) -> None:
        """Store a group, or raise and store nothing of it."""
        if sync is not self._full:
            self._set_synchronous(sync)
        next_session = self._next_session

        def write() -> None:
            for record in group:
                write_record = self._write.get(type(record))
                if write_record is not None:
                    write_record(record)
            if self._next_session != next_session:
                self._put_meta("next_session", self._next_session)

        self._transaction(write)

    def _transaction(self, write: Callable[[], None]) -> None:
        try:
            self._execute("BEGIN IMMEDIATE")
            write()
            self._execute("COMMIT")
        except BaseException as error:
            # Some errors have made SQLite roll back already.
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            self._learn()
            if self._is_full_disk(error):
                raise ResourceExhausted(
                    f"the disk refuses to store more in {self._file} ({error}); nothing of this"
                    " commit was stored: free some space"
                ) from error
            raise

    def _is_full_disk(self, error: BaseException) -> bool:
        if isinstance(error, apsw.FullError | apsw.ReadOnlyError):
            return True
        # SQLite calls only ENOSPC "full"; a quota or a file size limit is an input/output error.
        return isinstance(error, apsw.IOError) and self._connection.system_errno in _FULL_DISK

    def _set_synchronous(self, full: bool) -> None:
        self._connection.pragma("synchronous", "FULL" if full else "NORMAL")
        self._full = full

    def _learn(self) -> None:
        """Read what the transactions keep in memory: which sessions there are."""
        self._sessions = {row[0] for row in self._execute("SELECT session FROM sessions")}
        self._next_session = max(self._meta("next_session"), 1)

    # --- Records -----------------------------------------------------------------------------

    def _knows(self, session: int) -> bool:
        if session in self._sessions:
            return True
        if session >= self._next_session:
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
        self._execute(
            "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?)",
            (*columns, check, rows.seal(record.inputs, check)),
        )

    def _outcomes_recorded(self, record: OutcomesRecorded) -> None:
        if not record.task_ids or not self._knows(record.session):
            return
        columns, run = rows.outcomes_columns(record)
        check = rows.check_sum("outcomes", *columns, int(run))
        width = (columns[4] - columns[3]).bit_length()
        self._execute(
            "INSERT INTO outcomes VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
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
        loss = (
            record.executor,
            record.incarnation,
            list(record.task_ids),
            record.cause,
            record.lost_ms,
        )
        self._execute(
            "INSERT INTO lease_losses VALUES (NULL,?,?,?,?,?)",
            (*columns, check, rows.seal(loss, check)),
        )

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
        self._execute(
            "REPLACE INTO sessions VALUES (?,?,?,?,?,?,?,?)",
            (*columns, check, rows.seal(put.spec, check)),
        )
        self._sessions.add(put.session)
        self._next_session = max(self._next_session, put.session + 1)

    def _session_deleted(self, record: SessionDeleted) -> None:
        for table in OF_A_SESSION:
            self._execute(f"DELETE FROM {table} WHERE session = ?", (record.session,))  # noqa: S608 - our own names
        self._sessions.discard(record.session)

    def _session_event(self, record: SessionEvent) -> None:
        if not self._knows(record.session):
            return
        check = rows.check_sum("session_events", record.session)
        self._execute(
            "INSERT INTO session_events VALUES (NULL,?,?,?)",
            (record.session, check, rows.seal(record.event, check)),
        )

    def _application_put(self, put: ApplicationPut) -> None:
        columns = (put.tenant, put.name, put.created_ms)
        check = rows.check_sum("applications", *columns)
        self._execute(
            "REPLACE INTO applications VALUES (?,?,?,?,?)",
            (*columns, check, rows.seal(put.spec, check)),
        )

    def _application_deleted(self, record: ApplicationDeleted) -> None:
        self._execute(
            "DELETE FROM applications WHERE tenant = ? AND name = ?", (record.tenant, record.name)
        )

    def _binding_put(self, put: BindingPut) -> None:
        columns = (
            put.executor,
            put.tenant,
            put.session,
            put.incarnation,
            put.node,
            put.application,
        )
        check = rows.check_sum("bindings", *columns)
        self._execute("REPLACE INTO bindings VALUES (?,?,?,?,?,?,?)", (*columns, check))

    def _binding_deleted(self, record: BindingDeleted) -> None:
        self._execute("DELETE FROM bindings WHERE executor = ?", (record.executor,))

    # --- Counters ----------------------------------------------------------------------------

    def _meta(self, name: str) -> int:
        sql = "SELECT value, check_sum FROM meta WHERE name = ?"
        found: list[tuple[Any, ...]] = self._execute(sql, (name,)).fetchall()
        if not found:
            return 0
        value, check = found[0]
        rows.verify("meta", name, check, name, value)
        return int(value)

    def _put_meta(self, name: str, value: int) -> None:
        check = rows.check_sum("meta", name, value)
        self._execute("REPLACE INTO meta VALUES (?,?,?)", (name, value, check))
