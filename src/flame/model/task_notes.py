"""What a client says of a single task: labels, and where its input and output are on volumes."""

from collections.abc import Mapping
from typing import NamedTuple

from flame.model.errors import InvalidRequest
from flame.model.volumes import check_location

MAX_TASK_LABELS = 16
MAX_TASK_LABEL = 256  # bytes of a name and its value


class TaskNotes(NamedTuple):
    """Few tasks have any. A location is ``volume/path``; empty: none is named."""

    labels: tuple[tuple[str, str], ...] = ()
    input_location: str = ""
    output_location: str = ""


NO_NOTES = TaskNotes()


def task_notes(
    labels: Mapping[str, str] | None, input_location: str | None, output_location: str | None
) -> TaskNotes:
    """Check what is said of a task.

    Raises:
        InvalidRequest: There are too many labels, one is no text or too long, or a location is wrong.
    """
    if not isinstance(labels, Mapping | None):
        raise InvalidRequest(f"labels: {labels!r}; a mapping of names to texts is needed")
    found = dict(labels or {})
    texts: list[object] = [*found.keys(), *found.values()]
    if "" in found or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(f"labels: {found!r}; names that are not empty, and texts, are needed")
    if len(found) > MAX_TASK_LABELS:
        raise InvalidRequest(f"labels: {len(found)}; a task may have at most {MAX_TASK_LABELS}")
    for name, value in found.items():
        try:
            size = len(f"{name}{value}".encode())
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"labels: {name[:64]!r} or its value has surrogates, which no UTF-8 has"
            ) from None
        if size > MAX_TASK_LABEL:
            raise InvalidRequest(
                f"labels: {name[:64]!r} and its value have over {MAX_TASK_LABEL} bytes"
            )
    return TaskNotes(
        tuple(sorted(found.items())),
        check_location(input_location or "", "input_location"),
        check_location(output_location or "", "output_location"),
    )
