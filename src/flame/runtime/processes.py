"""Processes that do not outlive their owner.

A pidfd becomes readable when its process ends, whatever ended it, and cannot be fooled by a pid
that was given out again; so a loop watches a parent like any other file.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Adopt descendants whose parents die, instead of leaving them to init.

    Raises:
        OSError: The kernel refused.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def be_killed_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends.

    Raises:
        OSError: The kernel refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class ParentWatch:
    """Calls back, once, when the process that started this one has ended.

    Create it on the running loop, early: a parent that ends before is noticed too, as long as
    ``parent`` (its pid) is given, and was told by the parent itself: what os.getppid() says at the
    start of the program is somebody else if the parent ended before that.
    """

    def __init__(self, gone: Callable[[], None], parent: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._gone = gone
        pid = os.getppid() if parent is None else parent
        self._fd: int | None = None
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(gone)
            return
        # The pid may have ended and been given out again before the pidfd was open; then we
        # have been adopted, and getppid() says so.
        if os.getppid() != pid:
            self.close()
            self._loop.call_soon(gone)
            return
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        self.close()
        self._gone()

    def close(self) -> None:
        """Stop watching."""
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, and ``signal 99`` where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
