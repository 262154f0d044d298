"""What a row's bytes mean.

    blob       = version (1 byte) │ crc32 (4 bytes, little endian) │ msgpack
    check_sum  = crc32 of the table's name and the row's other columns
    blob's crc = crc32 of its msgpack, continued from the row's check_sum

So a blob belongs to its row: a damaged byte, a damaged number or a blob in another row are all
found when the row is read, and named. Specifications are stored by field name; a field that a later
version adds must have a default.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from zlib import crc32

import msgspec

from flame.core.records import OutcomesRecorded
from flame.model.credentials import TokenSpec
from flame.model.ids import ExecutorId, SessionNumber, TaskId
from flame.model.specs import ApplicationSpec, Event, Failure, SessionSpec, TaskLimits, TaskState
from flame.model.task_notes import TaskNotes
from flame.model.tenants import TenantSpec
from flame.storage.store import CorruptStore

T = TypeVar("T")
Column = int | str | bytes | None

ROW_VERSION = 1
_HEAD = struct.Struct("<BI")
_encoder = msgspec.msgpack.Encoder()

#: The outputs, and (index, state, code, message) of each task that did not succeed.
Results = tuple[list[bytes | None], list[tuple[int, TaskState, int, str]]]


class Lost(msgspec.Struct, array_like=True):
    """What is kept of a lost lease; version 1 ended with ``lost_ms``."""

    executor: ExecutorId
    incarnation: int
    task_ids: list[TaskId]
    cause: str
    lost_ms: int
    node: str = ""
    detail: str = ""
    pid: int = 0
    exit_code: int = 0
    signal: int = 0


application_spec: Final = msgspec.msgpack.Decoder(ApplicationSpec)
session_spec: Final = msgspec.msgpack.Decoder(SessionSpec)
tenant_spec: Final = msgspec.msgpack.Decoder(TenantSpec)
token_spec: Final = msgspec.msgpack.Decoder(TokenSpec)
event: Final = msgspec.msgpack.Decoder(Event)
inputs: Final = msgspec.msgpack.Decoder(list[bytes | None])
ids: Final = msgspec.msgpack.Decoder(list[TaskId])
streams: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes])  # a task's stdout and stderr
results: Final = msgspec.msgpack.Decoder(Results)
lost: Final = msgspec.msgpack.Decoder(Lost)


_notes: Final = msgspec.msgpack.Decoder(dict[int, TaskNotes])
_limits: Final = msgspec.msgpack.Decoder(dict[int, TaskLimits])


def check_sum(table: str, *columns: Column) -> int:
    """Sum up the columns of one row."""
    return crc32(_encoder.encode((table, *columns)))


def verify(table: str, key: object, stored: int, *columns: Column) -> None:
    """Raise :class:`CorruptStore` unless ``stored`` is the check sum of these columns."""
    if check_sum(table, *columns) != stored:
        raise CorruptStore(f"table {table}, row {key}: its check sum does not match its columns")


def seal(value: object, check: int) -> bytearray:
    """Encode a blob for the row with this check sum."""
    blob = bytearray(_HEAD.size)
    _encoder.encode_into(value, blob, _HEAD.size)
    with memoryview(blob) as view:
        crc = crc32(view[_HEAD.size :], check)
    _HEAD.pack_into(blob, 0, ROW_VERSION, crc)
    return blob


def unseal(
    decoder: msgspec.msgpack.Decoder[T], blob: object, check: int, table: str, key: object
) -> T:
    """Decode a blob of the row with this check sum.

    Raises:
        CorruptStore: It is not what :func:`seal` made.
    """
    if not isinstance(blob, bytes) or len(blob) < _HEAD.size:  # a flipped bit can change the type
        raise CorruptStore(f"table {table}, row {key}: {blob!r:.60} is not a blob of Flame's")
    version, crc = _HEAD.unpack_from(blob)
    view = memoryview(blob)[_HEAD.size :]
    if crc32(view, check) != crc or version != ROW_VERSION:
        raise CorruptStore(
            f"table {table}, row {key}: check sum or version (seen {version}, known"
            f" {ROW_VERSION}) of its blob does not match its {len(view)} bytes"
        )
    try:
        return decoder.decode(view)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptStore(f"table {table}, row {key}: {error}") from error


def outcomes_columns(record: OutcomesRecorded) -> tuple[tuple[int, ...], bool]:
    """Return (session, first_position, count, min_id, max_id, succeeded, failed, cancelled,
    finished_ms), and whether the ids are min_id, min_id + 1, ..., max_id.
    """
    task_ids = record.task_ids
    size = len(task_ids)
    low, high = task_ids[0], task_ids[-1]
    run = high - low + 1 == size and (size < 3 or list(task_ids) == list(range(low, high + 1)))
    if not run:
        low, high = min(task_ids), max(task_ids)
    failed = cancelled = 0
    for state, _, _ in record.failures.values():
        if state == TaskState.CANCELLED:
            cancelled += 1
        else:
            failed += 1
    succeeded = size - failed - cancelled
    numbers = (record.session, record.first_position, size, low, high)
    return (*numbers, succeeded, failed, cancelled, record.finished_ms), run


def encode_results(record: OutcomesRecorded) -> tuple[Sequence[bytes | None], list[object]]:
    """Put outputs and failures into the shape of :data:`Results`."""
    return record.outputs, [
        (index, state, code, message) for index, (state, code, message) in record.failures.items()
    ]


def decode_results(
    session: SessionNumber,
    first_position: int,
    task_ids: Sequence[TaskId],
    stored: Results,
    finished_ms: int,
) -> OutcomesRecorded:
    """Put a row's parts together again."""
    outputs, failed = stored
    failures: dict[int, Failure] = {
        index: (state, code, message) for index, state, code, message in failed
    }
    return OutcomesRecorded(session, first_position, task_ids, outputs, failures, finished_ms)


def with_limits(
    given: Sequence[bytes | None],
    limits: Mapping[int, TaskLimits] | None,
    notes: Mapping[int, TaskNotes] | None,
) -> Sequence[bytes | None]:
    """Return what is stored as a batch's inputs: where tasks have limits, these come behind them.

    And behind those what is said of some tasks.
    """
    if notes:
        return [*given, _encoder.encode(limits or {}), _encoder.encode(notes)]
    return [*given, _encoder.encode(limits)] if limits else given


def limits_of(blob: bytes | None) -> dict[int, TaskLimits]:
    """Undo :func:`with_limits` for what is behind the inputs."""
    return _limits.decode(blob or b"\x80")


def notes_of(blob: bytes | None) -> dict[int, TaskNotes]:
    """Undo :func:`with_limits` for what is behind the limits."""
    return _notes.decode(blob or b"\x80")
