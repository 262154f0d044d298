"""The files of an executor's output, read: excerpts of what a task wrote, and pieces as they grow.

They are appended to by the executor and by all that it starts, and rotated by its manager, so a position
in one may lie behind its end: then the file has begun anew, and so does the reader.
"""

import os

from flame.model.logs import KEPT_HEAD, KEPT_TAIL, excerpt


def excerpt_between(file: int, start: int, end: int) -> bytes:
    """Return the two ends of what a file (its descriptor) has between two positions."""
    if end - start <= KEPT_HEAD + KEPT_TAIL:
        return os.pread(file, end - start, start)
    head = os.pread(file, KEPT_HEAD, start)
    return excerpt(head, os.pread(file, KEPT_TAIL, end - KEPT_TAIL), end - start)


def excerpt_since(path: str, start: int) -> bytes:
    """Return the two ends of what a file has from a position on; nothing if it cannot be read."""
    try:
        with open(path, "rb", opener=_not_followed) as file:
            end = os.fstat(file.fileno()).st_size
            return excerpt_between(file.fileno(), start if start <= end else 0, end)
    except OSError:
        return b""


def piece_of(path: str, begin: int, start: int, limit: int) -> tuple[bytes, int]:
    """Return what a file has from a position on, at most ``limit`` bytes, and where that ends.

    Nothing from before ``begin``; nothing at all if it cannot be read: few files have been rotated, say.
    """
    try:
        with open(path, "rb", opener=_not_followed) as file:
            size = os.fstat(file.fileno()).st_size
            start = max(start, begin) if begin <= size else start
            if start > size:
                start = 0
            data = os.pread(file.fileno(), limit, start)
    except OSError:
        return b"", start
    return data, start + len(data)


def _not_followed(path: str, flags: int) -> int:
    """Open what is there, and nothing that an executor has put in its place."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
