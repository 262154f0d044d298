"""The machine that a simulated session manager runs on: its disk, its power, its store.

The real SQLite engine on a :class:`~flame.testing.disk.FaultyDisk`. When the process dies, the disk
keeps what was written; when the power goes, what was synced, and of the rest what luck lets through. The
log of SQLite is one: a loss of power takes the last groups, whole. Each group carries its number, so that
it is known how many are there.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import apsw

from flame.core.records import ApplicationPut, Record, Recovered
from flame.model.ids import DEFAULT_TENANT
from flame.model.specs import ApplicationSpec
from flame.storage.sqlite.checkpointer import Checkpointer
from flame.storage.sqlite.store import SqliteStore
from flame.testing.disk import FaultyDisk, put
from flame.testing.witness import Broken

MARK = "how-far-it-is-stored"  # an application that is registered again with each group
CHECKPOINT_PAGES = (
    100  # so that checkpoints, and a log that starts over, are among what is interrupted
)


class Machine:
    """One disk, from boot to boot.

    Args:
        directory: Where the files are that the disk shows.
        dice: Decide what a loss of power leaves.

    Attributes:
        groups: What is on the disk, as far as a process can tell: each group that was committed.
    """

    def __init__(self, directory: Path, dice: Random) -> None:
        self.groups: list[Sequence[Record]] = []
        self._path = directory / "flame.db"
        self._dice = dice
        self._synced = 0
        self._boot = 1
        self._is_powerless = False
        self._lost: list[Sequence[Record]] = []

    def open(self) -> SqliteStore:
        """Start the session manager's store, which lives until it is closed: that is its death."""
        return _Store(self, self._path, FaultyDisk(), self._boot)

    def power_off(self) -> None:
        """Have the next death be one of the whole machine."""
        self._is_powerless = True

    def lost(self) -> list[Sequence[Record]]:
        """Return the groups that the last boot did not find any more."""
        lost, self._lost = self._lost, []
        return lost

    def committed(self, group: Sequence[Record], *, sync: bool) -> None:
        """A commit has returned."""
        self.groups.append(group)
        if sync:
            self._synced = len(self.groups)

    def found(self, number: int) -> None:
        """A process that starts finds so many groups."""
        least = self._synced if self._is_powerless else len(self.groups)
        if not least <= number <= len(self.groups):
            raise Broken(f"{least} groups of {len(self.groups)} must be there, and {number} are")
        self._lost = self.groups[number:]
        del self.groups[number:]
        self._synced = number  # what was read after a boot is on the disk
        self._is_powerless = False

    def died(self, disk: FaultyDisk) -> dict[Path, bytes]:
        """Return the files as this death leaves them."""
        beside = Path(f"{self._path}.tail")  # written without a sync: any disk has it, or not
        left = {beside: beside.read_bytes()}
        if not self._is_powerless:
            return left | disk.after_kill()
        self._boot += 1
        if self._dice.random() < 0.5:
            left[beside] = b""
        return left | disk.after_power_loss(self._dice)


@contextmanager
def machine_of(seed: int) -> Iterator[Machine]:
    """Have a machine for one run."""
    with tempfile.TemporaryDirectory(prefix="flame-machine-") as directory:
        yield Machine(Path(directory), Random(f"machine {seed}"))


class _InTurn(Checkpointer):
    """Checkpoints in the commit that makes the log long: a thread's would come at any time."""

    def after_commit(self, writer: apsw.Connection, database: str, pages: int) -> int:
        if pages >= CHECKPOINT_PAGES:
            self._checkpoint(writer)
        return apsw.SQLITE_OK


class _Store(SqliteStore):
    """The store of one life of the process."""

    checkpointer = _InTurn

    def __init__(self, machine: Machine, path: Path, disk: FaultyDisk, boot: int) -> None:
        self.boot = boot.to_bytes(16, "big")
        self._machine = machine
        self._disk = disk
        self._is_open = False
        super().__init__(path, vfs=disk.vfs_name)
        self._is_open = True

    def load(self) -> Recovered:
        recovered = super().load()
        marks = [a for a in recovered.applications if a.name == MARK]
        recovered.applications = [a for a in recovered.applications if a.name != MARK]
        self._machine.found(marks[0].created_ms if marks else 0)
        return recovered

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        number = len(self._machine.groups) + 1
        mark = ApplicationPut(DEFAULT_TENANT, MARK, ApplicationSpec(), number)
        super().commit([*group, mark], sync=sync)
        self._machine.committed(group, sync=sync)

    def close(self) -> None:
        """Die: an orderly end would copy the log, which no death does."""
        if not self._is_open:
            super().close()
            return
        self._is_open = False
        left = self._machine.died(self._disk)
        super().close()
        put(left, self.path)
        beside = Path(f"{self.path}.tail")
        beside.write_bytes(left[beside])
