"""Who may write: one leader, on the database's time.

    leader    renews every third of a lease ──────────── stops
    standby   reads the row: not expired ... not expired ... expired: raises epoch and fence
    leader    wakes up, writes: the fence is not its own any more ▷ WrongState

One that finds the leader dead, because it runs in the same place, does not wait: so does a session
manager that was killed and started again. The time only decides when a standby may try. What keeps a
leader that was stopped for a minute from writing is the fence, which every write transaction compares
(see ``schema``). What keeps it from answering with what it remembers is its own clock: it counts a
lease from before it asked for it, so it knows no later than the database that the lease is over.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from flame.model.errors import Unavailable, WrongState
from flame.storage.candidacy import Candidacy
from flame.storage.postgres.connection import Database
from flame.storage.postgres.schema import Connection, migrate, one, read_version

log = logging.getLogger(__name__)

RENEWALS = 3  # within one lease
GROUPS_KEPT_SECONDS = 10.0

_SETUP_LOCK = 0x464C414D00000000  # of all the schemas in a database; no table has the oid 0
_LOCK_NOT_AVAILABLE = "55P03"
_WITH_ADDRESS = 4  # the schema's first version whose lease has one


@dataclass(frozen=True, slots=True)
class Leadership:
    """What a leader holds: its start's number, and the number that its writes must show.

    ``until`` is on this process's monotonic clock.
    """

    epoch: int
    fence: int
    until: float


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else leads: who, until when (as text; it changes with every renewal), and where."""

    holder: str
    expires: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.address} ({self.holder})" if self.address else self.holder


def take(database: Database, connection: Connection, candidacy: Candidacy) -> Leadership | Held:
    """Lead, if nobody does: one attempt. Makes or migrates the tables as well.

    Raises:
        WrongState: A newer version of Flame wrote the tables.
    """
    # A look first: one that waits must hold no lock, or being stopped it would hold up the leader.
    version = read_version(connection)
    held = holder_of(connection, version) if version else None
    if held is not None:
        return held
    with connection.transaction():
        connection.execute("SET LOCAL idle_in_transaction_session_timeout TO '1s'")
        version = _set_up(database, connection)
        if version:
            held = holder_of(connection, version, lock=True)
            if held is not None:
                return held
            _stop_writers(connection)
        migrate(connection, version)
        asked = time.monotonic()
        row = connection.execute(
            "UPDATE lease SET epoch = epoch + 1, fence = fence + 1, holder = $1, process = $2,"
            " expires = clock_timestamp() + $3 * INTERVAL '1 millisecond', address = $4"
            " RETURNING epoch, fence",
            (
                f"process {os.getpid()} on {socket.gethostname()}",
                f"{_place()} {os.getpid()}",
                int(candidacy.lease_seconds * 1000),
                candidacy.address,
            ),
        ).fetchone()
        assert row is not None  # noqa: S101 - the first migration inserts it
        return Leadership(row[0], row[1], asked + candidacy.lease_seconds)


def migrate_only(database: Database, connection: Connection) -> tuple[int, int]:
    """Bring the tables to this version's without leading; return the versions before and after.

    Raises:
        WrongState: Somebody leads, or a newer version wrote the tables.
    """
    with connection.transaction():
        version = _set_up(database, connection)
        if version:
            held = holder_of(connection, version, lock=True)
            if held is not None:
                raise in_use(database, held)
            _stop_writers(connection)
        migrate(connection, version)
        return version, read_version(connection)


def raise_fence(connection: Connection, epoch: int) -> int:
    """End whatever an earlier connection of this leader may still be doing; return the new fence.

    Raises:
        WrongState: Somebody else leads now.
    """
    with connection.transaction():
        fence = one(
            connection, "UPDATE lease SET fence = fence + 1 WHERE epoch = $1 RETURNING fence", epoch
        )
        if fence is None:
            raise taken_over(epoch)
        _stop_writers(connection)
        return int(fence)


def taken_over(epoch: int) -> WrongState:
    """Return the error of a leader that does not lead any more."""
    return WrongState(
        f"another session manager has taken over from epoch {epoch}; nothing more can be stored by"
        " this one: it must stop"
    )


def in_use(database: Database, held: Held) -> WrongState:
    """Return the error of one that would lead where somebody does."""
    return WrongState(
        f"{database.name} is in use by {held}, whose lease lasts until {held.expires} and is renewed;"
        " one session manager at a time writes to it: stop that one, or start this one with --standby"
    )


def holder_of(connection: Connection, version: int, *, lock: bool = False) -> Held | None:
    """Return who leads, or None; with ``lock`` the row stays locked until the transaction ends."""
    if lock:
        connection.execute("SELECT FROM lease FOR UPDATE")
    found = connection.execute(
        "SELECT holder, expires::TEXT, expires > clock_timestamp(), process FROM lease"
    ).fetchone()
    if found is None or not found[2] or _is_dead(found[3]):
        return None
    address = one(connection, "SELECT address FROM lease") if version >= _WITH_ADDRESS else ""
    return Held(found[0], found[1], address)


def _place() -> str:
    """Return where process ids mean the same as here: this boot, this container; or nothing."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(process: str) -> bool:
    """Whether it ran in the same place as this process, and runs no more."""
    place, _, number = process.rpartition(" ")
    if not place or place != _place():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is another user's, so it is there
    return False


def _set_up(database: Database, connection: Connection) -> int:
    connection.execute("SELECT pg_advisory_xact_lock($1)", (_SETUP_LOCK,))
    version = read_version(connection)
    if version == 0:
        database.create_schema(connection)
    return version


def _stop_writers(connection: Connection) -> None:
    """Hold the fence's lock alone: no transaction of another fence is under way any more.

    One that was stopped in the middle, with its process or its network, is ended.
    """
    connection.execute("SET LOCAL lock_timeout TO '500ms'")
    while True:
        try:
            with connection.transaction():  # a savepoint
                connection.execute("SELECT pg_advisory_xact_lock(fence_lock())")
            break
        except psycopg.errors.LockNotAvailable:
            log.warning("writers-terminated because=they hold up a change of leader")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid = (fence_lock() >> 32)::OID AND objsubid = 1 AND granted"
                " AND objid = (fence_lock() & 4294967295)::OID AND pid <> pg_backend_pid()"
            )
    connection.execute("SET LOCAL lock_timeout TO DEFAULT")


class Renewal:
    """A thread that renews the lease, and forgets the numbers of groups that nobody will ask for.

    Args:
        lost: Called, in the thread, once it is known that somebody else leads; of a candidate that
            waits also when that can no longer be excluded, as the lease could not be renewed.
        stored: Says up to which number groups are known to be stored.

    Attributes:
        leads_until: When the lease is over unless it is renewed, on the monotonic clock.
    """

    def __init__(
        self,
        database: Database,
        candidacy: Candidacy,
        leadership: Leadership,
        lost: Callable[[], None],
        stored: Callable[[], int],
    ) -> None:
        self._database = database
        self._candidacy = candidacy
        self._epoch = leadership.epoch
        self._lost = lost
        self._stored = stored
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self._forgotten = time.monotonic()
        self.leads_until = leadership.until
        self._thread = threading.Thread(target=self._run, name="postgres-lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop renewing, and let a standby lead at once."""
        self._closing.set()
        self._thread.join()
        try:
            connection = self._connection or self._database.connect()
            with connection:
                connection.execute(
                    "UPDATE lease SET expires = '-infinity' WHERE epoch = $1", (self._epoch,)
                )
        except (psycopg.Error, Unavailable) as error:
            log.warning("lease-not-released because=%s", error)  # it expires

    def _run(self) -> None:
        while not self._closing.wait(self._candidacy.lease_seconds / RENEWALS):
            try:
                if self._connection is None:
                    self._connection = self._database.connect()
                if not self._renew(self._connection):
                    self._lost()
                    return
            except (psycopg.Error, Unavailable) as error:
                log.warning("lease-not-renewed because=%s", " ".join(str(error).split()))
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                if self._candidacy.standby and time.monotonic() >= self.leads_until:
                    self._lost()
                    return

    def _renew(self, connection: Connection) -> bool:
        asked = time.monotonic()
        changed = connection.execute(
            "UPDATE lease SET expires = clock_timestamp() + $1 * INTERVAL '1 millisecond'"
            " WHERE epoch = $2",
            (int(self._candidacy.lease_seconds * 1000), self._epoch),
        ).rowcount
        if not changed:
            return False
        self.leads_until = asked + self._candidacy.lease_seconds
        if time.monotonic() - self._forgotten > GROUPS_KEPT_SECONDS:
            self._forgotten = time.monotonic()
            connection.execute("DELETE FROM groups WHERE number < $1", (self._stored(),))
        return True
