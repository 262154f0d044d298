"""Speaking to a session manager without the SDK: what the SDK would refuse itself, and nonsense."""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import grpc
import psutil

from flame.wire import frames
from flame.wire.channels import bearer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ANSWER_WITHIN = 0.05  # seconds to wait for what a port says to nonsense


def refused_submit(endpoint: str, token: str, session: str, value: bytes) -> str:
    """Submit one task on a task channel of its own; return why it was refused ("" if it was not)."""
    target = endpoint.removeprefix("http://")
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options=options) as channel:
        connect = channel.stream_stream(
            frames.TASK_CHANNEL,
            request_serializer=frames.ClientFrame.SerializeToString,
            response_deserializer=frames.ManagerFrame.FromString,
        )
        said = [
            frames.ClientFrame(hello=frames.ClientHello(client="raw")),
            frames.ClientFrame(
                attach=frames.Attach(alias=1, session=session, submitter=random.randbytes(16))
            ),
            frames.ClientFrame(submit=frames.Submit(alias=1, first_number=0, inputs=[value])),
        ]
        answered = threading.Event()

        def speak() -> Iterator[frames.ClientFrame]:
            yield from said
            answered.wait(30.0)  # the end of what we say is the end of the stream

        try:
            for frame in connect(speak(), metadata=bearer(token), timeout=30.0):
                kind = frame.WhichOneof("frame")
                if kind == "submit_refused":
                    return str(frame.submit_refused.refusal.message)
                if kind == "refusal":
                    return str(frame.refusal.message)
                if kind == "accepted":
                    return ""
        except grpc.RpcError as error:
            return str(error.details())
        finally:
            answered.set()
    return ""


def ports_of(pid: int) -> list[int]:
    """Return the ports on which a process listens."""
    return sorted(
        {c.laddr.port for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"}
    )


def attack(port: int, dice: random.Random) -> str:
    """Send one kind of nonsense to a port; return its name."""
    kind = dice.choice(list(_NONSENSE))
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        connection.settimeout(ANSWER_WITHIN)
        try:
            for part in _NONSENSE[kind](dice):
                connection.sendall(part)
            connection.recv(4096)
        except OSError:
            pass  # it closed the connection, or says nothing
    return kind


def _message(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _http2(dice: random.Random) -> bytes:
    """Return one HTTP/2 frame of any kind, with nonsense inside."""
    payload = dice.randbytes(dice.choice((0, 1, 8, 300)))
    length = struct.pack(">I", dice.choice((len(payload), len(payload), 0xFFFFFF)))[1:]
    kind, flags = dice.randrange(12), dice.randrange(256)
    return length + bytes((kind, flags)) + struct.pack(">I", dice.getrandbits(31)) + payload


def _hello(dice: random.Random) -> bytes:
    channels = (frames.EXECUTOR_CHANNEL, frames.TASK_CHANNEL, frames.NODE_CHANNEL, "/nothing")
    number = dice.getrandbits(40)
    return frames.FramedHello(
        channel=dice.choice(channels), credential=f"x.nobody.{number}." + "0" * 64
    ).SerializeToString()


def _cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


_NONSENSE: dict[str, Callable[[random.Random], list[bytes]]] = {
    "random bytes": lambda dice: [dice.randbytes(dice.choice((1, 3, 64, 5000)))],
    "a preface and random bytes": lambda dice: [PREFACE, dice.randbytes(200)],
    "http/2 frames of nonsense": lambda dice: [PREFACE, *[_http2(dice) for _ in range(10)]],
    "http/1": lambda dice: [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a tls hello": lambda dice: [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        dice.randbytes(500),
    ],
    "an endless length": lambda dice: [b"\xff\xff\xff\xff", dice.randbytes(100)],
    "a message of nonsense": lambda dice: [_message(dice.randbytes(dice.choice((1, 40, 2000))))],
    "a forged credential": lambda dice: [_message(_hello(dice))],
    "half a message": lambda dice: [_cut(_message(_hello(dice)), dice)],
    "an empty message": lambda dice: [_message(b"")],
    "nothing": lambda dice: [],
}
