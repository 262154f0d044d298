"""What a task wrote to its standard output and standard error, as far as it is kept."""

import re
from dataclasses import dataclass, field

from flame.model.ids import TaskId

#: Of each stream its beginning and its end are kept, so many bytes of either.
KEPT_HEAD = KEPT_TAIL = 16 * 1024

#: No stream's excerpt is larger: the two ends, and a line that says what was left out.
MOST_BYTES = KEPT_HEAD + KEPT_TAIL + 128

#: What a session's logs may come to; the oldest make room for new ones.
KEPT_LOG_BYTES = 64 * 1024 * 1024

#: What a log costs of that beside its bytes.
LOG_COST = 64


@dataclass(frozen=True, slots=True)
class TaskLog:
    """What one attempt at a task wrote. Not everything that writes is UTF-8, so these are bytes."""

    task_id: TaskId
    attempt: int
    stdout: bytes
    stderr: bytes

    @property
    def size(self) -> int:
        """What it takes of its session's share."""
        return len(self.stdout) + len(self.stderr) + LOG_COST


def excerpt(head: bytes, tail: bytes, total: int) -> bytes:
    """Put the ends of a stream of ``total`` bytes together; the line between says what is missing."""
    left_out = total - len(head) - len(tail)
    if left_out <= 0:
        return head + tail
    return b"%b\n... %d bytes left out ...\n%b" % (head, left_out, tail)


def rest_of(log: bytes, seen: int) -> bytes:
    """Return what of an excerpt somebody has not seen who has seen that many bytes of the stream."""
    between = _LEFT_OUT.match(log, KEPT_HEAD) if len(log) > KEPT_HEAD + KEPT_TAIL else None
    if between is None:
        return log[seen:]
    left_out = int(between[1])
    if seen <= KEPT_HEAD:
        return log[seen:]
    if seen <= KEPT_HEAD + left_out:
        return excerpt(b"", log[between.end() :], KEPT_HEAD + left_out + KEPT_TAIL - seen)
    return log[between.end() + seen - KEPT_HEAD - left_out :]


_LEFT_OUT = re.compile(rb"\n\.\.\. (\d+) bytes left out \.\.\.\n")


@dataclass(slots=True)
class Excerpt:
    """Keeps the two ends of a stream while it is read."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        self.total += len(data)
        room = KEPT_HEAD - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[:-KEPT_TAIL]

    def __bytes__(self) -> bytes:
        return excerpt(bytes(self.head), bytes(self.tail), self.total)
