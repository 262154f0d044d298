"""A disk whose space, and whose syncs, a test decides about and sees."""

from collections import Counter
from itertools import count
from typing import Any

import apsw

_numbers = count(1)


class Disk(apsw.VFS):
    """The operating system's files, with a limit on what may be written.

    Attributes:
        free: Bytes that may still be written; None: no limit.
        syncs: How often each kind of file (``db``, ``wal``) was synced.
    """

    def __init__(self) -> None:
        self.vfs_name = f"test-disk-{next(_numbers)}"
        self.free: int | None = None
        self.syncs: Counter[str] = Counter()
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def take(self, amount: int) -> None:
        if self.free is not None:
            if amount > self.free:
                raise apsw.FullError("no space left on the test's disk")
            self.free -= amount


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._kind = "wal" if flags[0] & apsw.SQLITE_OPEN_WAL else "db"
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self._disk.take(len(data))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.syncs[self._kind] += 1
        super().xSync(flags)
