"""A directory that can be filled up: a small file system, where this user may mount one.

Where not, the session manager's own limit on the size of files takes its place: beyond it the kernel
answers EFBIG, which is a full disk to Flame as well.
"""

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

SIZE = 96 * 1024 * 1024
STEP = 256 * 1024


class SmallDisk:
    """The directory, and what fills it.

    Args:
        pid_of: Says who writes there, for the limit.

    Attributes:
        is_mounted: It is a file system of its own.
    """

    def __init__(self, directory: Path, pid_of: Callable[[], int]) -> None:
        self.directory = directory
        self._pid_of = pid_of
        directory.mkdir(parents=True, exist_ok=True)
        options = ("-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "flame-chaos")
        self.is_mounted = _run("mount", *options, str(directory))

    def fill(self) -> None:
        """Leave no space, until :meth:`free`."""
        if not self.is_mounted:
            self._limit(STEP)
            return
        with open(self.directory / "ballast", "ab", buffering=0) as file:
            for size in (STEP, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the space back."""
        if self.is_mounted:
            (self.directory / "ballast").unlink(missing_ok=True)
        else:
            self._limit(resource.RLIM_INFINITY)

    def read_only(self, is_so: bool) -> bool:
        """Let nobody write, or all again; whether that went: not while a file is open to write."""
        options = f"remount,{'ro' if is_so else 'rw'}"
        return self.is_mounted and _run("mount", "-o", options, str(self.directory))

    def close(self) -> None:
        """Unmount it. Nobody may have a file open there."""
        if self.is_mounted:
            self.is_mounted = not _run("umount", "--lazy", str(self.directory))

    def _limit(self, size: int) -> None:
        _, hard = resource.prlimit(self._pid_of(), resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid_of(), resource.RLIMIT_FSIZE, (size, hard))


def _run(*command: str) -> bool:
    if os.geteuid() != 0:
        return False
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
