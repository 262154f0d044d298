"""The PostgreSQL engine as a :class:`~flame.storage.store.Store`.

``durable`` and ``sync`` are the same here. PostgreSQL acknowledges a commit with
``synchronous_commit = on`` once the log is flushed to disk. The only cheaper setting on one machine is
``off``, about which its manual says that "an operating system or database crash might result in some
recent allegedly-committed transactions being lost"; a database crash is the death of a process, which
``durable`` promises to survive. (``local`` differs from ``on`` only where there are synchronous
standbys, and there it would lose acknowledged work in a fail-over of the database.)
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import psycopg

from flame.core.records import OutcomesRecorded, Record, Recovered, StoredTask
from flame.model.errors import Unavailable
from flame.model.ids import SessionNumber, TaskId
from flame.model.logs import TaskLog
from flame.storage.candidacy import Candidacy
from flame.storage.postgres.connection import Database, PostgresQuery
from flame.storage.postgres.lease import (
    Held,
    Leadership,
    Renewal,
    in_use,
    migrate_only,
    take,
)
from flame.storage.postgres.schema import Connection, one
from flame.storage.postgres.writer import Writer
from flame.storage.reader import Reader
from flame.storage.recovery import recover
from flame.storage.store import CorruptStore

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25  # how often one that waits looks whether the lease has expired


class PostgresStore:
    """A schema in a PostgreSQL database, of which this process is, or will be, the only writer.

    Opening it does not connect; ``load`` does, and from then on this process leads until it closes
    the store or somebody else takes over. ``commit`` may run in one thread while others read.

    Args:
        url: ``postgresql://user@host:port/database``; several hosts may be named, and what libpq
            takes otherwise (``PGPASSWORD``, ``~/.pgpass``, ``?sslmode=...``) counts.
        schema: The schema that holds the tables.
        candidacy: How to lead.

    Attributes:
        on_waiting: Called, in the thread of ``load``, when somebody else is found to lead (the
            argument says who) or the database is away (it is empty); again when that changes.
        on_lost: Called, from a thread of the store's, when another one leads, or may lead.

    Raises:
        InvalidConfiguration: The URL cannot be understood.
    """

    name = "postgres"
    is_quick = False

    def __init__(
        self, url: str, *, schema: str = "flame", candidacy: Candidacy | None = None
    ) -> None:
        self._database = Database(url, schema)
        self._candidacy = candidacy or Candidacy()
        self._closing = threading.Event()
        self._write_lock = threading.Lock()
        self._deleted: set[int] = set()
        self._query = PostgresQuery(self._database, self._closing)
        self._reader = Reader(self._query, self._deleted)
        self._writer: Writer | None = None
        self._renewal: Renewal | None = None
        self._waits_for: str | None = None
        self.on_waiting: Callable[[str], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.settings = "synchronous_commit=on"

    def load(self, *, standby: bool = False) -> Recovered:
        """Lead, and return what survived.

        The lease of a leader that was killed is waited for: it expires within seconds.

        Args:
            standby: Also wait while somebody leads, until it stops or dies (or ``close``), as a
                candidate does who says so.

        Raises:
            WrongState: Somebody else leads, and renews its lease; or a newer version wrote this.
            Unavailable: The database cannot be reached; or the store was closed while it waited.
            CorruptStore: It cannot be read.
        """
        connection, leadership = self._lead(standby or self._candidacy.standby)
        try:
            self._settle(connection)
            self._writer = Writer(
                self._database, connection, leadership, self._deleted, self._closing
            )
        except BaseException:
            connection.close()
            raise
        writer = self._writer
        self._renewal = Renewal(
            self._database, self._candidacy, leadership, self._tell_lost, lambda: writer.stored
        )
        try:
            return recover(self._reader, leadership.epoch, writer.next_session)
        except CorruptStore as error:
            raise CorruptStore(f"{self._database.name} is damaged: {error}") from error

    def leads(self) -> bool:
        """Return whether nobody else can lead at this moment, by this process's clock."""
        return self._renewal is not None and time.monotonic() < self._renewal.leads_until

    def abandon(self) -> None:
        """Wait for the database no longer: what is under way fails. Any thread; ``close`` follows."""
        self._closing.set()

    def migrate(self) -> tuple[int, int]:
        """Migrate without leading; return the schema's versions before and after.

        Raises:
            WrongState: Somebody leads, or a newer version wrote it.
            Unavailable: The database cannot be reached.
        """
        with closing(self._database.connect()) as connection:
            return migrate_only(self._database, connection)

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        """Make the group's records last; ``sync`` or not is the same here.

        Raises:
            ResourceExhausted: The server's disk is full; a later commit may succeed.
            WrongState: Another session manager has taken over.
            Unavailable: The database was away for too long.
        """
        with self._write_lock:
            self._leading().commit(group)

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        return self._reader.task(session, task_id)

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        return self._reader.tasks(session, after, limit)

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        return self._reader.outcomes(session, position, max_bytes)

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        return self._reader.logs(session, after, limit)

    def first_kept(self, session: SessionNumber) -> int:
        return 0

    def maintain(self) -> bool:
        with self._write_lock:
            return self._leading().purge(self._query)

    def close(self) -> None:
        """Let go of the lease, so that a standby leads at once. Ends a ``load`` that waits."""
        self._closing.set()
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._renewal is not None:
                self._renewal.close()
                self._renewal = None
            self._query.close()

    def _leading(self) -> Writer:
        if self._writer is None:
            raise Unavailable(f"{self._database.name} is not loaded, or closed")
        return self._writer

    def _lead(self, standby: bool) -> tuple[Connection, Leadership]:
        """Return a connection to write with once this one leads."""
        connection: Connection | None = None
        first: Held | None = None
        deadline = time.monotonic() + 2 * self._candidacy.lease_seconds
        try:
            while True:
                try:
                    if connection is None:
                        connection = self._database.connect()
                    found = take(self._database, connection, self._candidacy)
                    if isinstance(found, Leadership):
                        leading, connection = connection, None
                        return leading, found
                    self._wait_for(str(found))
                    first = first or found
                    if not standby and (found != first or time.monotonic() > deadline):
                        raise in_use(self._database, found)
                except (Unavailable, psycopg.OperationalError) as error:
                    if not standby:
                        raise
                    if connection is not None:
                        connection.close()
                        connection = None
                    self._wait_for("", error)
                if self._closing.wait(_LOOK_SECONDS):
                    raise Unavailable(f"{self._database.name} was closed while it waited to lead")
        finally:
            if connection is not None:
                connection.close()

    def _wait_for(self, leader: str, error: Exception | None = None) -> None:
        if leader == self._waits_for:
            return
        self._waits_for = leader
        if error is not None:
            log.warning("database-awaited because=%s", " ".join(str(error).split()))
        if self.on_waiting is not None:
            self.on_waiting(leader)

    def _settle(self, connection: Connection) -> None:
        level = one(connection, "SHOW synchronous_commit")
        fsync = one(connection, "SHOW fsync")
        version = connection.info.server_version
        self.settings = f"server={version // 10_000}.{version % 10_000} synchronous_commit={level} fsync={fsync}"
        if fsync != "on":
            log.warning("database-without-fsync consequence='a loss of power loses stored tasks'")

    def _tell_lost(self) -> None:
        log.error("leadership-lost database=%r", self._database.name)
        if self.on_lost is not None:
            self.on_lost()
