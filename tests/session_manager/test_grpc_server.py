"""The server on gRPC's completion queue, as any gRPC client sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from flame.session_manager.call import Call, CallEnded, Direct
from flame.session_manager.grpc_server import READY_FOR, GrpcServer

Code = grpc.StatusCode
PATIENCE = 60.0  # seconds


class Methods(grpc.GenericRpcHandler):
    """One method per test, at ``/t/M``."""

    def __init__(self) -> None:
        self.handler: Any = None

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self.handler if details.method == "/t/M" else None


class Served:
    """A server and a channel to it."""

    def __init__(self, server: GrpcServer, methods: Methods, channel: grpc.aio.Channel) -> None:
        self.server = server
        self._methods = methods
        self._channel = channel

    def unary(self, handle: Callable[[bytes, Any], Any]) -> Any:
        self._methods.handler = grpc.unary_unary_rpc_method_handler(handle)
        return self._channel.unary_unary("/t/M")

    def streaming(self, handle: Callable[[bytes, Any], Any]) -> Any:
        self._methods.handler = grpc.unary_stream_rpc_method_handler(handle)
        return self._channel.unary_stream("/t/M")

    def bidirectional(self, handle: Callable[[Any, Any], Any]) -> Any:
        self._methods.handler = grpc.stream_stream_rpc_method_handler(handle)
        return self._channel.stream_stream("/t/M")

    def direct(self, handle: Callable[[bytes, Call], None], *, lasting: bool = False) -> Any:
        self._methods.handler = Direct(handle, lasting)
        return self._channel.unary_stream("/t/M")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    methods = Methods()
    server = GrpcServer(lambda _method, _metadata: None)
    server.add_generic_rpc_handlers((methods,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with asyncio.timeout(PATIENCE), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(server, methods, channel)
        await server.stop(None)


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def echo(request: bytes, _context: Any) -> bytes:
    return request


async def test_more_calls_at_once_than_it_is_ready_for_are_all_answered(served: Served) -> None:
    call = served.unary(echo)
    payloads = [b"%d" % number for number in range(5 * READY_FOR)]
    assert await asyncio.gather(*(call(payload) for payload in payloads)) == payloads


async def test_empty_and_large_messages_pass(served: Served) -> None:
    call = served.unary(echo)
    assert await call(b"") == b""
    large = bytes(3 * 1024 * 1024)
    assert await call(large) == large


async def test_a_stream_is_read_and_written_in_order_by_a_coroutine(served: Served) -> None:
    async def handle(_requests: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)
            await context.write(message.upper())

    call = served.bidirectional(handle)(iter([b"a", b"b"]))
    assert [message async for message in call] == [b"a", b"A", b"b", b"B"]
    assert await call.code() is Code.OK


async def test_a_stream_is_served_by_an_asynchronous_generator(served: Served) -> None:
    async def handle(requests: Any, _context: Any) -> AsyncIterator[bytes]:
        async for message in requests:
            yield message[::-1]

    call = served.bidirectional(handle)(iter([b"ab", b"cd"]))
    assert [message async for message in call] == [b"ba", b"dc"]


async def test_metadata_goes_both_ways(served: Served) -> None:
    async def handle(_request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("seen", dict(context.invocation_metadata())["key"]),))
        peer: str = context.peer()
        return peer.encode()

    call = served.unary(handle)(b"", metadata=(("key", "value"),))
    assert (await call).startswith(b"ipv4:127.0.0.1:")
    assert ("seen", "value") in list(await call.trailing_metadata())


async def test_an_unexpected_exception_ends_its_call_only(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: bytes, _context: Any) -> bytes:
        return b"%d" % (1 // len(request))

    call = served.unary(handle)
    code, text = await failure(call(b""))
    assert (code, text) == (
        Code.UNKNOWN,
        "unexpected ZeroDivisionError: integer division or modulo by zero",
    )
    assert "rpc-failed method=/t/M" in caplog.text
    assert await call(b"x") == b"1"


async def test_an_abort_in_the_middle_of_a_stream_comes_after_what_was_sent(served: Served) -> None:
    async def handle(_request: bytes, context: Any) -> None:
        await context.write(b"first")
        await context.abort(Code.NOT_FOUND, "no more")

    call = served.streaming(handle)(b"")
    assert await call.read() == b"first"
    assert await failure(call.read()) == (Code.NOT_FOUND, "no more")


async def test_an_unknown_method_is_unimplemented(served: Served) -> None:
    call = served.unary(echo)
    channel = served._channel
    other: Any = channel.unary_unary("/t/Other")
    assert await failure(other(b"")) == (Code.UNIMPLEMENTED, "there is no method /t/Other")
    assert await call(b"x") == b"x"


async def test_a_call_without_its_one_message_is_refused(served: Served) -> None:
    served.unary(echo)
    empty: Any = served._channel.stream_unary("/t/M")
    assert await failure(empty(iter(()))) == (Code.UNIMPLEMENTED, "/t/M takes exactly one message")


@pytest.mark.parametrize("lasting", [False, True])
async def test_a_plain_function_answers_at_once_or_later(served: Served, lasting: bool) -> None:
    def handle(request: bytes, call: Call) -> None:
        if request == b"now":
            call.finish(b"done")
        else:
            asyncio.get_running_loop().call_later(0.001, call.finish, b"done")

    start = served.direct(handle, lasting=lasting)
    for request in (b"now", b"later"):
        call = start(request)
        assert [message async for message in call] == [b"done"]
        assert await call.code() is Code.OK


async def test_a_plain_function_sends_several_messages_then_finishes(served: Served) -> None:
    def handle(_request: bytes, call: Call) -> None:
        call.send(b"one", lambda: call.send(b"two", lambda: call.finish(b"three")))

    call = served.direct(handle, lasting=True)(b"")
    assert [message async for message in call] == [b"one", b"two", b"three"]


async def test_a_plain_function_learns_that_its_client_has_gone(served: Served) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()
    calls: list[Call] = []

    def handle(_request: bytes, call: Call) -> None:
        call.on_gone = gone.set
        calls.append(call)
        begun.set()

    call = served.direct(handle, lasting=True)(b"")
    await begun.wait()
    call.cancel()
    await gone.wait()
    [over] = calls
    assert over.is_over
    over.finish(b"late")  # harmless
    with pytest.raises(CallEnded):
        await over.write(b"late")


async def test_a_coroutine_is_cancelled_when_its_client_goes(served: Served) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(_request: bytes, _context: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    call = served.streaming(handle)(b"")
    await begun.wait()
    call.cancel()
    await ended.wait()


async def test_a_deadline_ends_the_handler_too(served: Served) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handle(_request: bytes, _context: Any) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    call, timeout = served.unary(handle), 0.05
    while not began.is_set():  # on a busy machine a call may be over before it gets there
        code, _ = await failure(call(b"", timeout=timeout))
        assert code is Code.DEADLINE_EXCEEDED
        timeout *= 2
    await ended.wait()


async def test_a_slow_reader_holds_up_the_writer(served: Served) -> None:
    written = 0

    async def handle(_request: bytes, context: Any) -> None:
        nonlocal written
        for _ in range(200):
            await context.write(bytes(256 * 1024))
            written += 1

    call = served.streaming(handle)(b"")
    assert len(await call.read()) == 256 * 1024
    before = -1
    while before != written:  # until the windows between the two are full
        before = written
        await asyncio.sleep(0.1)
    assert written < 200
    call.cancel()


async def test_stopping_lets_a_short_call_end_and_cuts_a_long_one(served: Served) -> None:
    begun = asyncio.Semaphore(0)
    release = asyncio.Event()

    async def handle(request: bytes, _context: Any) -> bytes:
        begun.release()
        await (release if request == b"short" else asyncio.Event()).wait()
        return request

    start = served.unary(handle)
    short, long = start(b"short"), start(b"long")
    await begun.acquire()
    await begun.acquire()
    stopping = asyncio.create_task(served.server.stop(0.3))
    release.set()
    assert await short == b"short"
    code, _ = await failure(long)
    assert code in (Code.UNAVAILABLE, Code.CANCELLED)
    await stopping
    await served.server.stop(None)  # again: nothing happens
    assert not await served.server.wait_for_termination(1)
