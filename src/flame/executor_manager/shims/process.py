"""One process for one task: input on its stdin, output from its stdout, its code the outcome.

Whatever the process does, the executor gets on: what it writes is taken up to a limit and no
further, it is killed with its group when its time is over or nobody wants its result, and what it
forked and left behind goes with it, even if that still holds its stdout.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flame.executor_manager.shims import ServiceFailure, ShimRequest
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.program import Leftovers, Memory, exit_sentence
from flame.executor_manager.task_output import PassedOn
from flame.model.service import TaskContext
from flame.runtime.processes import signal_name

CHUNK = 256 * 1024
STDERR_TAIL = 4096  # bytes of what a task wrote to stderr; of more the beginning is dropped
CANCEL_LOOK = 0.05  # seconds between two looks whether the task is still wanted


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may take.

    Attributes:
        output: Bytes on stdout.
        seconds: None: as long as it likes.
        memory_events: Of the executor's assignment.
    """

    output: int
    seconds: float | None = None
    memory_events: str = ""


def limits_of(request: ShimRequest, options: Options) -> Limits:
    """Return what the tasks of an application may take."""
    assignment = request.assignment
    seconds = options.seconds("task_timeout")
    return Limits(assignment.max_output_bytes, seconds, assignment.memory_events)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        code: As Popen answers: negative for a signal.
        out_of_memory: Whether the kernel took a process for its memory meanwhile.
    """

    code: int
    stdout: bytes
    stderr: bytes
    out_of_memory: bool = False

    def failure(self, what: str) -> ServiceFailure:
        """Return what to raise for a process that did not exit with code 0."""
        said = self.stderr.decode("utf-8", "replace").strip()
        return ServiceFailure(
            f"{what} {exit_sentence(self.code, self.out_of_memory)}"
            + (f"; its stderr: {said}" if said else ""),
            self.kind,
        )

    @property
    def kind(self) -> str:
        """Its exit code or the name of its signal, as ``retry_on`` has it."""
        return str(self.code) if self.code >= 0 else signal_name(-self.code)


def run(
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    directory: str,
    context: TaskContext,
    data: bytes | None,
    limits: Limits,
) -> Ended:
    """Run a process to its end, and to the end of all it started.

    Raises:
        ServiceFailure: It could not be started, wrote too much, took too long or was cancelled.
    """
    leftovers = Leftovers()
    memory = Memory(limits.memory_events)
    try:
        process = subprocess.Popen(
            arguments,
            executable=program,
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE if data else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except (OSError, ValueError) as error:
        raise ServiceFailure(f"command {arguments[0]!r} cannot be started: {error}") from error
    leftovers.started.add(process.pid)
    try:
        with _Conversation(process, data or b"", limits.output) as conversation:
            try:
                conversation.run(context, limits.seconds)
            finally:
                conversation.log.end()
    finally:
        # Not waited for until here, so that the group's number is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        leftovers.started.discard(process.pid)
        leftovers.end()
    return Ended(code, conversation.stdout(), bytes(conversation.stderr), memory.ran_out())


class _Conversation:
    """Feeds and drains a process without ever waiting for one of its pipes alone."""

    def __init__(self, process: subprocess.Popen[bytes], data: bytes, limit: int) -> None:
        self._process = process
        self._rest = memoryview(data)
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self.stderr = bytearray()
        self.log = PassedOn()
        self._selector = selectors.DefaultSelector()
        self._ended = os.pidfd_open(process.pid)
        self._selector.register(self._ended, selectors.EVENT_READ)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe.fileno(), selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)

    def __enter__(self) -> "_Conversation":
        return self

    def __exit__(self, *exc: object) -> None:
        self._selector.close()
        os.close(self._ended)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def stdout(self) -> bytes:
        return b"".join(self._chunks)

    def run(self, context: TaskContext, seconds: float | None) -> None:
        """Return when the process has ended and its pipes are empty."""
        deadline = None if seconds is None else time.monotonic() + seconds
        ended = False
        while not ended:
            ready = [key.fd for key, _ in self._selector.select(CANCEL_LOOK)]
            ended = self._ended in ready
            self._move(ready)
            if context.cancelled:
                raise ServiceFailure("the task was cancelled, and its process killed")
            if deadline is not None and time.monotonic() > deadline and not ended:
                raise ServiceFailure(
                    f"the task took longer than {seconds:g} s and was killed{self._said()}"
                )
        # What it wrote is in the pipes. A child that it left may hold them open: do not wait.
        while self._move([key.fd for key, _ in self._selector.select(0)]):
            pass

    def _move(self, ready: Sequence[int]) -> bool:
        """Move what can be moved now; returns whether something was read."""
        moved = False
        process = self._process
        for fd in ready:
            if process.stdin is not None and fd == process.stdin.fileno():
                self._feed(process.stdin.fileno())
            elif fd != self._ended:
                moved |= self._drain(fd)
        return moved

    def _feed(self, fd: int) -> None:
        try:
            self._rest = self._rest[os.write(fd, self._rest[:CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want the rest
            self._rest = self._rest[:0]
        if not self._rest and self._process.stdin is not None:
            self._selector.unregister(fd)
            self._process.stdin.close()
            self._process.stdin = None

    def _drain(self, fd: int) -> bool:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(fd)
            return False
        if self._process.stderr is not None and fd == self._process.stderr.fileno():
            self.log.add(data)
            self.stderr += data
            del self.stderr[:-STDERR_TAIL]
            return True
        self._size += len(data)
        if self._size > self._limit:
            raise ServiceFailure(
                f"the output has more than {self._limit} bytes, which are allowed: return a "
                "reference to large data instead of the data; the process was killed"
            )
        self._chunks.append(data)
        return True

    def _said(self) -> str:
        text = self.stderr.decode("utf-8", "replace").strip()
        return f"; its stderr: {text}" if text else ""
