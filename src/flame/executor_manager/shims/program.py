"""A service that is a program of its own: started, waited for, watched, ended with all it left.

    Program(...)  ──▶  wait_until(it listens)  ──▶  bound()  ──▶  close()

Until ``bound`` its death is the reason why a binding fails. From then on its death ends the executor
process: the cell says how it ended and in which task, and the executor manager reports that.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import ClassVar

from flame.executor_manager.cell import ServiceEnd
from flame.executor_manager.guardian_process import family
from flame.executor_manager.reports import oom_kills
from flame.executor_manager.sandbox import command_of_program
from flame.executor_manager.shims import ServiceUnusable, ShimRequest
from flame.executor_manager.shims.options import Options
from flame.model.specs import Sandbox
from flame.runtime.processes import signal_name
from flame.wire import GRPC_SETTINGS

START_TIMEOUT = 30.0  # seconds until a program must be ready
START_TIMEOUT_VARIABLE = "FLAME_SERVICE_START_TIMEOUT"
START_TIMEOUT_OPTION = "start_timeout"
ENTER_TIMEOUT = 100.0  # seconds; the session manager gives up a binding after 120
LEAVE_TIMEOUT = 10.0  # seconds that on_session_leave may take
STOP_GRACE = 2.0  # seconds between SIGTERM and SIGKILL

STDERR_TAIL = 2048  # bytes, of a program that did not start

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


class Program:
    """A running service program, in a process group of its own.

    Args:
        environment: What this kind of service finds in its environment besides what all do.
        stdin: As for Popen.
        stdout: As for Popen; None: the executor's, which its manager keeps in a file.

    Raises:
        ServiceUnusable: It cannot be started.
    """

    def __init__(
        self,
        request: ShimRequest,
        environment: Mapping[str, str] | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        self._request = request
        self._stderr = os.fstat(2).st_size
        self._bound = False
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._leftovers = Leftovers()
        self._memory = Memory(request.assignment.memory_events)
        command = Command(request, environment or {})
        try:
            self.process = subprocess.Popen(
                command.arguments,
                executable=command.program,
                cwd=command.directory,
                env=command.environment,
                stdin=stdin,
                stdout=stdout,
                process_group=0,
            )
        except OSError as error:
            raise ServiceUnusable(
                f"command {command.arguments[0]!r} cannot be started: {error}"
            ) from error
        self._sandboxed = command.sandboxed
        Leftovers.started.add(self.process.pid)
        self._watcher = threading.Thread(target=self._watch, name="service-watch", daemon=True)
        self._watcher.start()

    def wait_until(self, ready: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until the program is ready; ``what`` it does then, as in "listen on /a/path".

        Raises:
            ServiceUnusable: It ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout
        delay = 0.002
        while not ready():
            if self._ended.is_set():
                raise ServiceUnusable(
                    f"the service {self.ending()} before it could {what}{self.stderr()}"
                )
            if time.monotonic() > deadline:
                raise ServiceUnusable(
                    f"the service did not {what} within {timeout:g} s (shim option "
                    f"{START_TIMEOUT_OPTION} or {START_TIMEOUT_VARIABLE} sets the limit)"
                    f"{self.stderr()}"
                )
            time.sleep(delay)
            delay = min(delay * 1.5, 0.05)

    def bound(self) -> None:
        """The service has entered its session: from now on its death is the executor's.

        Raises:
            ServiceUnusable: It has ended already.
        """
        self._bound = True
        if self._ended.is_set():  # between its answer and the line above, unseen by the watcher
            raise ServiceUnusable(f"the service {self.ending()} after on_session_enter")

    def check_alive(self, within: float = 1.0) -> None:
        """The connection to the program broke: find out whether that was its end.

        Returns if the program lives. Otherwise the binding fails, or else the watcher ends this
        process, and this does not return.

        Raises:
            ServiceUnusable: It ended in on_session_enter, or is being closed.
        """
        if not self._ended.wait(within):
            return
        if not self._bound:
            raise ServiceUnusable(f"the service {self.ending()} in on_session_enter{self.stderr()}")
        self._closing.wait()
        raise ServiceUnusable(f"the service {self.ending()}")

    def ending(self) -> str:
        """Say how it ended."""
        return exit_sentence(self._end().code, self._memory.ran_out())

    def stderr(self) -> str:
        """Say what it wrote to its stderr, which is a file that it shares with the executor."""
        text = _stderr_since(self._stderr)
        return f"; its stderr: {text}" if text else ""

    def closing(self) -> None:
        """It is about to be told that the session is over, and may end by itself."""
        self._closing.set()

    def close(self) -> None:
        """SIGTERM to its group, SIGKILL after a grace period; then whatever it left behind."""
        self._closing.set()
        self._terminate()
        self._ended.wait(STOP_GRACE)
        self._signal(signal.SIGKILL)  # what else is in its group goes with it
        self._ended.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        Leftovers.started.discard(self.process.pid)
        self._leftovers.end()

    def _watch(self) -> None:
        self.process.wait()
        self._ended.set()
        if self._bound and not self._closing.is_set():
            self._request.service_died(f"service {self.ending()}", self._end())

    def _end(self) -> ServiceEnd:
        code = self.process.returncode
        if self._sandboxed and code > 128:
            code = 128 - code  # that is how bwrap says that its program was ended by a signal
        return ServiceEnd(self.process.pid, code)

    def _terminate(self) -> None:
        """Ask it to end."""
        if not self._sandboxed:
            self._signal(signal.SIGTERM)
            return
        # bwrap itself would end at once, and take its program with it.
        for pid, runs in family(self.process.pid):
            if runs:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Command:
    """What is run for an application, as this node sees it.

    Args:
        environment: Added to what every program gets; beats the application's own.
        default: The command of an application that has none; empty: it needs one.

    Raises:
        ServiceUnusable: There is no such program.
    """

    def __init__(
        self, request: ShimRequest, environment: Mapping[str, str], default: str = ""
    ) -> None:
        application = request.application
        command = application.command or default
        if not command:
            raise ServiceUnusable(
                f"application {request.application_name!r} has no command; an application of the "
                f"{application.shim.name.lower()} shim needs one"
            )
        self.environment = {**os.environ, **_environment(request), **environment}
        for name, value in GRPC_SETTINGS.items():
            if self.environment.get(name) == value:
                del self.environment[name]  # ours, not the program's
        self.arguments = [
            expand(text, self.environment) for text in (command, *application.arguments)
        ]
        self.directory = application.working_directory or request.assignment.directory
        path = self.environment.get("PATH", os.defpath)
        program = shutil.which(self.arguments[0], path=path)
        if program is None:
            raise ServiceUnusable(
                f"command {self.arguments[0]!r} is not an executable file on this node "
                f"(PATH is {path})"
            )
        self.program = program
        self.sandboxed = application.sandbox is not Sandbox.NONE and not request.assignment.sandbox
        if self.sandboxed:
            self.arguments = command_of_program(
                application, request.assignment, program, self.arguments[1:]
            )
            self.program = self.arguments[0]


class Leftovers:
    """Ends processes that a program left behind: those in groups and sessions of their own.

    An executor is a child subreaper: what the program forked and left becomes its child. Whatever is
    below it now, was not when this was made, and was not started by a shim, is such a leftover.
    """

    #: What shims have started and not ended yet.
    started: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self._before = _children()

    def end(self) -> None:
        """Kill them all, and what they start meanwhile."""
        for _ in range(100):
            left = _children() - self._before - self.started
            if not left:
                return
            for pid in left:
                for below, runs in [(pid, True), *family(pid)]:
                    if runs:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(below, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _children() -> set[int]:
    """Return our direct children: one small file per thread, where the kernel has those."""
    try:
        found: set[int] = set()
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
        return found
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended; or no such files here
        own = os.getpid()
        below = [pid for pid, _ in family(own)]
        return {pid for pid in below if _parent(pid) == own}


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])


def _environment(request: ShimRequest) -> Mapping[str, str]:
    """What every program gets on top of the executor's own environment."""
    assignment = request.assignment
    level = os.environ.get("FLAME_LOG", os.environ.get("RUST_LOG", "info"))
    environment = {
        "HOME": assignment.directory,
        "RUST_LOG": level,
        "FLAME_LOG": level,
        # The application's word counts more than these, but not more than where the cluster is.
        **dict(request.application.environments),
        "FLAME_ENDPOINT": assignment.endpoint,
    }
    if assignment.ca_file is not None:
        environment["FLAME_CA_FILE"] = assignment.ca_file
    return environment


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}``; names that are not set stay as they are written."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, text)


def start_timeout(request: ShimRequest, options: Options) -> float:
    """Return how long a program may take until it is ready: the option, the variable, or 30 s."""
    seconds = options.seconds(START_TIMEOUT_OPTION)
    if seconds is not None:
        return seconds
    text = dict(request.application.environments).get(
        START_TIMEOUT_VARIABLE, os.environ.get(START_TIMEOUT_VARIABLE)
    )
    if text is None:
        return START_TIMEOUT
    try:
        return float(text)
    except ValueError:
        raise ServiceUnusable(
            f"{START_TIMEOUT_VARIABLE} is {text!r}; it must be a number of seconds"
        ) from None


def enter_timeout(options: Options) -> float:
    """Return how long on_session_enter may take: the option ``enter_timeout``, or 100 s."""
    return options.seconds("enter_timeout") or ENTER_TIMEOUT


def _stderr_since(position: int) -> str:
    try:
        with open("/proc/self/fd/2", "rb") as file:
            size = os.fstat(2).st_size
            start = position if position <= size else 0  # it was rotated
            file.seek(max(start, size - STDERR_TAIL))
            return file.read(STDERR_TAIL).decode("utf-8", "replace").strip()
    except OSError:  # a terminal or a pipe, when somebody runs an executor by hand
        return ""


class Memory:
    """Whether the kernel has taken a process of this executor for its memory since this was made.

    Args:
        events: The file that counts them; empty: nobody knows.
    """

    def __init__(self, events: str) -> None:
        self._events = events
        self._before = oom_kills(events) if events else 0

    def ran_out(self) -> bool:
        """Look."""
        return bool(self._events) and oom_kills(self._events) > self._before


def exit_sentence(code: int, out_of_memory: bool = False) -> str:
    """Say how a program ended, from what Popen answers."""
    if code >= 0:
        return f"exited with code {code}"
    why = ", as the kernel ran out of memory" if out_of_memory else ""
    return f"was ended by {signal_name(-code)}{why}"
