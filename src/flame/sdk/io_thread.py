"""The one private thread that does all network I/O of this process's clients.

It runs an event loop of its own, whichever face a client has: synchronous callers hand it
coroutines and wait, asyncio callers get a future of their loop. It starts with the first client and
ends with the process.

A fork copies the clients but not this thread, and gRPC cannot be started again in the copy. So a
child process that inherited clients is told so (see :func:`check_not_forked`) instead of hanging.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from flame.model.errors import FlameError, WrongState

T = TypeVar("T")

_lock = threading.Lock()
_running: "IoThread | None" = None
_forked_from: int | None = None


class IoThread:
    """An event loop in a daemon thread. Use :func:`io_thread` to get the process's one."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="flame-io", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.get_ident() == self._thread.ident

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for what it returns or raises.

        Raises:
            WrongState: Called in that very thread: from the callback of a future.
        """
        if self.is_current:
            work.close()
            raise WrongState(
                "a Future's callback runs in the thread that does the network I/O and must not "
                "wait for it; hand the work to another thread"
            )
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and await it here, on another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def stop(self) -> None:
        """End the thread; at the end of the process only."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=2.0)


def io_thread() -> IoThread:
    """Return this process's I/O thread; start it if there is none."""
    global _running
    check_not_forked()
    with _lock:
        if _running is None:
            _running = IoThread()
        return _running


def stop_io_thread() -> None:
    """End the thread, if it was ever started."""
    global _running
    with _lock:
        if _running is not None:
            _running.stop()
            _running = None


def check_not_forked() -> None:
    """Refuse to use clients in a process that inherited them.

    Raises:
        FlameError: This process was forked from one that was connected.
    """
    if _forked_from is not None:
        raise FlameError(
            f"this process {os.getpid()} was forked from {_forked_from}, which was connected to "
            "Flame; a connection does not survive a fork. Connect in the child only, before the "
            "parent does, or start processes with multiprocessing's 'spawn' method"
        )


def _after_fork_in_child() -> None:
    global _running, _forked_from, _lock
    _lock = threading.Lock()  # the parent's may be held by a thread that is not here
    if _running is not None:
        _forked_from = os.getppid()
        _running = None


os.register_at_fork(after_in_child=_after_fork_in_child)
