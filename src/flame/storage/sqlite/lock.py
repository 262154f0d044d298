"""One session manager to a database file."""

import fcntl
import os
from pathlib import Path

from flame.model.errors import WrongState


class FileLock:
    """An exclusive lock on ``<database>.lock``, held until closed or until the process dies.

    The lock is the kernel's (``flock``), so a killed manager leaves none behind; the file itself
    stays, because removing it would let two managers lock two different files of that name. It
    holds the process id of whoever locked it last.

    Raises:
        WrongState: Another holder, in this process or another, has it.
    """

    def __init__(self, database: Path) -> None:
        path = Path(f"{database}.lock")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise WrongState(
                f"{database} is in use by process {holder}; a database belongs to one session"
                " manager: stop that one, or name another file (a second `flame up` needs its own --directory)"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Let the next manager have the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
