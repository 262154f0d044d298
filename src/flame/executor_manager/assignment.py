"""What an executor manager tells a process that it started, over their private socket.

    executor manager ──Assignment──▶ process        who it is, where to report
    executor manager ──Stop──▶       process        finish the running task, then end
    process ──"ready"──▶ executor manager           imports are done, an assignment may come
    process ──"assigned"──▶ executor manager        it has become that executor

Either side's end of the socket closes with its process, which the other side notices: that is how
an executor sees that its manager is gone, beside the guardian.
"""

from collections.abc import Iterator

import msgspec

from flame.executor_manager.packages.place import Place
from flame.model.volumes import Volume

READY = b"r"
ASSIGNED = b"a"

_LENGTH_BYTES = 4
_MOST_BYTES = 1024 * 1024


class Assignment(msgspec.Struct, frozen=True, tag=True):
    """Become this executor.

    Attributes:
        endpoint: The session managers' addresses, with commas; the one that leads first.
        credential: Good for this executor's incarnation only.
        directory: The executor's own, and where its service runs unless the application says.
        cell: Path of the cell to write.
        socket: Path at which a service of the host shim shall listen.
        max_output_bytes: The largest output of a task.
        framed_port: The leading one's port for streams without gRPC; 0: it has none.
        framed_local: And the name of its local socket for them.
        environment: Variables for its services, which an application's own beat.
        memory_events: A file that counts what the kernel kills here for memory; empty: there is none.
        bwrap: The program that makes sandboxes; empty: this node has none.
        no_bwrap: Why it has none.
        hidden: What services in a sandbox must not see.
        sandbox: The sandbox that this process is in; empty: in none.
        place: The release of the application's package; None: it has none.
        gpu_ids: The GPUs that are its own.
        devices: Variables that say what it has, which an application's own do not beat.
        volume_allow: What this node allows as volumes: paths, and whether they may be written to.
        volumes: Those that a process in a sandbox has: as the application names them, as they are.
        no_volumes: Why it has not got what its application names: the binding fails with it.
        unprepared: Why the package could not be prepared: the binding fails with it.
    """

    executor: str
    incarnation: int
    node: str
    endpoint: str
    ca_file: str | None
    credential: str
    directory: str
    cell: str
    socket: str
    max_output_bytes: int
    framed_port: int = 0
    framed_local: str = ""
    environment: dict[str, str] = {}
    memory_events: str = ""
    bwrap: str = ""
    no_bwrap: str = "nobody looked for one"
    hidden: list[str] = []
    sandbox: str = ""
    place: Place | None = None
    unprepared: str = ""
    gpu_ids: list[str] = []
    devices: dict[str, str] = {}
    volume_allow: list[tuple[str, bool]] = []
    volumes: list[tuple[Volume, Volume]] = []
    no_volumes: str = ""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Finish the task that runs, leave the session, end."""


Order = Assignment | Stop

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)


def encode(order: Order) -> bytes:
    """Return an order with its length in front, for a stream socket."""
    data = _encoder.encode(order)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


class Orders:
    """Cuts a stream of bytes into orders."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Order]:
        """Yield the orders that are complete with ``data``.

        Raises:
            ValueError: The bytes are not orders.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if length > _MOST_BYTES:
                raise ValueError(f"an order of {length} bytes; at most {_MOST_BYTES} are allowed")
            end = _LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield _decoder.decode(data)
