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
