"""Calls to a service program over gRPC, and what to raise when one fails."""

from collections.abc import Mapping
from typing import Any

import grpc

from flame.executor_manager.shims import ServiceFailure
from flame.executor_manager.shims.program import Program
from flame.wire import v1
from flame.wire.channels import channel_options


class ServiceCalls:
    """A connection to a service.

    Args:
        target: Where it listens.
        program: Its program, which may have died when a call fails.
        methods: The rpcs that it serves.
    """

    def __init__(self, target: str, program: Program, methods: Mapping[str, v1.Method]) -> None:
        self._program = program
        self._channel = grpc.insecure_channel(
            target, options=[*channel_options(), ("grpc.enable_retries", 0)]
        )
        channel: Any = self._channel  # Method.on is typed for asyncio channels; the calls are alike
        self._methods = {name: method.on(channel) for name, method in methods.items()}

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
        try:
            return self._methods[method](message, timeout=timeout, wait_for_ready=wait_for_ready)
        except grpc.RpcError as error:
            raise self._failure(error, what, timeout, data, size) from error

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    def _failure(
        self, error: grpc.RpcError, what: str, timeout: float | None, data: str, size: int
    ) -> ServiceFailure:
        code = error.code()
        if code is grpc.StatusCode.UNAVAILABLE or code is grpc.StatusCode.CANCELLED:
            self._program.check_alive()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout is not None:
            return ServiceFailure(f"{what} took longer than {timeout:g} s")
        refused = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE)
        if code in refused and size > v1.RELEASED_MAX_RECEIVE - 1024:
            return ServiceFailure(
                f"{data} has {size} bytes; this service takes at most "
                f"{v1.RELEASED_MAX_RECEIVE} bytes (4 MiB) in one message, gRPC's default, which "
                f"services of released SDKs keep ({error.details()})"
            )
        return ServiceFailure(f"the service answered {code.name}: {error.details()}", code.name)
