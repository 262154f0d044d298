"""A session manager on a slow disk: ``python -m tests.chaos.slow_disk ...``.

Every write of SQLite's waits a little, every sync longer, and one in fifty much longer.
"""

import random
import time
from typing import Any

import apsw

from flame.session_manager.main import main

BASE = apsw.vfs_names()[0]  # the system's, which is the default until now
WRITE, SYNC, STALL = 0.001, 0.02, 0.5  # seconds


class SlowDisk(apsw.VFS):
    """The operating system's files, later."""

    def __init__(self) -> None:
        super().__init__("slow-disk", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _SlowFile(name, flags)


class _SlowFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int]) -> None:
        super().__init__(BASE, name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        time.sleep(WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        time.sleep(STALL if random.random() < 0.02 else SYNC)
        super().xSync(flags)


if __name__ == "__main__":
    slow = SlowDisk()
    main(prog_name="flame-session-manager")
