"""Writing: one group of records is one transaction.

One connection, used by one thread at a time. SQLite appends a transaction to the write-ahead log;
after the death of the process the log is replayed, so a commit with ``synchronous=NORMAL`` is safe
from that. ``FULL`` waits for the disk as well, which a loss of power needs. ``checkpointer`` keeps the log short.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from flame.core.records import Record
from flame.model.errors import ResourceExhausted
from flame.storage import rows
from flame.storage.purge import next_piece
from flame.storage.reader import Query
from flame.storage.statements import LOG_ENDS, Statements

LOG_SIZE_LIMIT = 256 * 1024 * 1024  # a longer log is cut back to this after a checkpoint

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Writer:
    """The only writer of the database."""

    def __init__(self, connection: apsw.Connection, file: str) -> None:
        self._connection = connection
        self._file = file
        self._execute = connection.execute
        self._full: bool | None = None
        self._statements = Statements(connection.execute)
        connection.pragma("journal_size_limit", LOG_SIZE_LIMIT)

    @property
    def deleted(self) -> set[int]:
        """Sessions that were deleted and of which rows are left."""
        return self._statements.deleted

    @property
    def is_synced(self) -> bool:
        """Whether the commit that is under way, or was the last, waits for the disk."""
        return bool(self._full)

    def start(self) -> tuple[int, int]:
        """Raise the epoch, synced, and return it with the next session's number."""
        self._learn()
        epoch = self._meta("epoch") + 1
        self._set_synchronous(True)
        self._transaction(lambda: self._statements.put_meta("epoch", epoch))
        return epoch, self._statements.next_session

    def commit(self, group: Sequence[Record], sync: bool) -> None:
        """Store a group, or raise and store nothing of it."""
        if sync is not self._full:
            self._set_synchronous(sync)
        self._transaction(lambda: self._statements.write(group))
        self._statements.committed()

    def purge(self, query: Query) -> bool:
        """Clear away one piece of a deleted session; return whether there is more to do."""
        if not self.deleted:
            return False
        session = min(self.deleted)
        piece = list(next_piece(query, session))

        def write() -> None:
            for sql, values in piece:
                self._execute(sql, values)

        if self._full:
            self._set_synchronous(False)
        self._transaction(write)
        if "deleted_sessions" in piece[-1][0]:
            self.deleted.discard(session)
        return bool(self.deleted)

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
        self._statements.learn(
            (row[0] for row in self._execute("SELECT session FROM sessions")),
            (row[0] for row in self._execute("SELECT session FROM deleted_sessions")),
            self._meta("next_session"),
            self._execute(LOG_ENDS),
        )

    def _meta(self, name: str) -> int:
        sql = "SELECT value, check_sum FROM meta WHERE name = ?"
        found: list[tuple[Any, ...]] = self._execute(sql, (name,)).fetchall()
        if not found:
            return 0
        value, check = found[0]
        rows.verify("meta", name, check, name, value)
        return int(value)
