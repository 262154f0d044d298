"""The grpc shim: services of version 0.2.0, which register with their executor.

    executor ──starts──▶ command arguments...      FLAME_SERVICE_MANAGER=http://127.0.0.1:<port>
             ◀─RegisterService(address, pid)──
             ──OnSessionEnter, OnTaskInvoke, ..., OnSessionLeave──▶ <address>

Options: ``start_timeout``, ``enter_timeout``, ``task_timeout`` (seconds).
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, ShimRequest
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.program import (
    LEAVE_TIMEOUT,
    Program,
    enter_timeout,
    start_timeout,
)
from flame.executor_manager.shims.service_calls import ServiceCalls
from flame.model.service import SessionContext, TaskContext
from flame.wire import v0


class GrpcShim:
    """A service program of version 0.2.0, started, registered and connected to.

    Raises:
        ServiceUnusable: It cannot be started, ended, or did not register in time.
    """

    def __init__(self, request: ShimRequest) -> None:
        options = Options(request.application.shim_options)
        timeout = start_timeout(request, options)
        self._enter_timeout = enter_timeout(options)
        self._task_timeout = options.seconds("task_timeout")
        options.end()
        with _Registrations() as registrations:
            self._program = Program(
                request, {"FLAME_SERVICE_MANAGER": f"http://127.0.0.1:{registrations.port}"}
            )
            try:
                self._program.wait_until(
                    lambda: registrations.address(self._program.process.pid) is not None,
                    timeout,
                    "register with FLAME_SERVICE_MANAGER",
                )
                address = registrations.address(self._program.process.pid) or ""
                self._calls = ServiceCalls(_target(address), self._program, v0.GRPC_SHIM)
            except BaseException:
                self._program.close()
                raise

    def enter(self, session: SessionContext) -> None:
        application = session.application
        message = v0.SessionContext(
            session_id=session.session_id,
            application=v0.ApplicationContext(
                name=application.name,
                shim=v0.Shim.Grpc,
                url=application.url,
                command=application.command,
            ),
            common_data=session.common_data,
        )
        result = self._calls.call(
            "OnSessionEnter",
            message,
            "on_session_enter",
            timeout=self._enter_timeout,
            data="common_data",
            size=len(session.common_data or b""),
            wait_for_ready=True,  # a released service registers just before it listens
        )
        if result.return_code != 0:
            raise ServiceFailure(
                result.message or f"on_session_enter answered return code {result.return_code}"
            )
        self._program.bound()

    def invoke(self, context: TaskContext) -> bytes | None:
        """Do one task; see :class:`flame.executor_manager.shims.Shim`."""
        data = context.input
        message = v0.TaskContext(
            task_id=str(context.task_id),
            session_id=context.session_id,
            input=data,
            attempt=context.attempt,
            labels=[v0.Label(name=name, value=value) for name, value in context.labels.items()],
            input_path=context.input_path,
            output_path=context.output_path,
        )
        result = self._calls.call(
            "OnTaskInvoke",
            message,
            "the task",
            timeout=self._task_timeout,
            size=len(data or b""),
        )
        return result.data if result.HasField("data") else None

    def leave(self) -> None:
        self._calls.call(
            "OnSessionLeave", v0.EmptyRequest(), "on_session_leave", timeout=LEAVE_TIMEOUT
        )

    def close(self) -> None:
        """Stop the program."""
        self._calls.close()
        self._program.close()


class _Registrations:
    """Serves GrpcServiceManager while a service starts."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(1, "service-registration"))
        method = v0.GRPC_SERVICE_MANAGER["RegisterService"]
        handler = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
        _, service, name = method.path.split("/")
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {name: handler}),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> "_Registrations":
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(0.5)  # the answer to the registration may be on its way

    def address(self, group: int) -> str | None:
        """Return what a process of this group registered; others on this machine do not count."""
        with self._lock:
            return self._seen.get(group)

    def _register(self, request: Any, context: Any) -> Any:
        try:
            group = os.getpgid(int(request.service_id))
        except (ValueError, OverflowError, ProcessLookupError):
            return v0.Result(
                return_code=-1,
                message=f"service_id is {request.service_id!r}; the service's process id is needed",
            )
        with self._lock:
            self._seen[group] = request.address
        return v0.Result()


def _target(address: str) -> str:
    """Return what gRPC connects to for a registered address.

    Raises:
        ServiceUnusable: It is no address on this machine.
    """
    for prefix in ("http://", "dns:///"):
        address = address.removeprefix(prefix)
    host, _, port = address.rstrip("/").rpartition(":")
    if address.startswith("unix:"):
        return address
    if host not in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0") or not port.isdigit():
        raise ServiceUnusable(
            f"the service registered the address {address!r}; "
            "http://127.0.0.1:<port> is needed, on the executor's own machine"
        )
    return f"{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
