"""The host shim: a service that is a program of its own and serves ``Instance`` on a Unix socket.

    executor ──starts──▶ command arguments...      FLAME_INSTANCE_ENDPOINT=<path>
             ◀─listens── <path>
             ──OnSessionEnter, OnTaskInvoke, ..., OnSessionLeave──▶

Programs written with released SDKs run unchanged (wire.md 2.5). The program gets a process group of
its own. When it dies without being told, so does the executor process, with a line that says why:
the executor manager reports it, and the cell names the task that ran.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Any

import grpc

from flame.executor_manager.assignment import FORK_SUPPORT
from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, ShimRequest
from flame.model.service import SessionContext, TaskContext
from flame.runtime.processes import signal_name
from flame.wire import v1
from flame.wire.channels import channel_options

START_TIMEOUT = 30.0  # seconds until the program must listen
START_TIMEOUT_VARIABLE = "FLAME_SERVICE_START_TIMEOUT"
LEAVE_TIMEOUT = 10.0  # seconds that OnSessionLeave may take
STOP_GRACE = 2.0  # seconds between SIGTERM and SIGKILL

#: What a gRPC server takes in one message unless told otherwise; released services are not told.
RELEASED_LIMIT = v1.RELEASED_MAX_RECEIVE

STDERR_TAIL = 2048  # bytes, of a program that did not start

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")


class HostShim:
    """A service program, started and connected to.

    Raises:
        ServiceUnusable: It cannot be started, ended, or did not listen in time.
    """

    def __init__(self, request: ShimRequest) -> None:
        self._request = request
        self._closing = False
        self._entered = False
        self._ended = threading.Event()
        self._path = request.assignment.socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._stderr = os.fstat(2).st_size
        self._process = self._start()
        try:
            self._wait_until_it_listens()
        except BaseException:
            self._stop()
            raise
        self._watcher = threading.Thread(target=self._watch, name="service-watch", daemon=True)
        self._watcher.start()
        self._channel = grpc.insecure_channel(
            f"unix:{self._path}", options=[*channel_options(), ("grpc.enable_retries", 0)]
        )
        self._enter = self._method("OnSessionEnter")
        self._invoke = self._method("OnTaskInvoke")
        self._leave = self._method("OnSessionLeave")

    def enter(self, session: SessionContext) -> None:
        application = session.application
        message = v1.SessionContext(
            session_id=session.session_id,
            application=v1.ApplicationContext(
                name=application.name,
                shim=v1.Shim.Host,
                image=application.image,
                command=application.command,
                working_directory=application.working_directory,
                url=application.url,
                installer=application.installer,
            ),
            common_data=session.common_data,
        )
        result = self._call(self._enter, message, len(session.common_data or b""), "common data")
        if result.return_code != 0:
            raise ServiceFailure(
                result.message or f"on_session_enter answered return code {result.return_code}"
            )
        self._entered = True
        if self._ended.is_set():  # between its answer and the line above, unseen by the watcher
            raise ServiceUnusable(
                f"the service {_exit_sentence(self._process.returncode)} after on_session_enter"
            )

    def invoke(self, context: TaskContext) -> bytes | None:
        """Do one task; see :class:`flame.executor_manager.shims.Shim`."""
        data = context.input
        message = v1.TaskContext(
            task_id=str(context.task_id), session_id=context.session_id, input=data
        )
        result = self._call(self._invoke, message, len(data or b""), "input")
        if result.return_code != 0:
            raise ServiceFailure(
                result.message or f"the service answered return code {result.return_code}"
            )
        return result.output if result.HasField("output") else None

    def leave(self) -> None:
        try:
            self._leave(v1.EmptyRequest(), timeout=LEAVE_TIMEOUT)
        except grpc.RpcError as error:
            raise ServiceFailure(f"on_session_leave: {_describe(error)}") from error

    def close(self) -> None:
        """Stop the program: SIGTERM to its group, SIGKILL after a grace period."""
        self._closing = True
        self._channel.close()
        self._stop()

    def _method(self, name: str) -> Any:
        channel: Any = self._channel  # Method.on is typed for asyncio channels; the calls are alike
        return v1.INSTANCE[name].on(channel)

    def _call(self, method: Any, message: Any, size: int, what: str) -> Any:
        try:
            return method(message)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE or code is grpc.StatusCode.CANCELLED:
                self._check_that_it_lives()
            refused = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE)
            if code in refused and size > RELEASED_LIMIT - 1024:
                raise ServiceFailure(
                    f"the {what} has {size} bytes; this service takes at most {RELEASED_LIMIT} "
                    "bytes (4 MiB) in one message, gRPC's default, which services of released "
                    f"SDKs keep ({error.details()})"
                ) from error
            raise ServiceFailure(_describe(error)) from error

    def _watch(self) -> None:
        code = self._process.wait()
        self._ended.set()
        if self._entered and not self._closing:
            self._request.service_died(f"service {_exit_sentence(code)}")

    def _check_that_it_lives(self) -> None:
        """The connection broke: find out whether the program did.

        Before the binding is complete, its death is the reason why that fails. Afterwards this
        does not return: the watcher ends the process, and the cell names the task.
        """
        if not self._ended.wait(1.0):
            return
        if not self._entered:
            raise ServiceUnusable(
                f"the service {_exit_sentence(self._process.returncode)} in on_session_enter"
            )
        while not self._closing:
            time.sleep(1.0)

    # --- the program

    def _start(self) -> subprocess.Popen[bytes]:
        application = self._request.application
        environment = self._environment()
        if not application.command:
            raise ServiceUnusable(
                f"application {self._request.application_name!r} has no command; "
                "an application of the host shim needs one"
            )
        own = {**os.environ, **environment}
        own.pop(FORK_SUPPORT, None)  # ours, not the program's
        argv = [expand(text, own) for text in (application.command, *application.arguments)]
        cwd = application.working_directory or self._request.assignment.directory
        program = shutil.which(argv[0], path=own.get("PATH", os.defpath))
        if program is None:
            raise ServiceUnusable(
                f"command {argv[0]!r} is not an executable file on this node "
                f"(PATH is {own.get('PATH', os.defpath)})"
            )
        try:
            return subprocess.Popen(
                argv,
                executable=program,
                cwd=cwd,
                env=own,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise ServiceUnusable(f"command {argv[0]!r} cannot be started: {error}") from error

    def _environment(self) -> Mapping[str, str]:
        """What the program gets on top of this process's own environment."""
        assignment = self._request.assignment
        temporary = os.path.join(assignment.directory, "tmp")
        os.makedirs(temporary, exist_ok=True)
        level = os.environ.get("FLAME_LOG", os.environ.get("RUST_LOG", "info"))
        environment = {
            "HOME": assignment.directory,
            "TMPDIR": temporary,
            "TEMP": temporary,
            "TMP": temporary,
            "RUST_LOG": level,
            "FLAME_LOG": level,
            # The application's word counts more than these, but not than where we listen.
            **dict(self._request.application.environments),
            "FLAME_INSTANCE_ENDPOINT": self._path,
            "FLAME_ENDPOINT": assignment.endpoint,
        }
        if assignment.ca_file is not None:
            environment["FLAME_CA_FILE"] = assignment.ca_file
        return environment

    def _wait_until_it_listens(self) -> None:
        timeout = _start_timeout(self._request.application.environments)
        deadline = time.monotonic() + timeout
        delay = 0.002
        while not self._listens():
            code = self._process.poll()
            if code is not None:
                raise ServiceUnusable(
                    f"the service {_exit_sentence(code)} before it listened on "
                    f"FLAME_INSTANCE_ENDPOINT ({self._path}){_stderr_since(self._stderr)}"
                )
            if time.monotonic() > deadline:
                raise ServiceUnusable(
                    f"the service did not listen on FLAME_INSTANCE_ENDPOINT ({self._path}) within "
                    f"{timeout:g} s ({START_TIMEOUT_VARIABLE} sets the limit)"
                    f"{_stderr_since(self._stderr)}"
                )
            time.sleep(delay)
            delay = min(delay * 1.5, 0.05)

    def _listens(self) -> bool:
        # The file is there from bind() on, a connection only from listen() on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self._path)
            except OSError:
                return False
        return True

    def _stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)  # what else is in its group goes with it
        self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}``; names that are not set stay as they are written."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match[1] or match[2], match[0])

    return _VARIABLE.sub(value, text)


def _start_timeout(environments: tuple[tuple[str, str], ...]) -> float:
    text = dict(environments).get(START_TIMEOUT_VARIABLE, os.environ.get(START_TIMEOUT_VARIABLE))
    if text is None:
        return START_TIMEOUT
    try:
        return float(text)
    except ValueError:
        raise ServiceUnusable(
            f"{START_TIMEOUT_VARIABLE} is {text!r}; it must be a number of seconds"
        ) from None


def _stderr_since(position: int) -> str:
    """Say what a program wrote to the stderr that it shares with us; it is a file."""
    try:
        with open("/proc/self/fd/2", "rb") as file:
            file.seek(max(position, os.fstat(2).st_size - STDERR_TAIL))
            text = file.read(STDERR_TAIL).decode("utf-8", "replace").strip()
    except OSError:  # a terminal or a pipe, when somebody runs an executor by hand
        text = ""
    return f"; its stderr: {text}" if text else ""


def _exit_sentence(code: int) -> str:
    """Say how a program ended, from what Popen answers."""
    return f"exited with code {code}" if code >= 0 else f"was ended by {signal_name(-code)}"


def _describe(error: grpc.RpcError) -> str:
    return f"the service answered {error.code().name}: {error.details()}"
