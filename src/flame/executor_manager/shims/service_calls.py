"""Calls to a service program over gRPC, and what to raise when one fails.

One call at a time, and its answer is waited for at once. So the calls are made by the layer that
``grpc.Channel`` is written in: with a completion queue for the connection instead of one for each call, a
call takes 20 to 30 us less CPU (decision 9 says what of that layer may be relied on).
"""

import time
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from flame.executor_manager.shims import ServiceFailure
from flame.executor_manager.shims.program import Program
from flame.wire import v1
from flame.wire.channels import channel_options

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OK = 0
_FLAGS = cygrpc.InitialMetadataFlags
_WAIT = _FLAGS.wait_for_ready | _FLAGS.wait_for_ready_explicitly_set


class ServiceCalls:
    """A connection to a service.

    Args:
        target: Where it listens.
        program: Its program, which may have died when a call fails.
        methods: The rpcs that it serves.
    """

    def __init__(self, target: str, program: Program, methods: Mapping[str, v1.Method]) -> None:
        self._program = program
        self._channel = cygrpc.Channel(
            target.encode(), (*channel_options(), ("grpc.enable_retries", 0)), None
        )
        self._methods = {
            name: (method.path.encode(), method.response) for name, method in methods.items()
        }

    def call(
        self,
        method: str,
        message: Any,
        what: str,
        *,
        timeout: float | None = None,
        data: str = "the input",
        size: int = 0,
        wait_for_ready: bool = False,
    ) -> Any:
        """Return the answer.

        Args:
            method: The rpc's name.
            message: What it is given.
            what: What takes too long, if it does.
            timeout: Seconds; None: no limit.
            data: What of the user's is in the message.
            size: How many bytes of it.
            wait_for_ready: It may not listen yet.

        Raises:
            ServiceFailure: It answered with an error, or not in time; its program is alive.
        """
        path, response = self._methods[method]
        answer = cygrpc.ReceiveMessageOperation(0)
        status = cygrpc.ReceiveStatusOnClientOperation(0)
        operations = (
            cygrpc.SendInitialMetadataOperation((), _WAIT if wait_for_ready else 0),
            cygrpc.SendMessageOperation(message.SerializeToString(), 0),
            cygrpc.SendCloseFromClientOperation(0),
            cygrpc.ReceiveInitialMetadataOperation(0),
            answer,
            status,
        )
        deadline = None if timeout is None else time.time() + timeout
        self._channel.integrated_call(
            0, path, None, deadline, (), None, ((operations, operations),), None, None
        )
        # What interrupts the wait (a signal's handler) leaves its call behind: not ours is passed over.
        while self._channel.next_call_event().tag is not operations:
            pass
        if status.code() != _OK:
            code = _CODES.get(status.code(), grpc.StatusCode.UNKNOWN)
            raise self._failure(code, status.details(), what, timeout, data, size)
        try:
            return response.FromString(answer.message())
        except (DecodeError, TypeError) as error:  # TypeError: there is none
            raise ServiceFailure(
                f"the service answered with something else than a {response.DESCRIPTOR.full_name}",
                grpc.StatusCode.INTERNAL.name,
            ) from error

    def close(self) -> None:
        """Disconnect."""
        self._channel.close(cygrpc.StatusCode.cancelled, "the service is closed")

    def _failure(
        self,
        code: grpc.StatusCode,
        details: str,
        what: str,
        timeout: float | None,
        data: str,
        size: int,
    ) -> ServiceFailure:
        if code is grpc.StatusCode.UNAVAILABLE or code is grpc.StatusCode.CANCELLED:
            self._program.check_alive()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout is not None:
            return ServiceFailure(f"{what} took longer than {timeout:g} s")
        refused = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE)
        if code in refused and size > v1.RELEASED_MAX_RECEIVE - 1024:
            return ServiceFailure(
                f"{data} has {size} bytes; this service takes at most "
                f"{v1.RELEASED_MAX_RECEIVE} bytes (4 MiB) in one message, gRPC's default, which "
                f"services of released SDKs keep ({details})"
            )
        return ServiceFailure(f"the service answered {code.name}: {details}", code.name)
