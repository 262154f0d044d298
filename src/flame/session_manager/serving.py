"""From a function that answers, or raises a FlameError, to a gRPC method.

Every error leaves a handler as a status with a sentence, and with the error's class in the trailing
metadata (``v1.ERROR_KEY``), because the v1 contract fixes some codes that say less.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from flame.model.errors import FlameError, InvalidRequest
from flame.session_manager.access import Caller, caller_of
from flame.session_manager.call import Call, Direct
from flame.wire import v1
from flame.wire.status import code_of

log = logging.getLogger(__name__)

Context = Call | Any  # or another server's context
CodeOf = Callable[[FlameError], grpc.StatusCode]
#: The answer to a unary call: a message, or its bytes where the handler had to measure it.
Answer = Callable[[Any, Caller, Context], Awaitable[Any]]
Stream = Callable[[Any, Caller, Context], Awaitable[None]]


async def refuse(context: Context, error: FlameError, code_of: CodeOf = code_of) -> NoReturn:
    """End the call with an error."""
    await context.abort(code_of(error), str(error), ((v1.ERROR_KEY, type(error).__name__),))
    raise AssertionError("abort returned")


def unary(method: v1.Method, answer: Answer, code_of: CodeOf = code_of) -> Any:
    """Serve a unary rpc; ``answer`` returns the response, or its bytes."""

    async def handle(request: bytes, context: Context) -> Any:
        try:
            return await answer(parse(method, request), caller_of(context), context)
        except FlameError as error:
            await refuse(context, error, code_of)
        except Exception as error:  # a bug of ours must not look like a fault of the network
            log.exception("rpc_failed method=%s", method.path)
            await refuse(context, FlameError(f"a bug in Flame: {error!r}"), code_of)

    return grpc.unary_unary_rpc_method_handler(handle, None, bytes_of)


def streaming(method: v1.Method, answer: Stream, code_of: CodeOf = code_of) -> Any:
    """Serve an rpc with streamed responses; ``answer`` writes their bytes to the context."""

    async def handle(request: bytes, context: Context) -> None:
        try:
            await answer(parse(method, request), caller_of(context), context)
        except FlameError as error:
            await refuse(context, error, code_of)
        except Exception as error:  # as above
            log.exception("rpc_failed method=%s", method.path)
            await refuse(context, FlameError(f"a bug in Flame: {error!r}"), code_of)

    return grpc.unary_stream_rpc_method_handler(handle)


def direct(
    method: v1.Method,
    answer: Callable[[Any, Call], None],
    code_of: CodeOf = code_of,
    *,
    lasting: bool = False,
) -> Direct:
    """Serve an rpc with one request on the hot path: ``answer`` ends the call, now or later.

    Args:
        method: The rpc.
        answer: May raise only before it has answered.
        code_of: The status of an error.
        lasting: See ``Direct``.
    """

    def handle(request: bytes, call: Call) -> None:
        try:
            answer(parse(method, request), call)
        except FlameError as error:
            end(call, error, code_of)
        except Exception as error:  # as above
            log.exception("rpc_failed method=%s", method.path)
            end(call, FlameError(f"a bug in Flame: {error!r}"), code_of)

    return Direct(handle, lasting)


def end(call: Call, error: FlameError, code_of: CodeOf = code_of) -> None:
    """End a call with an error, where there is no coroutine to end with it."""
    call.fail(code_of(error), str(error), ((v1.ERROR_KEY, type(error).__name__),))


def refused(method: v1.Method, code: grpc.StatusCode, sentence: str) -> Any:
    """Answer every call with one status."""

    async def handle(_requests: Any, context: Context) -> None:
        # A client whose first message is on its way when the status arrives may see an error of its
        # own transport instead.
        await context.read()
        await context.abort(code, sentence)

    # Streaming both ways suits every method.
    return grpc.stream_stream_rpc_method_handler(handle)


def service(methods: dict[str, Any]) -> Any:
    """Put handlers, by full method name, under one roof for a server."""
    return _Service(methods)


def receive_limit(context: Context, most: int) -> int:
    """Return how many bytes the client receives, at most the ``most`` that this server sends."""
    for key, value in context.invocation_metadata():
        if key == v1.MAX_RECEIVE_KEY and str(value).isdecimal():
            return min(int(value), most)
    return min(v1.RELEASED_MAX_RECEIVE, most)


class _Service(grpc.GenericRpcHandler):
    """A dictionary from method to handler."""

    def __init__(self, methods: dict[str, Any]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._methods.get(handler_call_details.method)


def parse(method: v1.Method, data: bytes) -> Any:
    """Read a request.

    Raises:
        InvalidRequest: It is none.
    """
    # Not left to gRPC, which would answer UNKNOWN and log a traceback for every malformed message.
    try:
        return method.request.FromString(data)
    except DecodeError as error:
        name = method.request.DESCRIPTOR.full_name
        raise InvalidRequest(f"the request is not a {name}: {error}") from error


def bytes_of(response: Any) -> bytes:
    """Return what is sent of an answer."""
    return response if type(response) is bytes else response.SerializeToString()
