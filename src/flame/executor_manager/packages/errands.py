"""Processes that the guardian runs for the executor manager itself, one errand each.

run(...) ──spawn──▶ running ──▶ exited: the code
                       └─ cancelled: killed with all it started
"""

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from flame.executor_manager.guardian import Guardian

HEAD = 8 * 1024  # bytes that are kept of the beginning of what an errand prints
TAIL = 24 * 1024  # and of the end


class Transcript:
    """What was printed: the beginning and the end, however much it was."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out = 0

    def add(self, data: bytes) -> None:
        """Take what was printed next."""
        room = HEAD - len(self._head)
        self._head += data[:room]
        data = data[room:] if room < len(data) else b""
        if data:
            self._tail.append(data)
            self._tail_bytes += len(data)
        while self._tail_bytes > TAIL and len(self._tail) > 1:
            gone = len(self._tail.popleft())
            self._tail_bytes -= gone
            self._left_out += gone

    def end(self, size: int) -> str:
        """Return about the last ``size`` bytes."""
        return (bytes(self._head) + b"".join(self._tail))[-size:].decode("utf-8", "replace")

    def __str__(self) -> str:
        between = f"\n... {self._left_out} bytes left out ...\n" if self._left_out else ""
        tail = b"".join(self._tail).decode("utf-8", "replace")
        return self._head.decode("utf-8", "replace") + between + tail


class Errands:
    """Runs them. The owner of the guardian passes on every end that is not its own."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._running: dict[int, asyncio.Future[int | None]] = {}

    def ended(self, pid: int, status: int | None) -> bool:
        """Take note of an end; returns whether it was an errand's."""
        done = self._running.pop(pid, None)
        if done is None:
            return False
        if not done.done():
            done.set_result(status)
        return True

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        transcript: Transcript,
        confinement: Mapping[str, Any],
    ) -> int:
        """Run a command and return its exit code; a signal's number below zero.

        When cancelled, it is killed with all it started. ``confinement``: see ``Guardian.spawn``.

        Raises:
            OSError, GuardianLost: It could not be started.
        """
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)
        loop.add_reader(reading, self._read, loop, reading, transcript)
        try:
            # Not to be interrupted: a process whose pid nobody knows could not be ended.
            start = asyncio.ensure_future(
                self._start(command, environment, directory, writing, confinement)
            )
            try:
                pid, done = await asyncio.shield(start)
            except asyncio.CancelledError:
                start.add_done_callback(self._end_started)
                raise
            try:
                status = await asyncio.shield(done)
            except BaseException:
                self._guardian.kill(pid)
                await asyncio.shield(done)
                raise
        finally:
            self._read(loop, reading, transcript)
            loop.remove_reader(reading)
            os.close(reading)
        return -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)

    async def _start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        output: int,
        confinement: Mapping[str, Any],
    ) -> tuple[int, "asyncio.Future[int | None]"]:
        control, theirs = socket.socketpair()  # the guardian gives every process one
        try:
            fds = [theirs.fileno(), output, output]
            pid = await self._guardian.spawn(
                list(command), dict(environment), directory, fds, confinement
            )
        finally:
            control.close()
            theirs.close()
            os.close(output)
        done = self._running[pid] = asyncio.get_running_loop().create_future()
        return pid, done

    def _end_started(self, start: "asyncio.Future[tuple[int, asyncio.Future[int | None]]]") -> None:
        if not start.cancelled() and start.exception() is None:
            self._guardian.kill(start.result()[0])

    @staticmethod
    def _read(loop: asyncio.AbstractEventLoop, reading: int, transcript: Transcript) -> None:
        for _ in range(16):  # then others get their turn
            try:
                data = os.read(reading, 64 * 1024)
            except BlockingIOError:
                return
            if not data:
                loop.remove_reader(reading)
                return
            transcript.add(data)
