"""Idempotent submits: which numbers of a submitter became which tasks.

A submitter is a 128-bit id that a client makes for its use of one session; it numbers its tasks
without gaps. A submit that arrives twice (after a lost connection, a restart) gets the ids it had.
Neighbouring ranges are merged, so a session with one submitter keeps a single range for ever.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from flame.core.records import SubmittedRange
from flame.model.ids import TaskId


class Submitter:
    """What one submitter has had accepted. ``next_number`` is the first new one."""

    __slots__ = ("_ranges", "next_number")

    def __init__(self, ranges: Iterable[SubmittedRange] = ()) -> None:
        self._ranges: list[SubmittedRange] = []
        self.next_number = 0
        for known in ranges:
            self.accept(known.first_number, known.count, known.first_id)

    def accept(self, first_number: int, count: int, first_id: TaskId) -> None:
        """Note that new numbers, starting at ``next_number``, are tasks ``first_id`` and up."""
        if first_number != self.next_number:
            raise AssertionError(f"number {first_number} accepted, {self.next_number} was next")
        last = self._ranges[-1] if self._ranges else None
        if last is not None and last.first_id + last.count == first_id:
            self._ranges[-1] = SubmittedRange(last.first_number, last.first_id, last.count + count)
        else:
            self._ranges.append(SubmittedRange(first_number, first_id, count))
        self.next_number = first_number + count

    def forget(self, first_number: int) -> None:
        """Numbers from this one on were not stored: they are new again."""
        while self._ranges and self._ranges[-1].first_number >= first_number:
            self._ranges.pop()
        if self._ranges and first_number < self.next_number:
            last = self._ranges[-1]
            count = min(last.count, first_number - last.first_number)
            self._ranges[-1] = SubmittedRange(last.first_number, last.first_id, count)
        self.next_number = min(self.next_number, first_number)

    def ids_of(self, first_number: int, count: int) -> Iterator[SubmittedRange]:
        """Yield the tasks of numbers that were accepted before, as ranges by rising number."""
        index = bisect_right(self._ranges, first_number, key=lambda r: r.first_number) - 1
        end = first_number + count
        for known in self._ranges[max(index, 0) :]:
            low = max(first_number, known.first_number)
            high = min(end, known.first_number + known.count)
            if low >= high:
                break
            offset = low - known.first_number
            yield SubmittedRange(low, TaskId(known.first_id + offset), high - low)

    def has_any(self, task_ids: Iterable[TaskId]) -> bool:
        """Whether one of these tasks was submitted under its numbers."""
        for task_id in task_ids:
            at = bisect_right(self._ranges, task_id, key=_first_id) - 1
            if at >= 0 and task_id < self._ranges[at].first_id + self._ranges[at].count:
                return True
        return False


def _first_id(known: SubmittedRange) -> TaskId:
    return known.first_id
