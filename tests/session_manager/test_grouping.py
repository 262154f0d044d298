"""What arrives together is committed together."""

import asyncio
import struct
from collections.abc import Sequence

from flame.core import events
from flame.core.records import Record, TasksSubmitted
from flame.model.ids import Tenant
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.session_manager.access import Caller, CallerKind
from flame.session_manager.framed_stream import FramedStream
from flame.session_manager.shell import Shell
from flame.storage.memory import MemoryStore
from flame.wire import frames
from flame.wire.frames import ClientFrame

TENANT = Tenant("acme")
SESSIONS = ("one", "two", "three")


class NotingStore(MemoryStore):
    """A store that remembers how many submits came with each commit that had any."""

    def __init__(self) -> None:
        super().__init__()
        self.submits: list[int] = []

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        count = sum(isinstance(record, TasksSubmitted) for record in group)
        if count:
            self.submits.append(count)
        super().commit(group, sync=sync)


class Unread(asyncio.Transport):
    """A connection whose peer never reads."""

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def writelines(self, list_of_data: object) -> None:
        """Nobody reads it."""

    def abort(self) -> None:
        """There is nothing to end."""


def arrive(stream: FramedStream, *sent: ClientFrame) -> None:
    """Have the frames be in one read."""
    messages = [frame.SerializeToString() for frame in sent]
    stream.protocol.data_received(b"".join(struct.pack(">I", len(m)) + m for m in messages))


async def test_submits_that_are_read_together_share_a_commit() -> None:
    store = NotingStore()
    shell = Shell(store=store, token="token")
    await shell.start()
    spec = ApplicationSpec()
    await shell.calls.call(lambda reply: events.RegisterApplication(TENANT, "a", spec, reply))
    for name in SESSIONS:
        session = SessionSpec("a")
        await shell.calls.call(
            lambda reply, n=name, s=session: events.CreateSession(TENANT, n, s, reply)  # type: ignore[misc]
        )
    stream = FramedStream(lambda _stream, _message: None, lambda _stream: None)
    stream.protocol.connection_made(Unread())
    shell.clients.accept(Caller(TENANT, CallerKind.OPERATOR), stream)
    arrive(stream, ClientFrame(hello=frames.ClientHello(client="c")))
    for alias, name in enumerate(SESSIONS, 1):
        attach = frames.Attach(alias=alias, session=name, submitter=b"0123456789abcdef")
        arrive(stream, ClientFrame(attach=attach))
    submits = [
        ClientFrame(submit=frames.Submit(alias=alias, first_number=0, inputs=[b"x"]))
        for alias in range(1, len(SESSIONS) + 1)
    ]
    arrive(stream, *submits)
    assert store.submits == []  # more may be there to be read
    await asyncio.sleep(0)  # one turn of the loop
    assert store.submits == [len(SESSIONS)]
    assert [shell.calls.session(TENANT, name).pending for name in SESSIONS] == [1, 1, 1]
    await shell.stop()
