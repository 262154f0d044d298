"""Where a local cluster keeps its token, its database and its logs."""

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path


class ClusterDirectory:
    """A given directory, or a private temporary one that is removed at the end.

    A temporary directory is locked while its owner lives, so that whoever comes later can tell
    which were left behind by a killed process, and remove those.
    """

    PREFIX = "flame-cluster-"

    def __init__(self, given: str | os.PathLike[str] | None) -> None:
        self._given = None if given is None else Path(given).expanduser().absolute()
        self._made: Path | None = None
        self._lock_fd = -1

    @property
    def path(self) -> Path:
        if self._given is not None:
            return self._given
        if self._made is None:
            self._made = Path(tempfile.mkdtemp(prefix=self.PREFIX))
        return self._made

    def take(self) -> None:
        """Make it, and remove those of owners that were killed."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._given is None:
            self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self._remove_abandoned()

    def leave(self) -> None:
        """Remove a temporary one. Safe to call twice."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _remove_abandoned(self) -> None:
        for path in self.path.parent.glob(self.PREFIX + "*"):
            try:
                if path == self.path or path.stat().st_uid != os.getuid():
                    continue
                fd = os.open(path / "lock", os.O_RDWR)
            except OSError:
                continue  # gone, or just being made: not ours to judge
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            except OSError:
                pass  # its owner lives
            finally:
                os.close(fd)


def make_token(path: Path) -> None:
    """Write a new token to a file that only this user can read, unless there is one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with open(fd, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
