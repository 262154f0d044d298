"""What every storage engine can do.

One thread commits, another may read at the same time; an engine must allow exactly that. A commit is
atomic: after a crash either all records of a group are there or none. Records of one session are
committed in the order in which the core made them.

Records of a session that was deleted are dropped: a report may cross with the deletion. Records of a
session that never existed are a bug (``IllegalTransition``).
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from flame.core.records import OutcomesRecorded, Record, Recovered, StoredTask
from flame.model.errors import FlameError
from flame.model.ids import SessionNumber, TaskId
from flame.model.logs import TaskLog


class CorruptStore(FlameError):
    """Stored bytes are not what was written; file, table and row are named. Restore a backup."""


class Store(Protocol):
    """Durable (or, for the memory engine, volatile) facts about one cluster."""

    #: Two words for benchmark tables and logs, e.g. "sqlite" and "journal=wal synchronous=normal".
    name: str
    settings: str
    #: A small commit without a sync takes less time than handing it to another thread.
    is_quick: bool

    def load(self) -> Recovered:
        """Raise the epoch, store it, and return what survived. Called once, before all else.

        An engine may raise the same errors when it is opened.

        Raises:
            WrongState: Another session manager has this store open, or a newer version wrote it.
            CorruptStore: It cannot be read.
        """

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        """Make the group's records last; with ``sync``, even through a loss of power.

        Raises:
            ResourceExhausted: The disk is full; nothing of the group was stored, and a later
                commit may succeed. Any other error means that the manager must stop.
        """

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        """Return one task, or None if it never existed or is no longer kept.

        Its ``attempts`` are those that lost leases spent; a final run is not counted.
        """

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        """Return up to ``limit`` tasks with an id above ``after``, by rising id."""

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        """Return consecutive outcomes from exactly ``position`` on, or None if there are none.

        At least one, then as many as the same stored batch, or small ones that follow each other,
        hold within ``max_bytes`` of outputs. ``finished_ms`` is that of the first batch.
        """

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        """Return up to ``limit`` logs of tasks with an id above ``after``, by rising id.

        And whether the session's oldest logs have made room for newer ones.
        """

    def first_kept(self, session: SessionNumber) -> int:
        """Return the lowest log position that can still be read (0 where nothing is dropped)."""

    def maintain(self) -> bool:
        """Do a little of what can wait, in milliseconds; return whether there is more to do.

        Deleted sessions leave in such pieces. Call it from any thread when there is little to commit.
        """

    def close(self) -> None:
        """Release the store. Further calls are errors."""


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that one of several session managers writes, under a lease.

    Attributes:
        on_waiting: Called, in ``load``'s thread, with who leads instead, or with nothing where nobody
            is known to; again when that changes.
        on_lost: Called, from a thread of the store's, when another one leads, or may lead.
    """

    on_waiting: Callable[[str], None] | None
    on_lost: Callable[[], None] | None

    def leads(self) -> bool:
        """Return whether nobody else can lead at this moment."""

    def abandon(self) -> None:
        """Wait no longer: what is under way fails. Any thread; ``close`` follows."""
