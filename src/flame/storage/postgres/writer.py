"""Writing: one group of records is one transaction, sent as a whole.

All its statements go out in one piece (PostgreSQL's pipeline mode), so a commit costs one round trip
and one flush of the server's log. A connection that breaks leaves one question: was the last group
stored? The writer connects again, raises the fence, after which the old connection can store nothing
more, and looks for the group's number: only then does it answer, or send the group again.
"""

import threading
import time
from collections.abc import Sequence

import psycopg

from flame.core.records import Record
from flame.model.errors import ResourceExhausted, Unavailable
from flame.storage import rows
from flame.storage.postgres.connection import (
    PATIENCE_SECONDS,
    Database,
    dollars,
    errors_named,
    is_lost,
)
from flame.storage.postgres.lease import Leadership, raise_fence, taken_over
from flame.storage.postgres.schema import TAKEN_OVER, Connection, one
from flame.storage.purge import Statement, next_piece
from flame.storage.reader import Query
from flame.storage.statements import LOG_ENDS, Statements, Value
from flame.storage.store import CorruptStore


class Writer:
    """The leader's only writer.

    Attributes:
        stored: The number of the last group that is known to be stored.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        leadership: Leadership,
        deleted: set[int],
        closing: threading.Event,
    ) -> None:
        self._database = database
        self._connection: Connection | None = connection
        self._epoch = leadership.epoch
        self._fence = leadership.fence
        self._closing = closing
        self._pending: list[Statement] = []
        self._statements = Statements(self._gather)
        self._statements.deleted = deleted
        self._learn(connection)
        self.stored: int = one(connection, "SELECT max(number) FROM groups") or 0

    @property
    def next_session(self) -> int:
        """A number that no session ever had."""
        return self._statements.next_session

    def commit(self, group: Sequence[Record]) -> None:
        """Store a group, or raise and store nothing of it."""
        try:
            self._statements.write(group)
            self._store()
        except BaseException:
            self._pending.clear()
            self._relearn()
            raise
        self._pending.clear()
        self._statements.committed()

    def purge(self, query: Query) -> bool:
        """Clear away one piece of a deleted session; return whether there is more to do."""
        deleted = self._statements.deleted
        if not deleted:
            return False
        session = min(deleted)
        self._pending = list(next_piece(query, session))
        last = self._pending[-1][0]
        try:
            self._store()
        finally:
            self._pending.clear()
        if "deleted_sessions" in last:
            deleted.discard(session)
        return bool(deleted)

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _gather(self, sql: str, values: tuple[Value, ...]) -> None:
        self._pending.append((sql, values))

    # --- One transaction ---------------------------------------------------------------------

    def _store(self) -> None:
        """Run what is pending as one transaction, exactly once."""
        if not self._pending:
            return
        number = self.stored + 1
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self._connection is None:
                    self._connection = self._database.connect_patiently(self._closing)
                    if self._find_out(self._connection, number):
                        break
                self._send(self._connection, number)
                break
            except psycopg.Error as error:
                if self._connection is None or not self._connection.closed:
                    raise
                self._connection = None
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"{self._database.name} was lost again and again for {PATIENCE_SECONDS:g}"
                        f" seconds: {error}"
                    ) from error
        self.stored = number

    def _send(self, connection: Connection, number: int) -> None:
        execute = connection.execute
        try:
            with errors_named(self._database.name), connection.pipeline():
                execute("BEGIN")
                execute("SELECT begin_group($1, $2)", (self._fence, number))
                for sql, values in self._pending:
                    execute(dollars(sql), values)
                end = execute("COMMIT")
        except psycopg.Error as error:
            if is_lost(connection, error):
                raise
            connection.rollback()
            if error.sqlstate == TAKEN_OVER:
                raise taken_over(self._epoch) from error
            if isinstance(error, psycopg.errors.DiskFull):
                raise ResourceExhausted(
                    f"the disk of {self._database.name} is full ({error}); nothing of this commit"
                    " was stored: free some space"
                ) from error
            raise
        if end.statusmessage != "COMMIT":
            raise CorruptStore(f"{self._database.name} answered {end.statusmessage!r} to COMMIT")

    def _find_out(self, connection: Connection, number: int) -> bool:
        """Return whether the group is stored; it is not under way any more in either case."""
        self._fence = raise_fence(connection, self._epoch)
        last = one(connection, "SELECT max(number) FROM groups") or 0
        if last < self.stored:
            raise CorruptStore(
                f"{self._database.name} has gone back: the last group in it is {last}, but group"
                f" {self.stored} was stored; was it restored, or replaced by a standby that lagged?"
            )
        return bool(last >= number)

    def _relearn(self) -> None:
        """After a failure, forget what was not stored. If even that fails, the manager stops."""
        if self._connection is not None and not self._connection.closed:
            self._learn(self._connection)

    def _learn(self, connection: Connection) -> None:
        found = connection.execute(
            "SELECT value, check_sum FROM meta WHERE name = 'next_session'"
        ).fetchone()
        next_session = 1
        if found is not None:
            next_session = found[0]
            rows.verify("meta", "next_session", found[1], "next_session", next_session)
        self._statements.learn(
            (row[0] for row in connection.execute("SELECT session FROM sessions")),
            (row[0] for row in connection.execute("SELECT session FROM deleted_sessions")),
            next_session,
            connection.execute(LOG_ENDS),
        )
