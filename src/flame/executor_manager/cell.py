"""The cell: 64 bytes by which a dead executor still says what it was doing.

A memory-mapped file outlives the process that wrote it, however that process ended, so the executor
manager reads from it which task a death or a timeout belongs to.

    offset 0   8       16       24          32    40      48      56
           head  task id  attempt  started at  tail  stdout  stderr  service    unsigned 64-bit, native order

The writer raises head, writes the fields, then sets tail to head: where the two differ, the write
was cut short. It comes before the call of the service, so then no task had started. Task id 0 says
that nothing runs. Each store is one aligned word, which no death can tear.

stdout and stderr say where in the files of its output the log of the task that runs begins. They are
written only when the last task has moved them.

service is how a service that was a program of its own ended, and its executor with it: the number of the
process (32 bits) and, as a signed number, its code; 0: none has.
"""

import mmap
import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SIZE = 64
HEAD, TASK, ATTEMPT, STARTED, TAIL, STDOUT, STDERR, SERVICE = range(8)
_LOW = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Running:
    """A task that an executor is, or was, busy with.

    Attributes:
        started: time.monotonic_ns() when the service was called.
        stdout, stderr: Where its log begins in the files of the executor's output.
    """

    task_id: int
    attempt: int
    started: int
    stdout: int = 0
    stderr: int = 0


@dataclass(frozen=True, slots=True)
class ServiceEnd:
    """How a service that was a program of its own ended, without being asked to.

    Attributes:
        pid: Of the process that its executor started; in a sandbox that is bwrap.
        code: What it exited with; below zero: the signal that ended it, as subprocess says it.
    """

    pid: int
    code: int


class Cell:
    """The writer's side.

    Attributes:
        words: The cell as 64-bit words. The executor's main loop writes them itself, in the order
            above; a method call per task would cost more than the five stores.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("Q")

    def write(self, running: Running | None) -> None:
        """Say what runs now; None for nothing."""
        words = self.words
        sequence = words[HEAD] + 1
        words[HEAD] = sequence
        words[TASK] = 0 if running is None else running.task_id
        words[ATTEMPT] = 0 if running is None else running.attempt
        words[STARTED] = 0 if running is None else running.started
        words[TAIL] = sequence

    def read(self) -> Running | None:
        """Return what runs now; None for nothing, or while a write is under way."""
        return _decode(self.words)

    def end_service(self, end: ServiceEnd) -> None:
        """Say that the service is gone, and how; what runs stays as it is."""
        self.words[SERVICE] = end.pid << 32 | end.code & _LOW

    def close(self) -> None:
        """Unmap the file."""
        self.words.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def read_cell(path: str) -> Running | None:
    """Return what the writer of this file was doing when it last wrote; None for nothing."""
    words = _words_of(path)
    return _decode(words) if words is not None else None


def read_service_end(path: str) -> ServiceEnd | None:
    """Return how the service of the writer of this file ended; None if it did not."""
    words = _words_of(path)
    if words is None or words[SERVICE] == 0:
        return None
    pid, code = divmod(words[SERVICE], 2**32)
    return ServiceEnd(pid, code if code < 2**31 else code - 2**32)


def _words_of(path: str) -> memoryview | None:
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE)
    except FileNotFoundError:
        return None
    return memoryview(data).cast("Q") if len(data) == SIZE else None


def _decode(words: memoryview) -> Running | None:
    head = words[HEAD]
    running = Running(words[TASK], words[ATTEMPT], words[STARTED], words[STDOUT], words[STDERR])
    if words[TAIL] != head or running.task_id == 0:
        return None
    return running
