r"""An interpreter that stays, and forks for each script: a fork costs less than half of starting a program.

    ours ── a script, its arguments, its variables ──▶ sh, or python
         ◀── "0\\n": its exit code ───────────────────
         ◀══ stdout and stderr, each a pipe of its ════

The interpreter reads what to do from a socket, which is its stdin, and answers there; the fork that runs a
script has another stdin, so that it can do neither. What a script sets, changes into or traps ends with
its fork.

When a script leaves processes behind they are ended before the next one starts; when it ends the
interpreter itself (``kill 0``), the script has failed and the next one gets a new interpreter.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flame.executor_manager.shims import ServiceFailure
from flame.executor_manager.shims.notes import variables_of
from flame.executor_manager.shims.process import CANCEL_LOOK, CHUNK, Ended
from flame.executor_manager.shims.program import Leftovers
from flame.executor_manager.task_output import PassedOn
from flame.model.service import TaskContext

#: A longer script is better off in a file.
MAX_SCRIPT = 64 * 1024  # characters


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is kept of a script's output.

    Attributes:
        stdout: More bytes than these fail the task.
        stderr: Of more, the beginning is dropped.
    """

    stdout: int
    stderr: int


class WarmInterpreter(ABC):
    """One of them, for one script at a time.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        bounds: Bounds,
    ) -> None:
        self._bounds = bounds
        self._leftovers = Leftovers()
        self._control, theirs = socket.socketpair()
        self._stdout, stdout = os.pipe()
        self._stderr, stderr = os.pipe()
        self._pipes = [os.fdopen(fd, "rb", 0) for fd in (self._stdout, self._stderr)]
        try:
            self._process = subprocess.Popen(
                arguments,
                executable=program,
                env=dict(environment),
                stdin=theirs.fileno(),
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )
        except OSError:
            self._close_ours()
            raise
        finally:
            theirs.close()
            os.close(stdout)
            os.close(stderr)
        Leftovers.started.add(self._process.pid)
        self._poll = select.poll()
        for fd in (self._control.fileno(), self._stdout, self._stderr):
            self._poll.register(fd, select.POLLIN)
        os.set_blocking(self._stdout, False)
        os.set_blocking(self._stderr, False)
        # Orphans fall to the main thread of this process, which is a subreaper. Its number is the
        # process's own; what `threading` says of it is, after a fork, that of the parent.
        path = f"/proc/self/task/{os.getpid()}/children"
        kept = os.path.exists(path)  # some kernels keep no list
        self._children = open(path if kept else os.devnull, "rb", 0)  # noqa: SIM115
        self._pipes.append(self._children)
        self._ordinary = self._read_children()

    def run(
        self, script: str, arguments: Sequence[str], stdin: str | None, context: TaskContext
    ) -> Ended:
        """Run a script; ``stdin`` names the file that it reads from.

        Raises:
            ServiceFailure: It wrote too much or was cancelled. The interpreter is gone, as after
                :meth:`close`, and :attr:`alive` says so.
        """
        command = self.command_of(script, arguments, stdin or os.devnull, variables_of(context))
        try:
            code, stdout, stderr = self._converse(command, context)
        except BaseException:
            self.close()
            raise
        if code is not None:
            children = self._read_children()
            if not children or children != self._ordinary:
                self._leftovers.end()
        self._drain(stdout, stderr)
        if code is None:
            self.close()
            code = self._process.returncode
        self._log.end()
        return Ended(code, b"".join(stdout), bytes(stderr))

    @abstractmethod
    def command_of(
        self, script: str, arguments: Sequence[str], stdin: str, variables: Mapping[str, str]
    ) -> bytes:
        """Return what to tell the interpreter."""

    @property
    def alive(self) -> bool:
        """Whether it takes another script."""
        return self._process.returncode is None

    def close(self) -> None:
        """End it, and all that its scripts left behind."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        Leftovers.started.discard(self._process.pid)
        self._leftovers.end()
        self._close_ours()

    def _converse(
        self, command: bytes, context: TaskContext
    ) -> tuple[int | None, list[bytes], bytearray]:
        """Return the exit code, None for the interpreter's own end, and what was written until then."""
        stdout: list[bytes] = []
        stderr = bytearray()
        self._log = PassedOn()
        answer = b""
        control = self._control.fileno()
        try:
            self._control.sendall(command)
        except OSError:  # it ended after the last script, of something that one left behind
            return None, stdout, stderr
        while True:
            for fd, _ in self._poll.poll(CANCEL_LOOK * 1000):
                if fd == control:
                    data = self._receive()
                    if not data:
                        return None, stdout, stderr
                    answer += data
            self._drain(stdout, stderr)
            if answer.endswith(b"\n"):
                return int(answer), stdout, stderr
            if context.cancelled:
                raise ServiceFailure("the task was cancelled, and its process killed")

    def _receive(self) -> bytes:
        try:
            return self._control.recv(64)
        except ConnectionError:
            return b""

    def _drain(self, stdout: list[bytes], stderr: bytearray) -> None:
        """Take what is in the pipes; the interpreter holds their other ends, so there is no end of file."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stdout, CHUNK):
                stdout.append(data)
                if len(stdout) * CHUNK > self._bounds.stdout:  # a pipe gives less than a CHUNK
                    self._check(stdout)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stderr, CHUNK):
                self._log.add(data)
                stderr += data
                del stderr[: -self._bounds.stderr]

    def _check(self, stdout: list[bytes]) -> None:
        stdout[:] = [b"".join(stdout)]
        if len(stdout[0]) > self._bounds.stdout:
            raise ServiceFailure(
                f"the output has more than {self._bounds.stdout} bytes, which are allowed: write "
                "it to a file and print its name; the process was killed"
            )

    def _read_children(self) -> bytes:
        return os.pread(self._children.fileno(), 4096, 0)

    def _close_ours(self) -> None:
        self._control.close()
        for pipe in self._pipes:
            pipe.close()
