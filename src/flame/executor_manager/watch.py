"""A look at what executors use, for what the kernel does not limit: disk, and memory without groups.

Looking is cheap as long as nobody is near a limit: one walk over /proc for all executors, one call
for the file system. Only then each process is counted; each file, where there is a limit for them.
"""

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from flame.executor_manager.guardian_process import family
from flame.model.attempts import Cause
from flame.model.resources import format_bytes

_PAGE = os.sysconf("SC_PAGE_SIZE")

LOOK = 1.0  # seconds between looks
GLANCE = 0.02  # seconds between glances at the disk, at least
FASTEST = 1024**3  # bytes a second that are written at most, about: the page cache takes so many
RESPITE = 9  # times as long as a look took no other comes, but for the next second's


@dataclass(frozen=True, slots=True)
class Watched:
    """An executor to look at.

    Attributes:
        memory_bytes: What it may use; 0: nobody said.
        paths: Its directories, and the files of its output.
    """

    pid: int
    memory_bytes: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overrun:
    """Why an executor has to end."""

    pid: int
    cause: Cause
    sentence: str


def memory_overruns(executors: Iterable[Watched]) -> list[Overrun]:
    """Return those whose processes together use more than they may."""
    found = []
    for executor in executors:
        limit = executor.memory_bytes
        if not limit:
            continue
        pids = [executor.pid, *(pid for pid, runs in family(executor.pid) if runs)]
        # Pages that processes share count for each of them: no more than a reason to count well.
        if sum(map(_resident, pids)) <= limit:
            continue
        used = sum(map(_proportional, pids))
        if used > limit:
            found.append(
                Overrun(
                    executor.pid,
                    Cause.OUT_OF_MEMORY,
                    f"used {format_bytes(used)} of memory; its limit is {format_bytes(limit)}, "
                    "what its session asks for",
                )
            )
    return found


class DiskWatch:
    """Looks at what executors take of the disk, as often as the fastest writer makes it necessary.

    A look counts each file, so it comes once a second. Between two looks a glance at the file system, one
    call, says what all that write there have written since; a look comes at once when that is so much
    that somebody can be over the limit, or the disk full.

    Args:
        directory: Where executors work.
        limit: Bytes that one may take; None: all but the reserve.
        reserve: Bytes that they shall leave of the file system; None: see :func:`file_system_reserve`.
    """

    def __init__(self, directory: str, limit: int | None, reserve: int | None = None) -> None:
        self._directory = directory
        self._limit = limit
        self._reserve = reserve
        #: What was free at the last look, and how much of that could be written without harm.
        self._free, self._room = 0, 0.0
        self._earliest = self._latest = 0.0  # when to look again

    def pause(self) -> float:
        """Return for how many seconds nothing can go wrong; 0: look now."""
        now = time.monotonic()
        if now >= self._latest:
            return 0.0
        room = self._room - (self._free - _free_bytes(self._directory))
        if room < 0:
            return max(0.0, self._earliest - now)
        return min(self._latest - now, max(GLANCE, room / FASTEST))

    def overruns(self, executors: Iterable[Watched]) -> list[Overrun]:
        """Return those that use more than the limit; if the disk is full, the one that uses most."""
        began = time.monotonic()
        free, reserve = _free_bytes(self._directory), self._reserve
        if reserve is None:
            reserve = file_system_reserve(self._directory)
        full = free < reserve
        sizes = []
        if self._limit is not None or full:
            sizes = [(sum(map(_size, executor.paths)), executor) for executor in executors]
        found, room = [], float(free - reserve)
        if self._limit is not None:
            within = [size for size, _ in sizes if size <= self._limit]
            room = min(room, self._limit - max(within, default=0))
            found = [
                _over_limit(executor, size, self._limit)
                for size, executor in sizes
                if size > self._limit
            ]
        if full and not found and sizes:
            size, executor = max(sizes, key=lambda pair: pair[0])
            # Somebody else has filled the disk if it holds less than what is to stay free.
            if size > reserve:
                found = [_over_all(executor, size, free)]
        ended = time.monotonic()
        # Once it is full, whoever is ended gets a second to make room before the next one is.
        self._free, self._room = free, math.inf if full else room
        self._latest = ended + LOOK
        self._earliest = min(self._latest, ended + max(GLANCE, (ended - began) * RESPITE))
        return found


def file_system_reserve(path: str) -> int:
    """Return how many bytes of a file system executors shall leave: a fiftieth, at most 1 GiB."""
    status = os.statvfs(path)
    return int(min(status.f_blocks * status.f_frsize // 50, 1024**3))


def _free_bytes(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _over_limit(executor: Watched, size: int, limit: int) -> Overrun:
    sentence = f"used {format_bytes(size)} of disk; at most {format_bytes(limit)} are allowed"
    return Overrun(executor.pid, Cause.OUT_OF_DISK, sentence)


def _over_all(executor: Watched, size: int, free: int) -> Overrun:
    sentence = (
        f"used {format_bytes(size)} of disk, more than any other on its node, "
        f"of which {format_bytes(free)} are left"
    )
    return Overrun(executor.pid, Cause.OUT_OF_DISK, sentence)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0  # it has just ended


def _proportional(pid: int) -> int:
    """Return what a process has to itself and its part of what it shares."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _size(path: str) -> int:
    """Return what a file, or all that is in a directory, takes on its disk."""
    try:
        if not os.path.isdir(path):
            return os.lstat(path).st_blocks * 512
        total = 0
        for directory, _, files in os.walk(path):
            for name in files:
                try:
                    total += os.lstat(os.path.join(directory, name)).st_blocks * 512
                except OSError:
                    continue
        return total
    except OSError:
        return 0
