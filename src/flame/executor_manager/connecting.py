"""How an executor comes to a stream to a session manager.

a strict sandbox   frames over a connection that the executor manager makes: there is no network
a framed port      frames on a Unix socket or TCP, where the last welcome named one
else               gRPC, on the port that everybody knows
"""

import asyncio
import logging
from typing import Any

import grpc.aio

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.relay import relayed_connection
from flame.model.specs import Sandbox
from flame.runtime.backoff import Backoff
from flame.runtime.framed_call import FramedCall
from flame.wire import frames
from flame.wire.channels import FRAME_OVERHEAD, Endpoint, bearer
from flame.wire.framed import client_tls, framed_hello

log = logging.getLogger(__name__)

FRAMED_TIMEOUT = 3.0  # seconds to connect without gRPC; then gRPC's own port is used

Call = Any  # grpc.aio.StreamStreamCall[ExecutorFrame, ExecutorOrder], generic only in its stubs


class Connector:
    """Opens the streams of one executor, under its credential.

    Args:
        first: The endpoint that the assignment's framed port belongs to.
    """

    def __init__(self, assignment: Assignment, first: Endpoint) -> None:
        self._assignment = assignment
        self._metadata = bearer(assignment.credential)
        #: Where a stream without gRPC may be tried, once.
        self._framed = {
            first: frames.FramedAddress(port=assignment.framed_port, local=assignment.framed_local)
        }

    def learn(self, endpoint: Endpoint, framed: frames.FramedAddress) -> None:
        """A welcome named the framed port of its session manager."""
        self._framed[endpoint] = framed

    async def connect(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> Call:
        """Return a stream, its hello still to be written."""
        if self._assignment.sandbox == Sandbox.STRICT:
            return await self._greeted(await self._relayed(endpoint))
        framed = self._framed.pop(endpoint, None)  # the welcome names it again
        if framed is not None and framed.port:
            try:
                return await self._greeted(
                    await FramedCall.open(
                        endpoint.host,
                        framed.port,
                        framed.local,
                        client_tls(endpoint, self._assignment.ca_file),
                        frames.ExecutorOrder.FromString,
                        most_bytes=self._assignment.max_output_bytes + FRAME_OVERHEAD,
                        timeout=FRAMED_TIMEOUT,
                    )
                )
            except (OSError, TimeoutError) as error:
                log.info("framed-port-unreachable port=%d error=%r", framed.port, error)
        connect = channel.stream_stream(
            frames.EXECUTOR_CHANNEL,
            request_serializer=frames.ExecutorFrame.SerializeToString,
            response_deserializer=frames.ExecutorOrder.FromString,
        )
        return connect(metadata=self._metadata)

    async def _greeted(self, call: FramedCall) -> FramedCall:
        """Say which call it is, and whose: gRPC does that in its headers."""
        await call.write(framed_hello(frames.EXECUTOR_CHANNEL, self._metadata))
        return call

    async def _relayed(self, endpoint: Endpoint) -> FramedCall:
        backoff = Backoff()
        while True:
            try:
                connection, host = await asyncio.to_thread(relayed_connection)
                return await FramedCall.through(
                    connection,
                    host,
                    client_tls(endpoint, self._assignment.ca_file),
                    frames.ExecutorOrder.FromString,
                    most_bytes=self._assignment.max_output_bytes + FRAME_OVERHEAD,
                    timeout=FRAMED_TIMEOUT,
                )
            except (OSError, TimeoutError) as error:
                log.info("relay-failed error=%r", error)
                await asyncio.sleep(backoff.next_delay())
