"""Who may open a framed stream, and how the two kinds of connection reach it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc.aio
import pytest

from flame.model.errors import FlameError, Unauthenticated
from flame.model.ids import ExecutorId, Tenant
from flame.runtime.framed_call import FramedCall, deliver
from flame.session_manager.access import Access, Caller, executor_credential
from flame.session_manager.framed_port import FramedPort, decoder
from flame.session_manager.framed_stream import HELLO_BYTES, FramedStream
from flame.wire import frames
from flame.wire.channels import bearer
from flame.wire.framed import framed_hello
from flame.wire.frames import ClientFrame, FramedAddress, ManagerFrame
from flame.wire.status import error_of_refusal, refusal_of
from flame.wire.v1 import TENANT_KEY

TOKEN = "correct-horse"
MOST_BYTES = 1024 * 1024


class Echo:
    """A channel that answers every hello with the name it brings, and notes who came."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.ended = asyncio.Event()

    def refusal(self, error: FlameError) -> ManagerFrame:
        return ManagerFrame(refusal=refusal_of(error, closing=True))

    def accept(self, caller: Caller, stream: FramedStream) -> None:
        self.callers.append(caller)

        def answer(frame: ClientFrame) -> None:
            stream.put(ManagerFrame(hello=frames.ManagerHello(epoch=len(frame.hello.client))))

        stream.serve(decoder(ClientFrame, answer), self.ended.set, list, self.refusal)


class Served(NamedTuple):
    channel: Echo
    address: FramedAddress


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    channel = Echo()
    port = FramedPort(Access(TOKEN).admit, {frames.TASK_CHANNEL: channel}, MOST_BYTES)
    yield Served(channel, await port.listen("127.0.0.1", 0, None))
    await port.close()


async def connect(address: FramedAddress, *, local: bool = True) -> FramedCall:
    return await FramedCall.open(
        "127.0.0.1",
        address.port,
        address.local if local else "",
        None,
        ManagerFrame.FromString,
        most_bytes=MOST_BYTES,
        timeout=5.0,
    )


async def greet(call: FramedCall, *metadata: tuple[str, str], channel: str = "") -> Any:
    """Open a channel on the connection, say hello there, and return the answer."""
    await call.write(framed_hello(channel or frames.TASK_CHANNEL, metadata))
    await call.write(ClientFrame(hello=frames.ClientHello(client="four")))
    return await call.read()


@pytest.mark.parametrize("local", [True, False], ids=["local socket", "TCP"])
async def test_a_caller_with_the_token_gets_through(served: Served, local: bool) -> None:
    call = await connect(served.address, local=local)
    answer = await greet(call, *bearer(TOKEN), (TENANT_KEY, "research"))
    assert answer.hello.epoch == 4
    assert [caller.tenant for caller in served.channel.callers] == [Tenant("research")]
    call.cancel()
    await asyncio.wait_for(served.channel.ended.wait(), 5.0)


@pytest.mark.parametrize(
    "credential",
    ["", "wrong", executor_credential(TOKEN, ExecutorId("e-1"), 1)],
    ids=["none", "wrong", "an executor's"],
)
async def test_others_are_told_no_and_cut_off(served: Served, credential: str) -> None:
    call = await connect(served.address)
    answer = await greet(call, *bearer(credential))
    error = error_of_refusal(answer.refusal)
    assert isinstance(error, FlameError)
    assert answer.refusal.closing
    assert await call.read() is grpc.aio.EOF
    assert served.channel.callers == []


async def test_what_nobody_serves_is_cut_off_in_silence(served: Served) -> None:
    call = await connect(served.address)
    try:
        answer = await greet(call, *bearer(TOKEN), channel=frames.NODE_CHANNEL)
    except asyncio.InvalidStateError:
        answer = grpc.aio.EOF
    assert answer is grpc.aio.EOF


async def test_a_stranger_cannot_send_a_large_first_message(served: Served) -> None:
    call = await connect(served.address)
    await call.write(frames.FramedHello(channel="x" * (HELLO_BYTES + 1)))
    assert await call.read() is grpc.aio.EOF


async def test_a_name_that_is_not_on_this_machine_means_tcp(served: Served) -> None:
    elsewhere = FramedAddress(port=served.address.port, local="flame-of-another-machine")
    call = await connect(elsewhere)
    assert (await greet(call, *bearer(TOKEN))).hello.epoch == 4
    call.cancel()


async def test_nonsense_after_the_hello_is_refused(served: Served) -> None:
    call = await connect(served.address)
    await greet(call, *bearer(TOKEN))
    call.protocol.send([b"\xff\xff\xff"])
    answer = await call.read()
    assert "cannot be read" in answer.refusal.message
    assert await call.read() is grpc.aio.EOF


async def test_an_error_of_the_taker_ends_the_call_and_is_raised(served: Served) -> None:
    call = await connect(served.address)

    def take(_frame: ManagerFrame) -> None:
        raise Unauthenticated("enough")

    await call.write(framed_hello(frames.TASK_CHANNEL, bearer(TOKEN)))
    await call.write(ClientFrame(hello=frames.ClientHello(client="four")))
    with pytest.raises(Unauthenticated, match="enough"):
        await deliver(call, take)
    await asyncio.wait_for(served.channel.ended.wait(), 5.0)
