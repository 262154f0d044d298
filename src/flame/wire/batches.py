"""Optional payloads and failures as parallel arrays.

Arrays of plain bytes encode several times faster than repeated messages (docs/decisions), so an
absent payload is an empty element whose index is listed beside the array, and failures are a short
list beside their indexes.
"""

from collections.abc import Iterable, Sequence

from flame.model.specs import Failure, TaskState
from flame.wire import frames


def pack(values: Sequence[bytes | None]) -> tuple[Sequence[bytes], Sequence[int]]:
    """Return (elements, indexes of absent ones) for the wire."""
    if None not in values:
        return values, ()  # type: ignore[return-value]
    absent = [index for index, value in enumerate(values) if value is None]
    return [value or b"" for value in values], absent


def unpack(elements: Iterable[bytes], absent: Sequence[int]) -> list[bytes | None]:
    """Undo :func:`pack`; an index beyond the elements is ignored."""
    values: list[bytes | None] = list(elements)
    for index in absent:
        if index < len(values):
            values[index] = None
    return values


def pack_failures(failures: dict[int, Failure]) -> tuple[list[int], list[frames.Failure]]:
    """Return (indexes, messages) for the wire."""
    if not failures:
        return [], []
    return list(failures), [
        frames.Failure(state=state, code=code, message=message)
        for state, code, message in failures.values()
    ]


def unpack_failures(
    indexes: Sequence[int], messages: Sequence[frames.Failure]
) -> dict[int, Failure]:
    """Undo :func:`pack_failures`."""
    return {
        index: (TaskState(failure.state), failure.code, failure.message)
        for index, failure in zip(indexes, messages, strict=True)
    }


def unpack_logs(
    indexes: Sequence[int], messages: Sequence[frames.TaskLog]
) -> dict[int, tuple[bytes, bytes]]:
    """Return what tasks wrote, (stdout, stderr), by their index."""
    return {i: (log.stdout, log.stderr) for i, log in zip(indexes, messages, strict=True)}


def cuts(values: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """Return (start, end) slices of a batch such that each fits in one frame.

    At most FRAME_TASKS tasks and about FRAME_BYTES; one larger payload travels alone.
    """
    count = len(values)
    if count <= frames.FRAME_TASKS:
        total = sum([len(value) for value in values if value is not None])
        if total <= frames.FRAME_BYTES:
            return [(0, count)] if count else []
    slices: list[tuple[int, int]] = []
    start = size = 0
    for index, value in enumerate(values):
        length = len(value) if value is not None else 0
        if index > start and (
            size + length > frames.FRAME_BYTES or index - start >= frames.FRAME_TASKS
        ):
            slices.append((start, index))
            start, size = index, 0
        size += length
    slices.append((start, count))
    return slices
