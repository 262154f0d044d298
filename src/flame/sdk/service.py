"""``flame.run_service``: a service as a program of its own, for the host shim.

The program is started by an executor, serves ``Instance`` on the Unix socket that
FLAME_INSTANCE_ENDPOINT names, and ends when it is told to (SIGTERM). One thread runs the service's
methods, one call at a time.
"""

import os
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import grpc

from flame.model.errors import InvalidConfiguration, InvalidRequest
from flame.model.ids import TaskId
from flame.model.service import (
    ApplicationContext,
    FlameService,
    NotedTaskContext,
    Peer,
    SessionContext,
    TaskContext,
)
from flame.wire import v1
from flame.wire.channels import channel_options

ENDPOINT = "FLAME_INSTANCE_ENDPOINT"
MAX_PAYLOAD = 1024 * 1024 * 1024  # the executor has checked sizes; this is no limit of ours
GRACE = 5.0  # seconds that a running task has after SIGTERM
FAILED = 1  # a return code that is not 0


def run_service(service: FlameService) -> None:
    """Serve a service until the executor ends this program. Call it last, in the main thread.

    Raises:
        InvalidConfiguration: FLAME_INSTANCE_ENDPOINT is not set: nothing started this program as a
            service, or its directory is not there.
    """
    if not isinstance(service, FlameService):
        raise InvalidRequest(
            f"run_service needs a FlameService object, not {service!r}"
            + ("; call the class: run_service(Service())" if isinstance(service, type) else "")
        )
    path = os.environ.get(ENDPOINT, "")
    if not path:
        raise InvalidConfiguration(
            f"{ENDPOINT} is not set. It names the Unix socket on which a service listens, and an "
            "executor sets it: register this program as the command of an application"
        )
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server = grpc.server(
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="flame-service"),
        options=channel_options(MAX_PAYLOAD),
    )
    server.add_generic_rpc_handlers((_handler(_Instance(service)),))
    try:
        server.add_insecure_port(f"unix:{path.removeprefix('unix:')}")
    except RuntimeError as error:
        raise InvalidConfiguration(
            f"{ENDPOINT} is {path!r}, which cannot be served: {error}"
        ) from None
    server.start()
    stopping.wait()
    server.stop(GRACE).wait()


class _Instance:
    """The three rpcs, as calls of the service's methods."""

    def __init__(self, service: FlameService) -> None:
        self._service = service

    def enter(self, request: v1.SessionContext, _context: object) -> v1.Result:
        application = request.application
        context = SessionContext(
            request.session_id,
            ApplicationContext(
                name=application.name,
                image=application.image if application.HasField("image") else None,
                command=application.command if application.HasField("command") else None,
                working_directory=(
                    application.working_directory
                    if application.HasField("working_directory")
                    else None
                ),
                url=application.url if application.HasField("url") else None,
                installer=application.installer if application.HasField("installer") else None,
            ),
            request.common_data if request.HasField("common_data") else None,
            request.rank,
            tuple(Peer(peer.executor, peer.node, peer.address) for peer in request.peers),
        )
        try:
            self._service.on_session_enter(context)
        except Exception:
            return v1.Result(return_code=FAILED, message=traceback.format_exc())
        return v1.Result()

    def invoke(self, request: v1.TaskContext, _context: object) -> v1.TaskResult:
        context = _task_context(request)
        try:
            output = self._service.on_task_invoke(context)
            return v1.TaskResult(output=output)
        except Exception:
            return v1.TaskResult(return_code=FAILED, message=traceback.format_exc())

    def leave(self, _request: v1.EmptyRequest, _context: object) -> v1.Result:
        try:
            self._service.on_session_leave()
        except Exception:
            return v1.Result(return_code=FAILED, message=traceback.format_exc())
        return v1.Result()


def _task_context(request: v1.TaskContext) -> TaskContext:
    context = TaskContext(
        TaskId(int(request.task_id)),
        request.session_id,
        request.input if request.HasField("input") else None,
        request.attempt or 1,
    )
    labels = {label.name: label.value for label in request.labels}
    input_path = request.input_path if request.HasField("input_path") else None
    output_path = request.output_path if request.HasField("output_path") else None
    if not labels and input_path is None and output_path is None:
        return context
    return NotedTaskContext(context, labels, input_path, output_path)


def _handler(instance: _Instance) -> grpc.GenericRpcHandler:
    methods: dict[str, Callable[..., Any]] = {
        "OnSessionEnter": instance.enter,
        "OnTaskInvoke": instance.invoke,
        "OnSessionLeave": instance.leave,
    }
    return grpc.method_handlers_generic_handler(
        "flame.v1.Instance",
        {
            name: grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=v1.INSTANCE[name].request.FromString,
                response_serializer=v1.INSTANCE[name].response.SerializeToString,
            )
            for name, method in methods.items()
        },
    )
