"""A look at what executors use, for what the kernel does not limit: disk, and memory without groups.

Looking is cheap as long as nobody is near a limit: one walk over /proc for all executors, one call
for the file system. Only then each process, or each file, is counted.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from flame.executor_manager.guardian_process import family
from flame.model.attempts import Cause
from flame.model.resources import format_bytes

_PAGE = os.sysconf("SC_PAGE_SIZE")


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


def disk_overruns(
    executors: Iterable[Watched], limit: int | None, reserve: int, directory: str
) -> list[Overrun]:
    """Return those that use more than ``limit``; if the disk is full, the one that uses most.

    It is full when less than ``reserve`` is free on the file system of ``directory``.
    """
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if limit is None and free >= reserve:
        return []
    sizes = [(sum(map(_size, executor.paths)), executor) for executor in executors]
    found = [
        Overrun(
            executor.pid,
            Cause.OUT_OF_DISK,
            f"used {format_bytes(size)} of disk; at most {format_bytes(limit)} are allowed",
        )
        for size, executor in sizes
        if limit is not None and size > limit
    ]
    if free < reserve and not found and sizes:
        size, executor = max(sizes, key=lambda pair: pair[0])
        # Somebody else has filled the disk if it holds less than what is to stay free.
        if size > reserve:
            sentence = (
                f"used {format_bytes(size)} of disk, more than any other on its node, "
                f"of which {format_bytes(free)} are left"
            )
            found.append(Overrun(executor.pid, Cause.OUT_OF_DISK, sentence))
    return found


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
