"""The http shim: a service that answers requests, in any language (docs/openapi/http-shim.yaml).

    GET  /health          2xx (or 404): it is ready
    POST /session/enter   body: the common data     2xx: bound; else refused, body: why
    POST /tasks           body: the input           2xx: body is the output; 204: none; else failed
    POST /session/leave                             2xx
                          (404: it does not care for sessions)

Headers say what the bodies do not: Flame-Session-Id, Flame-Application; Flame-Task-Id and
Flame-Attempt, and Flame-Labels (JSON), Flame-Input-Path and Flame-Output-Path where those are said;
``Flame-Body: none`` where there is no input or no common data at all.

The service listens on the Unix socket FLAME_HTTP_SOCKET or, with the option ``address: port``, on
127.0.0.1 and the port that FLAME_HTTP_PORT and PORT name.

Options: ``address`` (unix, port), ``start_timeout``, ``enter_timeout``, ``task_timeout`` (seconds).
When a task is cancelled, or takes too long, its connection is closed, which a service may notice.
"""

import contextlib
import http.client
import os
import select
import socket
import time
from collections.abc import Callable
from urllib.parse import quote

import psutil

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, ShimRequest
from flame.executor_manager.shims.notes import labels_of
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.program import (
    LEAVE_TIMEOUT,
    Program,
    enter_timeout,
    start_timeout,
)
from flame.model.service import SessionContext, TaskContext

CHUNK = 256 * 1024
REASON = 64 * 1024  # bytes of the body of a failure
HEALTH_TIMEOUT = 5.0  # seconds for one look at a service that starts
STALL = 30.0  # seconds in which an answer, once begun, must get on
#: A connection that was idle for longer is not used again: the service may be about to close it,
#: and a task that is lost on the way must not be sent twice.
IDLE = 1.0
CANCEL_LOOK = 0.05  # seconds between two looks whether the task is still wanted

_NOT_FOUND = (404, 405, 501)


class HttpShim:
    """A service program, started and listening.

    Raises:
        ServiceUnusable: It cannot be started, ended, or was not ready in time.
    """

    def __init__(self, request: ShimRequest) -> None:
        options = Options(request.application.shim_options)
        by_port = options.choice("address", ("unix", "port")) == "port"
        timeout = start_timeout(request, options)
        self._enter_timeout = enter_timeout(options)
        self._task_timeout = options.seconds("task_timeout")
        options.end()
        self._limit = request.assignment.max_output_bytes
        self._headers: dict[str, str] = {}
        self._connection: _Connection | None = None
        self._used = 0.0
        environment = {}
        if by_port:
            self._path, self._port = "", _free_port()
            environment = {"FLAME_HTTP_PORT": str(self._port), "PORT": str(self._port)}
            where = f"port {self._port}, which FLAME_HTTP_PORT names"
        else:
            self._path, self._port = request.assignment.socket, 0
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            environment = {"FLAME_HTTP_SOCKET": self._path}
            where = f"FLAME_HTTP_SOCKET ({self._path})"
        self._program = Program(request, environment)
        try:
            self._program.wait_until(self._healthy, timeout, f"answer GET /health on {where}")
        except BaseException:
            self.close()
            raise

    def enter(self, session: SessionContext) -> None:
        self._headers = {
            "Flame-Session-Id": session.session_id,
            "Flame-Application": session.application.name,
        }
        status, body = self._post(
            "/session/enter", session.common_data, {}, "on_session_enter", self._enter_timeout
        )
        if not _is_fine(status) and status not in _NOT_FOUND:
            raise _failure("on_session_enter", status, body)
        self._program.bound()

    def invoke(self, context: TaskContext) -> bytes | None:
        """Do one task; see :class:`flame.executor_manager.shims.Shim`."""
        headers = {"Flame-Task-Id": str(context.task_id), "Flame-Attempt": str(context.attempt)}
        if context.labels:
            headers["Flame-Labels"] = labels_of(context)
        if context.input_path is not None:
            headers["Flame-Input-Path"] = quote(context.input_path)
        if context.output_path is not None:
            headers["Flame-Output-Path"] = quote(context.output_path)
        status, body = self._post(
            "/tasks",
            context.input,
            headers,
            "the task",
            self._task_timeout,
            lambda: context.cancelled,
        )
        if not _is_fine(status):
            raise _failure("the task", status, body)
        return None if status == 204 else body

    def leave(self) -> None:
        status, body = self._post("/session/leave", None, {}, "on_session_leave", LEAVE_TIMEOUT)
        if not _is_fine(status) and status not in _NOT_FOUND:
            raise _failure("on_session_leave", status, body)

    def close(self) -> None:
        """Stop the program."""
        self._disconnect()
        self._program.close()
        if self._path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    # --- requests

    def _post(
        self,
        path: str,
        data: bytes | None,
        headers: dict[str, str],
        what: str,
        timeout: float | None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[int, bytes]:
        """Send a request and return the answer's status and body.

        Raises:
            ServiceFailure: There was no answer, or none in time, or one that is too large.
            ServiceUnusable: The program ended before it was bound.
        """
        headers = {**self._headers, **headers, "Content-Type": "application/octet-stream"}
        if data is None:
            headers["Flame-Body"] = "none"
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            connection = self._connected()
            connection.timeout_at(deadline)
            connection.request("POST", path, data or b"", headers)
            connection.await_answer(deadline, cancelled)
            answer = connection.getresponse()
            body = self._read(answer, deadline)
        except _TooLate:
            self._disconnect()
            if cancelled():
                raise ServiceFailure("the task was cancelled, and its connection closed") from None
            raise ServiceFailure(f"{what} took longer than {timeout:g} s") from None
        except TimeoutError:
            self._disconnect()
            raise ServiceFailure(f"{what}: the service stalled; no byte in {STALL:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            self._program.check_alive()
            raise ServiceFailure(
                f"{what}: the service broke its connection or does not speak HTTP: "
                f"{type(error).__name__}: {error}"
            ) from None
        except BaseException:
            self._disconnect()
            raise
        if answer.will_close:
            self._disconnect()
        self._used = time.monotonic()
        return answer.status, body

    def _read(self, answer: http.client.HTTPResponse, deadline: float | None) -> bytes:
        """Read a body, but not more of it than an output may have."""
        limit = self._limit if _is_fine(answer.status) else REASON
        announced = answer.length
        chunks: list[bytes] = []
        size = 0
        while size <= limit and (announced is None or announced <= limit):
            if deadline is not None and time.monotonic() > deadline:
                raise _TooLate
            chunk = answer.read1(CHUNK)
            if not chunk:
                answer.close()  # read1 does not, after an empty body
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
        self._disconnect()  # the rest is not wanted
        if _is_fine(answer.status):
            raise ServiceFailure(
                f"the output has {max(size, announced or 0)} bytes or more; at most {limit} are "
                "allowed: return a reference to large data instead of the data"
            )
        return b"".join(chunks)[:limit]

    # --- connections

    def _connected(self) -> "_Connection":
        connection = self._connection
        if connection is not None and time.monotonic() - self._used < IDLE:
            return connection
        self._disconnect()
        self._connection = self._connect(STALL)
        return self._connection

    def _connect(self, timeout: float) -> "_Connection":
        connection = _Connection(self._path, self._port, timeout)
        connection.connect()
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _healthy(self) -> bool:
        try:
            connection = self._connect(HEALTH_TIMEOUT)
        except OSError:
            return False
        if self._port and not self._is_ours():
            raise ServiceUnusable(
                f"port {self._port} was taken by another process before the service listened on it"
            )
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health")
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return False
        return _is_fine(status) or status in _NOT_FOUND

    def _is_ours(self) -> bool:
        """Whether the one that listens on the port is the program, or below it."""
        try:
            program = psutil.Process(self._program.process.pid)
            family = [program, *program.children(recursive=True)]
            return any(
                each.laddr.port == self._port and each.status == psutil.CONN_LISTEN
                for process in family
                for each in process.net_connections("tcp")
            )
        except psutil.Error:
            return True  # it has just ended, which is noticed, or may not be looked at


class _TooLate(Exception):
    """The answer is not wanted any more."""


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket, or to a port of this machine."""

    def __init__(self, path: str, port: int, timeout: float) -> None:
        super().__init__("127.0.0.1" if port else "localhost", port or None, timeout)
        self._path = path

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise

    def timeout_at(self, deadline: float | None) -> None:
        """Let no single step take longer than is left until then, or than STALL."""
        left = STALL if deadline is None else deadline - time.monotonic()
        self.sock.settimeout(max(0.001, min(STALL, left)))

    def await_answer(self, deadline: float | None, cancelled: Callable[[], bool]) -> None:
        """Wait until the answer begins.

        Raises:
            _TooLate: Nobody wants it any more.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while not poll.poll(CANCEL_LOOK * 1000):
            if cancelled() or (deadline is not None and time.monotonic() > deadline):
                raise _TooLate


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_fine(status: int) -> bool:
    return 200 <= status < 300


def _failure(what: str, status: int, body: bytes) -> ServiceFailure:
    said = body.decode("utf-8", "replace").strip()
    return ServiceFailure(said or f"{what}: the service answered status {status}", status)
