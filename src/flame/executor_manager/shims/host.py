"""The host shim: a service that is a program of its own and serves ``Instance`` on a Unix socket.

    executor ──starts──▶ command arguments...      FLAME_INSTANCE_ENDPOINT=<path>
             ◀─listens── <path>
             ──OnSessionEnter, OnTaskInvoke, ..., OnSessionLeave──▶

Programs written with released SDKs run unchanged. The program gets a process group of
its own. When it dies without being told, so does the executor process, with a line that says why:
the executor manager reports it, and the cell names the task that ran.
"""

import contextlib
import os
import socket

from flame.executor_manager.shims import ServiceFailure, ShimRequest
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.program import (
    LEAVE_TIMEOUT,
    Program,
    enter_timeout,
    start_timeout,
)
from flame.executor_manager.shims.service_calls import ServiceCalls
from flame.model.service import SessionContext, TaskContext
from flame.wire import v1


class HostShim:
    """A service program, started and connected to.

    Raises:
        ServiceUnusable: It cannot be started, ended, or did not listen in time.
    """

    def __init__(self, request: ShimRequest) -> None:
        options = Options(request.application.shim_options)
        timeout = start_timeout(request, options)
        self._enter_timeout = enter_timeout(options)
        options.end()
        self._path = request.assignment.socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._program = Program(request, {"FLAME_INSTANCE_ENDPOINT": self._path})
        try:
            self._program.wait_until(
                self._listens, timeout, f"listen on FLAME_INSTANCE_ENDPOINT ({self._path})"
            )
        except BaseException:
            self._program.close()
            raise
        self._calls = ServiceCalls(f"unix:{self._path}", self._program, v1.INSTANCE)

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
            rank=session.rank,
            peers=[
                v1.Peer(executor=peer.executor, node=peer.node, address=peer.address)
                for peer in session.peers
            ],
        )
        result = self._calls.call(
            "OnSessionEnter",
            message,
            "on_session_enter",
            timeout=self._enter_timeout,
            data="common_data",
            size=len(session.common_data or b""),
        )
        if result.return_code != 0:
            raise ServiceFailure(
                result.message or f"on_session_enter answered return code {result.return_code}"
            )
        self._program.bound()

    def invoke(self, context: TaskContext) -> bytes | None:
        """Do one task; see :class:`flame.executor_manager.shims.Shim`."""
        data = context.input
        message = v1.TaskContext(
            task_id=str(context.task_id),
            session_id=context.session_id,
            input=data,
            attempt=context.attempt,
        )
        if context.__class__ is not TaskContext:
            message.labels.extend(
                v1.Label(name=name, value=value) for name, value in context.labels.items()
            )
            if context.input_path is not None:
                message.input_path = context.input_path
            if context.output_path is not None:
                message.output_path = context.output_path
        result = self._calls.call("OnTaskInvoke", message, "the task", size=len(data or b""))
        if result.return_code != 0:
            raise ServiceFailure(
                result.message or f"the service answered return code {result.return_code}",
                result.return_code,
            )
        return result.output if result.HasField("output") else None

    def leave(self) -> None:
        self._calls.call(
            "OnSessionLeave", v1.EmptyRequest(), "on_session_leave", timeout=LEAVE_TIMEOUT
        )

    def close(self) -> None:
        """Stop the program."""
        self._calls.close()
        self._program.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _listens(self) -> bool:
        # The file is there from bind() on, a connection only from listen() on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(self._path)
            except OSError:
                return False
        return True
