"""What sees to a process whose event loop does not turn any more.

A loop that hangs (a livelock, an endless callback) cannot notice that it does; nor that its parent
has ended, nor that it is told to stop. A thread sees the first two, and a signal handler the last.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flame.runtime.processes import signal_name

STDERR = 2
TICK = 0.5  # seconds
#: Seconds that a loop may hang, unless something else is said.
STUCK_AFTER = 60.0
#: Seconds that a loop may hang when the process's parent has ended.
ORPHANED = 5.0
#: Seconds within which the loop must have heard of a signal when the next one comes.
DEAF = 1.0


class Watchdog:
    """Ends this process, with the stacks of all threads in the log, when its running loop hangs.

    Time in which the whole process stood still (SIGSTOP, a suspended machine) does not count, nor
    does a debugger's.

    Args:
        limit: Seconds without a turn of the loop; 0: for ever.
        parent: If this process has ended, ``ORPHANED`` is the limit.
    """

    def __init__(self, limit: float, parent: int | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit or float("inf")
        self._parent = parent
        self._turned = True
        self._silent = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def _turn(self) -> None:
        self._turned = True

    def _run(self) -> None:
        while not self._closed.is_set():
            if self._turned:
                self._turned, self._silent = False, 0.0
                try:
                    self._loop.call_soon_threadsafe(self._turn)
                except RuntimeError:  # it is closed
                    return
            self._closed.wait(TICK)
            self._silent += TICK  # not what the clock says: we may have stood still ourselves
            limit = self._limit
            if self._silent > ORPHANED and self._parent not in (None, os.getppid()):
                limit = ORPHANED
            if self._silent > limit and not self._turned and not _is_debugged():
                self._end()

    def _end(self) -> None:
        # Not by the logging module alone: the loop may hang within it.
        text = f"loop-stuck seconds={self._silent:g} pid={os.getpid()}: ending; the stacks:\n"
        os.write(STDERR, text.encode())
        faulthandler.dump_traceback(STDERR, all_threads=True)
        os._exit(1)


def _is_debugged() -> bool:
    if sys.gettrace() is not None or "pydevd" in sys.modules:
        return True
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return "\nTracerPid:\t0\n" not in status


def on_stop_signals(told: Callable[[signal.Signals], None]) -> None:
    """Have the running loop told of each SIGTERM and SIGINT.

    A signal that comes when the loop has not heard of the one before within ``DEAF`` seconds ends
    the process at once. Python's own handlers run between any two instructions, the loop's do not.
    """
    loop = asyncio.get_running_loop()
    waiting: list[float] = []  # when each signal came that the loop has not heard of

    def tell(number: signal.Signals) -> None:
        waiting.clear()
        told(number)

    def handle(number: int, _frame: object) -> None:
        now = time.monotonic()
        if waiting and now - waiting[0] > DEAF:
            os.write(
                STDERR, f"stopped-at-once signal={signal_name(number)}: the loop hangs\n".encode()
            )
            os._exit(128 + number)
        waiting.append(now)
        loop.call_soon_threadsafe(tell, signal.Signals(number))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
