"""The SQLite engine as a :class:`~flame.storage.store.Store`."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from flame.core.records import OutcomesRecorded, Record, Recovered, StoredTask
from flame.model.errors import InvalidConfiguration
from flame.model.ids import SessionNumber, TaskId
from flame.model.logs import TaskLog
from flame.storage.reader import Reader
from flame.storage.recovery import recover
from flame.storage.sqlite.checkpointer import Checkpointer
from flame.storage.sqlite.lock import FileLock
from flame.storage.sqlite.query import SqliteQuery, check_indexes
from flame.storage.sqlite.schema import PAGE_SIZE, SCHEMA_VERSION, migrate, read_version
from flame.storage.sqlite.tail import Tail
from flame.storage.sqlite.writer import Writer
from flame.storage.store import CorruptStore

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000  # another program, such as a backup, may hold the file for a moment


class SqliteStore:
    """A database file in write-ahead mode.

    ``commit`` may run in one thread while any others read: there is a connection for each,
    and one for the thread that checkpoints.
    The file is created readable by its owner only, since inputs and outputs are the users'.

    Args:
        path: The database file. Beside it appear ``-wal``, ``-shm``, ``.lock`` and ``.tail``.
        vfs: SQLite's virtual file system; None is the operating system's.

    Attributes:
        versions: The schema's version as found, and as it is now.

    Raises:
        InvalidConfiguration: The directory does not exist or cannot be written.
        WrongState: The file is in use, or of a newer version, or not one of Flame's.
        CorruptStore: The file is damaged.
    """

    #: What a simulated machine has in their places; a boot of None is this machine's.
    checkpointer: type[Checkpointer] = Checkpointer
    boot: bytes | None = None

    name = "sqlite"
    settings = "journal=wal synchronous=normal"
    is_quick = True

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self.path = path
        try:
            self._file_lock = FileLock(path)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise InvalidConfiguration(
                f"storage file {path} cannot be opened: {error.strerror}; its directory must exist"
                " and be writable"
            ) from error
        self._connections: list[apsw.Connection] = []
        self._checkpointer: Checkpointer | None = None
        self._tail: Tail | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            with self._corruption_named():
                connection = self._connect(vfs)
                # What is wrong with the log must still be there to see after it was refused.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                version = read_version(connection, str(path))
                tail = Tail(path, self.boot)
                self._tail = tail
                tail.check(_frames(connection))
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
                connection.pragma("page_size", PAGE_SIZE)  # only before there is anything
                connection.pragma("journal_mode", "wal")
                migrate(connection, version)
                self.versions = version, SCHEMA_VERSION
                self._writer = Writer(connection, str(path))
                self._checkpointer = self.checkpointer(self._connect(vfs))
                connection.set_wal_hook(self._after_commit)
                self._query = SqliteQuery(self._connect(vfs), self._read_lock)
                self._reader = Reader(self._query, self._writer.deleted)
        except BaseException:
            self.close()
            raise

    def load(self) -> Recovered:
        with self._corruption_named():
            check_indexes(self._query)  # before anything is written to what may be damaged
            with self._write_lock:
                epoch, next_session = self._writer.start()
            recovered = recover(self._reader, epoch, next_session)
        for session in recovered.sessions:
            session.pending = self._named_while_read(session.pending)
        return recovered

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        with self._write_lock:
            self._writer.commit(group, sync)

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        with self._corruption_named():
            return self._reader.task(session, task_id)

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        with self._corruption_named():
            return self._reader.tasks(session, after, limit)

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        with self._corruption_named():
            return self._reader.outcomes(session, position, max_bytes)

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        with self._corruption_named():
            return self._reader.logs(session, after, limit)

    def first_kept(self, session: SessionNumber) -> int:
        return 0

    def maintain(self) -> bool:
        with self._corruption_named(), self._write_lock:
            return self._writer.purge(self._query)

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            if self._checkpointer is not None:
                self._checkpointer.close()
                self._checkpointer = None
                if self._tail is not None:
                    self._tail.end()
            for connection in reversed(self._connections):
                connection.close()
            self._connections.clear()
            if self._tail is not None:
                self._tail.close()
                self._tail = None
            self._file_lock.close()

    def _connect(self, vfs: str | None) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
        self._connections.append(connection)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        return connection

    def _after_commit(self, writer: apsw.Connection, database: str, frames: int) -> int:
        assert self._tail is not None  # noqa: S101 - a commit is between opening and closing
        assert self._checkpointer is not None  # noqa: S101
        self._tail.note(frames, synced=self._writer.is_synced)
        return self._checkpointer.after_commit(writer, database, frames)

    def _named_while_read(self, items: Iterable[T]) -> Iterator[T]:
        with self._corruption_named():
            yield from items

    @contextmanager
    def _corruption_named(self) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
            raise CorruptStore(f"{self.path} is damaged: {error}") from error
        except CorruptStore as error:
            raise CorruptStore(f"{self.path} is damaged: {error}") from error


def _frames(connection: apsw.Connection) -> int:
    """Return how many frames the write-ahead log has, as SQLite has read it."""
    if connection.pragma("journal_mode") != "wal":
        return 0
    return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
