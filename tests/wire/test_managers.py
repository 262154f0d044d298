"""Channels to the session managers: a connection that failed or fell silent is not waited for."""

import asyncio
import socket
from typing import Any

import grpc
import grpc.aio
import pytest

from flame.wire.managers import Managers, parse_endpoints

PATH = "/test/Answer"
TRIES = 8  # after so many that failed, gRPC would try again after seconds only


async def _serve(port: int) -> grpc.aio.Server:
    async def answer(_request: bytes, _context: object) -> bytes:
        return b"here"

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {"Answer": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    return server


async def _ask(managers: Managers) -> bytes:
    rpc: Any = managers.channels[managers.current].unary_unary(PATH)
    answer: bytes = await rpc(b"", timeout=20.0)
    return answer


async def _fails(managers: Managers) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _ask(managers)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_the_first_call_after_a_restart_gets_through() -> None:
    port = _free_port()
    async with Managers(parse_endpoints(f"http://127.0.0.1:{port}")) as managers:
        for _ in range(TRIES):
            await _fails(managers)
            await managers.reopen_unless_connected(managers.current)
            await asyncio.sleep(0.05)
        server = await _serve(port)
        assert await _ask(managers) == b"here"
        await server.stop(None)


async def test_a_connection_that_works_is_kept() -> None:
    port = _free_port()
    server = await _serve(port)
    async with Managers(parse_endpoints(f"http://127.0.0.1:{port}")) as managers:
        await _ask(managers)
        channel = managers.channels[managers.current]
        await managers.reopen_unless_connected(managers.current)
        assert managers.channels[managers.current] is channel
        await managers.reopen(managers.current)  # it was silent
        assert managers.channels[managers.current] is not channel
        assert await _ask(managers) == b"here"
    await server.stop(None)


async def test_a_call_under_way_on_a_connection_that_is_given_up_ends() -> None:
    port = _free_port()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", port))
        silent.listen()
        async with Managers(parse_endpoints(f"http://127.0.0.1:{port}")) as managers:
            waiting = asyncio.ensure_future(_ask(managers))
            await asyncio.sleep(0.05)
            await managers.reopen(managers.current)
            await asyncio.wait([waiting], timeout=5.0)
            assert waiting.cancelled() or isinstance(waiting.exception(), grpc.aio.AioRpcError)
