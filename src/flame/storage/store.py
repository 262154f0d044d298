"""What every storage engine can do.

One thread commits, another may read at the same time; an engine must allow exactly that. A commit is
atomic: after a crash either all records of a group are there or none. Records of one session are
committed in the order in which the core made them.
"""

from collections.abc import Sequence
from typing import Protocol

from flame.core.records import OutcomesRecorded, Record, Recovered, StoredTask
from flame.model.ids import SessionNumber, TaskId


class Store(Protocol):
    """Durable (or, for the memory engine, volatile) facts about one cluster."""

    #: Two words for benchmark tables and logs, e.g. "sqlite" and "journal=wal synchronous=normal".
    name: str
    settings: str

    def load(self) -> Recovered:
        """Raise the epoch, store it, and return what survived. Called once, before all else.

        Raises:
            WrongState: Another session manager has this store open, or a newer version wrote it.
        """

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        """Make the group's records last; with ``sync``, even through a loss of power.

        Raises:
            ResourceExhausted: The disk is full; nothing of the group was stored.
        """

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        """Return one task, or None if it never existed or is no longer kept."""

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        """Return up to ``limit`` tasks with an id above ``after``, by rising id."""

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        """Return consecutive outcomes from exactly ``position`` on, or None if there are none.

        At least one, then as many as the same stored batch holds within ``max_bytes`` of outputs.
        """

    def first_kept(self, session: SessionNumber) -> int:
        """Return the lowest log position that can still be read (0 where nothing is dropped)."""

    def close(self) -> None:
        """Release the store. Further calls are errors."""
