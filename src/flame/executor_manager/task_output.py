"""What each task writes to this process's standard streams, found out without a cost to those that do not.

The streams are files (``workplace``), appended to by the service, by libraries below Python and by the
programs that it starts; so how far the files have grown during a task is what the task wrote. To ask
costs a microsecond per task, hence it is only asked

* after a task that took longer than 0.1 ms: no program starts and ends in less;
* after each of a session's first tasks: many of a process's first session, and of one that follows
  a session which wrote; a few of one that follows a quiet session;
* after every task of a session once one of its tasks has written anything. ``sys.stdout`` and
  ``sys.stderr`` say so themselves, before the first byte; the rest is seen as above.

What is written between two tasks, by a thread for example, counts as the next one's. Where the next one's log
begins is in the cell, so that the executor manager can read it while it runs, and after its executor has died.
"""

import io
import logging
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from flame.executor_manager.cell import STDERR, STDOUT
from flame.executor_manager.output_files import excerpt_between
from flame.model.logs import Excerpt

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = logging.getLogger(__name__)

SLOW = 100_000  # ns
FIRST_TASKS = 64
#: After a quiet session of the same service. With sessions of a hundred tasks to ask 64 of them each
#: time costs four times what the tasks do, and to ask four a third of it.
FIRST_AGAIN = 1
ALWAYS = -1

#: A task's stdout and stderr.
Streams = tuple[bytes, bytes]


class TaskOutput:
    """Tells tasks' output apart. All but ``of`` is for the main thread.

    Attributes:
        after: Ask after tasks that took longer than this many ns.
        of: What tasks wrote; whoever makes frames of results takes it from here.
    """

    def __init__(self, streams: tuple[int, int] = (1, 2)) -> None:
        self.after = SLOW
        self.of: dict[int, Streams] = {}
        self._watched = [_Watched(fd) for fd in streams if _is_file(fd)]
        self._words: memoryview | None = None
        self._quiet = 0  # tasks that were asked after and had written nothing; -1: one wrote
        if len(self._watched) < len(streams):
            self._watched.clear()  # somebody runs an executor by hand, at a terminal

    def tell(self, words: memoryview) -> None:
        """Say in these words of the cell, from now on, where the next task's log begins."""
        self._words = words

    def begin(self) -> None:
        """A session begins: what was written until now is no task's."""
        self.after = ALWAYS if self._watched else sys.maxsize
        _flush()
        missed = [watched.skip() for watched in self._watched]
        was_quiet = self._quiet >= 0 and not any(missed)
        self._quiet = min(self._quiet, FIRST_TASKS - FIRST_AGAIN) if was_quiet else 0
        self._mark()

    def end_task(self, task_id: int) -> None:
        """Keep what this task has written."""
        _flush()
        stdout, stderr = [watched.take() for watched in self._watched]
        if stdout or stderr:
            self._note()
            self.of[task_id] = stdout, stderr
            self._mark()
        elif self._quiet >= 0:
            self._quiet += 1
            if self._quiet >= FIRST_TASKS:
                self.after = SLOW

    def replace_streams(self) -> None:
        """Let Python's own streams say when something is written."""
        if not self._watched:
            return
        before = sys.stderr
        sys.stdout = _stream(1, sys.stdout, self._note)
        sys.stderr = _stream(2, sys.stderr, self._note)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stderr)

    def _mark(self) -> None:
        if self._words is not None and self._watched:
            self._words[STDOUT], self._words[STDERR] = [watched.end for watched in self._watched]

    def _note(self) -> None:
        self._quiet = -1
        self.after = ALWAYS


class _Watched:
    """A file that grows."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.end = os.fstat(fd).st_size

    def skip(self) -> bool:
        """Pass over what has been added since the last time; return whether anything was."""
        start, self.end = self.end, self._size()
        return start != self.end

    def take(self) -> bytes:
        """Return an excerpt of what has been added since the last time."""
        start, end = self.end, self._size()
        if start == end:
            return b""
        self.end = end
        if end < start:
            start = 0  # it was rotated, and is written anew
        try:
            # Our own descriptor is for writing; a service may hold it, and even replace it.
            file = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.warning("output-unreadable fd=%d error=%s", self._fd, error)
            return b""
        try:
            return excerpt_between(file, start, end)
        finally:
            os.close(file)

    def _size(self) -> int:
        try:
            return os.fstat(self._fd).st_size
        except OSError:  # a service has closed it
            return self.end


class _Noting(io.BufferedWriter):
    """A buffer that says when it is written to."""

    def __init__(self, raw: io.FileIO, note: Callable[[], None]) -> None:
        super().__init__(raw)
        self._note = note

    def write(self, data: "ReadableBuffer") -> int:
        self._note()
        return super().write(data)


def _stream(fd: int, old: TextIO, note: Callable[[], None]) -> TextIO:
    old.flush()
    return io.TextIOWrapper(
        _Noting(io.FileIO(fd, "w", closefd=False), note),
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=True,
        write_through=True,
    )


class PassedOn:
    """What a task's own process writes to a pipe, written to our stderr, where it counts as the task's.

    The beginning is passed on as it comes, so that it can be read while the task runs; of what goes beyond
    that only the end, and then.
    """

    def __init__(self) -> None:
        self._kept = Excerpt()

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        passed = len(self._kept.head)
        self._kept.add(data)
        self._write(bytes(self._kept.head[passed:]))

    def end(self) -> None:
        """The process has ended."""
        self._write(bytes(self._kept)[len(self._kept.head) :])

    def _write(self, data: bytes) -> None:
        if data:
            sys.stderr.write(data.decode("utf-8", "replace"))
            sys.stderr.flush()


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):  # a service may do as it likes with them
        sys.stdout.flush()
        sys.stderr.flush()


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False
