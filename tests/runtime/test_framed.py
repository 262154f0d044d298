import asyncio
import struct

from flame.runtime.framed_call import FramedCall


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(message)) + message for message in messages)


def call_on(wire: Wire) -> FramedCall:
    call = FramedCall(bytes, 1000)
    call.protocol.connection_made(wire)
    return call


async def test_the_taker_is_told_when_all_that_arrived_together_is_taken() -> None:
    call, seen = call_on(Wire()), list[bytes]()
    call.protocol.data_received(framed(b"a", b"b"))
    reading = asyncio.ensure_future(call.deliver(seen.append, lambda: seen.append(b"|")))
    await asyncio.sleep(0)
    data = framed(b"c", b"d", b"in pieces")
    call.protocol.data_received(data[:-3])
    call.protocol.data_received(data[-3:])
    call.protocol.connection_lost(None)
    await reading
    assert seen == [b"a", b"b", b"|", b"c", b"d", b"|", b"in pieces", b"|"]


async def test_it_is_told_of_what_was_taken_before_a_message_that_ends_the_connection() -> None:
    wire, seen = Wire(), list[bytes]()
    call = call_on(wire)

    def take(message: bytes) -> None:
        seen.append(message)
        if message == b"bad":
            raise ValueError(message)

    reading = asyncio.ensure_future(call.deliver(take, lambda: seen.append(b"|")))
    await asyncio.sleep(0)
    call.protocol.data_received(framed(b"good", b"bad", b"never"))
    assert seen == [b"|", b"good", b"bad", b"|"]
    assert wire.closing
    call.protocol.connection_lost(None)
    assert isinstance((await asyncio.gather(reading, return_exceptions=True))[0], ValueError)
