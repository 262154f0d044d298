"""An executor process: ``python -m flame.executor_manager.executor``, started by its manager only.

    main thread: waits for its assignment, then runs the service (``host``)
    I/O thread:  the executor channel and the manager's orders (``channel``)

It starts with everything imported and no identity, so that an executor manager can keep a few in
reserve; the assignment makes it an executor within milliseconds.
"""

import asyncio
import atexit
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import uvloop

import flame.executor_manager.shims.python  # noqa: F401 - most bindings need it
from flame.executor_manager.assignment import ASSIGNED, READY, Assignment, Order, Orders, Stop
from flame.executor_manager.cell import Cell, ServiceEnd
from flame.executor_manager.channel import ExecutorChannel
from flame.executor_manager.guardian_process import CONTROL_FD
from flame.executor_manager.hand import Hand
from flame.executor_manager.host import Host
from flame.executor_manager.reports import SERVICE_DIED
from flame.runtime.logs import log_to_stderr
from flame.runtime.tasks import Tasks

log = logging.getLogger(__name__)

#: A thread that wants the interpreter gets it after at most this many seconds of another's Python
#: code. Python's 5 ms would delay every batch of results by up to that while a service computes.
SWITCH_INTERVAL = 0.001

_PR_SET_NAME = 15

ORDERLY = 10.0  # seconds to get results stored when the process ends on purpose
ABRUPT = 1.0  # the same when the service ended it
LINGER = 5.0  # seconds that threads of the user's and exit handlers may hold up the end


class Executor:
    """What the two threads have in common, and the end of the process."""

    def __init__(self, control: socket.socket, assignment: Assignment, orders: Orders) -> None:
        self._control = control
        self._assignment = assignment
        self._orders = orders
        self._hand = Hand()
        self._cell = Cell(assignment.cell)
        self._started = threading.Event()
        self._ending = threading.Lock()
        self._unwanted = False
        self._code = 0
        # Before any handler of the user's, so that it is called after all of them.
        atexit.register(lambda: _exit_now(self._code))
        self._loop: asyncio.AbstractEventLoop
        self._channel: ExecutorChannel

    def run(self) -> None:
        """Serve until told to end; does not return."""
        threading.Thread(target=self._io_thread, name="flame-io", daemon=True).start()
        self._started.wait()
        self._hand.output.replace_streams()
        code, patience = 0, ORDERLY
        try:
            Host(self._hand, self._cell, self._assignment, self._channel, self.service_died).run()
        except SystemExit as error:
            code, patience = _exit_code(error), ABRUPT
            log.error("service-exited-process code=%s running=%s", code, self._cell.read())
        self._end(code, patience)

    def service_died(self, reason: str, end: ServiceEnd | None = None) -> None:
        """The service was a process of its own and is gone: get results out, then end."""
        if end is not None:
            self._cell.end_service(end)
        log.error("%s", reason)
        self._flush(ABRUPT)
        _exit_now(SERVICE_DIED)

    def _end(self, code: int, patience: float) -> None:
        self._flush(0.0 if self._unwanted else patience)
        # Exit handlers and threads of the user's get their turn, but not for ever. The interpreter is
        # not torn down after them: the I/O thread still runs, and could crash in the ruins.
        self._code = code
        _end_soon(code)
        sys.exit(code)

    def _flush(self, patience: float) -> None:
        with self._ending:
            work = self._channel.finish(patience)
            try:
                asyncio.run_coroutine_threadsafe(work, self._loop).result(patience + 1.0)
            except TimeoutError:
                log.warning("results-unstored patience=%s", patience)

    # --- I/O thread

    def _io_thread(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._io())
        except BaseException:
            log.exception("io-thread-failed")
            _exit_now(1)

    async def _io(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = ExecutorChannel(self._assignment, self._hand, self._cell, self._on_refused)
        self._started.set()
        failed: asyncio.Future[None] = self._loop.create_future()

        def fail(error: BaseException) -> None:
            if not failed.done():
                failed.set_exception(error)

        async with Tasks("executor", fail) as tasks:
            tasks.start(self._channel.run(), "channel")
            tasks.start(self._follow_orders(), "orders")
            await failed

    async def _follow_orders(self) -> None:
        """Obey the executor manager; its end of the socket closes when it dies."""
        self._control.setblocking(False)
        data = b""  # a Stop may have come together with the assignment
        while True:
            for order in self._orders.feed(data):
                if isinstance(order, Stop):
                    self._hand.end()
            try:
                data = await self._loop.sock_recv(self._control, 64 * 1024)
            except OSError:
                data = b""
            if not data:
                _exit_now(0)  # no owner, no reason to be

    def _on_refused(self, reason: str) -> None:
        log.warning("ending executor=%s reason=%r", self._assignment.executor, reason)
        self._unwanted = True
        self._hand.end()
        # The task that runs may take for ever, and nobody wants its result.
        _end_soon(0)


def _end_soon(code: int) -> None:
    try:
        threading.Thread(target=_linger, args=(code,), name="flame-end", daemon=True).start()
    except RuntimeError:  # the service has used up the processes and threads that it may have
        _exit_now(code)


def _linger(code: int) -> None:
    time.sleep(LINGER)
    _exit_now(code)


def _exit_now(code: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _exit_code(error: SystemExit) -> int:
    """Return what the interpreter would have exited with, and say what it would have said."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _no_interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C is for the executor manager. A handler, since programs we start inherit SIG_IGN."""


def _await_assignment(control: socket.socket, orders: Orders) -> Assignment:
    control.sendall(READY)
    while True:
        data = control.recv(64 * 1024)
        if not data:
            _exit_now(0)
        order: Order
        for order in orders.feed(data):
            if isinstance(order, Stop):
                _exit_now(0)
            elif isinstance(order, Assignment):
                return order


def main() -> None:
    """Become the executor that the manager at the other end of fd 3 assigns."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"flame-executor", 0, 0, 0)
    log_to_stderr("warning")
    faulthandler.enable()  # a segfault leaves its stack in the captured stderr
    signal.signal(signal.SIGINT, _no_interrupt)
    sys.setswitchinterval(SWITCH_INTERVAL)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # it is a file, and should tell what happened
    gc.collect()
    gc.freeze()  # what is imported stays; no collection need look at it again
    gc.set_threshold(50_000, 20, 100)
    control = socket.socket(fileno=CONTROL_FD)
    control.set_inheritable(False)
    orders = Orders()
    assignment = _await_assignment(control, orders)
    os.chdir(assignment.directory)
    executor = Executor(control, assignment, orders)
    control.sendall(ASSIGNED)
    executor.run()


if __name__ == "__main__":
    main()
