"""One rpc on :class:`flame.session_manager.grpc_server.GrpcServer`, as its handler sees it.

It has two faces. Handlers that are coroutines use the part of ``grpc.aio.ServicerContext`` that
Flame and the standard services need (``read``, ``write``, ``abort``, ...). Handlers on the hot path
are plain functions: they answer with :meth:`Call.finish`, :meth:`Call.fail` and :meth:`Call.send`,
now or later, and cost neither an asyncio task nor a future.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

Metadata = tuple[tuple[str, str | bytes], ...]

_OK = grpc.StatusCode.OK


class CallEnded(Exception):
    """The client has gone, or the server stops: nothing more can be sent or received."""


class Aborted(Exception):
    """Ends a coroutine handler after :meth:`Call.abort`."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A method whose one request is handed to a plain function, which answers through the call.

    Attributes:
        handle: Must not fail; called on the event loop.
        lasting: The answer may take long, so ``Call.on_gone`` is called when the client goes first.
    """

    handle: Callable[[bytes, "Call"], None]
    lasting: bool = False


class Call:
    """One rpc. ``caller`` is who makes it, as the server's ``admit`` said."""

    __slots__ = (
        "caller",
        "is_over",
        "on_gone",
        "_attended",
        "_code",
        "_core",
        "_details",
        "_deserialize",
        "_loop",
        "_metadata",
        "_opened",
        "_reading",
        "_sent",
        "_serialize",
        "_trailing",
        "_writing",
    )

    def __init__(self, core: Any, caller: Any, metadata: Metadata, loop: Any) -> None:
        self.caller = caller
        self.is_over = False
        self.on_gone: Callable[[], Any] | None = None
        self._core = core
        self._metadata = metadata
        self._loop = loop
        self._attended = False  # gRPC was asked to tell when the call is over
        self._opened = False  # initial metadata was sent
        self._reading: asyncio.Future[Any] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._sent: Callable[[], None] | None = None
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._serialize: Callable[[Any], bytes] | None = None
        self._deserialize: Callable[[bytes], Any] | None = None

    # --- for every handler -----------------------------------------------------------------------

    def invocation_metadata(self) -> Metadata:
        """The call's metadata."""
        return self._metadata

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Send this with the status."""
        self._trailing = metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """End with this status, unless the handler says otherwise."""
        self._code = code

    def set_details(self, details: str) -> None:
        """End with this text, unless the handler says otherwise."""
        self._details = details

    def peer(self) -> str:
        """The client's address, as gRPC writes it."""
        return str(self._core.peer().decode("utf-8", "replace"))

    # --- for plain functions ---------------------------------------------------------------------

    def finish(self, message: bytes | None = None) -> None:
        """End the call with success; with a message, in one and the same batch."""
        if self.is_over:
            return
        operations = self._opening()
        if message is not None:
            operations.append(cygrpc.SendMessageOperation(message, 0))
        self._end(operations, _OK if self._code is None else self._code, self._details)

    def fail(self, code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> None:
        """End the call with an error."""
        if not self.is_over:
            self._trailing = trailing or self._trailing
            self._end(self._opening(), code, details)

    def send(self, message: bytes, sent: Callable[[], None]) -> None:
        """Send one message of a stream; ``sent`` is called when the next one may be sent.

        It is not called if the client has gone.
        """
        if self.is_over:
            return
        self._sent = sent
        self._send(message)

    # --- for coroutines: grpc.aio's names ---------------------------------------------------------

    async def read(self) -> Any:
        """Return the next message of the client's stream, or ``grpc.aio.EOF``.

        Raises:
            CallEnded: The call is over.
        """
        if self.is_over:
            raise CallEnded
        self._reading = self._loop.create_future()
        self._core.start_server_batch((cygrpc.ReceiveMessageOperation(0),), self._on_read)
        data = await self._reading
        if data is None:
            return grpc.aio.EOF
        return data if self._deserialize is None else self._deserialize(data)

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def write(self, message: Any) -> None:
        """Send one message; returns when the next one may be sent.

        Raises:
            CallEnded: The call is over.
        """
        if self.is_over:
            raise CallEnded
        self._writing = self._loop.create_future()
        self._send(message if self._serialize is None else self._serialize(message))
        await self._writing

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: Metadata = ()
    ) -> NoReturn:
        """End the call with an error, and its handler with an exception."""
        self.fail(code, details or self._details, trailing)
        raise Aborted

    # --- for the server --------------------------------------------------------------------------

    def serve_with(self, handler: Any) -> None:
        """Read and write messages as a method's handler says."""
        self._serialize = handler.response_serializer
        self._deserialize = handler.request_deserializer

    def finish_with(self, message: Any) -> None:
        """End a unary call with a message that is not serialised yet."""
        self.finish(message if self._serialize is None else self._serialize(message))

    def fail_unexpectedly(self, error: Exception) -> None:
        """End the call after an exception that its handler did not expect."""
        code = self._code if self._code is not None else grpc.StatusCode.UNKNOWN
        self.fail(code, self._details or f"unexpected {type(error).__name__}: {error}")

    def attend(self) -> None:
        """Notice from now on when the client gives up, or the server stops."""
        self._attended = True
        self._core.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_close)

    def _on_close(self, _event: Any) -> None:
        if self.is_over:
            return
        self.is_over = True
        for waiting in (self._reading, self._writing):
            if waiting is not None and not waiting.done():
                waiting.set_exception(CallEnded())
        if self.on_gone is not None:
            self.on_gone()

    # --- below -----------------------------------------------------------------------------------

    def _opening(self) -> list[Any]:
        if self._opened:
            return []
        self._opened = True
        return [cygrpc.SendInitialMetadataOperation((), 0)]

    def _send(self, message: bytes) -> None:
        operations = self._opening()
        operations.append(cygrpc.SendMessageOperation(message, 0))
        self._core.start_server_batch(operations, self._on_sent)

    def _end(self, operations: list[Any], code: grpc.StatusCode, details: str) -> None:
        self.is_over = True
        self.on_gone = None
        operations.append(
            cygrpc.SendStatusFromServerOperation(self._trailing, code.value[0], details, 0)
        )
        if not self._attended:
            # Without it gRPC cancels a call that it lets go of, and the status with it.
            operations.append(cygrpc.ReceiveCloseOnServerOperation(0))
        self._core.start_server_batch(operations, _ignore)

    def _on_read(self, event: Any) -> None:
        reading = self._reading
        if reading is not None and not reading.done():
            reading.set_result(event.batch_operations[0].message())

    def _on_sent(self, event: Any) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            if event.success:
                sent()
            return
        writing = self._writing
        if writing is not None and not writing.done():
            if event.success:
                writing.set_result(None)
            else:
                writing.set_exception(CallEnded())


def _ignore(_event: Any) -> None:
    """The status is sent, or nobody is there to take it."""
