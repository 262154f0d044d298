"""A session's tasks as they were submitted: batches with rising ids, searched by bisection."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import Enum

from flame.core.records import SubmittedRange, TasksSubmitted
from flame.model.ids import TaskId
from flame.storage.ranges import merged


class Mark(Enum):
    """What stands for an input that is not there."""

    DROPPED = 0


Input = bytes | None | Mark


class Submitted:
    """A batch of tasks. ``inputs`` is the caller's list until the first of its tasks is dropped."""

    __slots__ = (
        "first_id", "inputs", "created_ms", "submitter", "first_number", "live", "owned", "limits", "notes",
    )  # fmt: skip

    def __init__(self, record: TasksSubmitted) -> None:
        self.first_id = record.first_id
        self.inputs: Sequence[Input] = record.inputs
        self.created_ms = record.created_ms
        self.submitter = record.submitter
        self.first_number = record.first_number
        self.live = len(record.inputs)
        self.owned: list[Input] | None = None
        self.limits = record.limits or {}
        self.notes = record.notes or {}

    @property
    def end_id(self) -> int:
        """The id after that of its last task."""
        return self.first_id + len(self.inputs)

    def range(self) -> SubmittedRange:
        """Return which of its submitter's numbers these tasks are."""
        return SubmittedRange(self.first_number, self.first_id, len(self.inputs))

    def drop(self, task_ids: Sequence[int]) -> None:
        """Let go of the inputs of some tasks, although the batch goes on."""
        self.live -= len(task_ids)
        if not self.live:
            self.inputs, self.owned = (Mark.DROPPED,) * len(self.inputs), None
            return
        if self.owned is None:
            self.inputs = self.owned = list(self.inputs)
        owned, first_id = self.owned, self.first_id
        for task_id in task_ids:
            owned[task_id - first_id] = Mark.DROPPED


class SubmittedTasks:
    """All that is kept of a session's tasks.

    Attributes:
        batches: By rising ids; those before the first were dropped.
        next_id: Of the task that is submitted next.
    """

    __slots__ = ("batches", "next_id", "_first_ids", "_dropped")

    def __init__(self) -> None:
        self.batches: list[Submitted] = []
        self.next_id = 1
        self._first_ids: list[int] = []
        self._dropped: dict[bytes, list[SubmittedRange]] = {}

    def add(self, record: TasksSubmitted) -> None:
        """Keep a batch, whose ids are above all others."""
        self.batches.append(Submitted(record))
        self._first_ids.append(record.first_id)
        self.next_id = record.first_id + len(record.inputs)

    def batch_of(self, task_id: int) -> Submitted | None:
        """Return the batch that has this task."""
        index = bisect_right(self._first_ids, task_id) - 1
        if index < 0:
            return None
        batch = self.batches[index]
        return batch if task_id < batch.end_id else None

    def ids_after(self, after: int) -> Iterator[TaskId]:
        """Yield the ids above ``after`` of kept batches, rising."""
        index = max(bisect_right(self._first_ids, after) - 1, 0)
        for batch in self.batches[index:]:
            yield from map(TaskId, range(max(batch.first_id, after + 1), batch.end_id))

    def by_batch(self, task_ids: Sequence[TaskId]) -> Iterator[tuple[Submitted, Sequence[TaskId]]]:
        """Cut tasks into those that were submitted together; mostly all of them were."""
        start = 0
        while start < len(task_ids):
            batch = self.batch_of(task_ids[start])
            stop = start + 1
            if batch is not None:
                first, end = batch.first_id, batch.end_id
                if start == 0 and first <= min(task_ids) and max(task_ids) < end:
                    yield batch, task_ids
                    return
                while stop < len(task_ids) and first <= task_ids[stop] < end:
                    stop += 1
                yield batch, task_ids[start:stop]
            start = stop

    def drop_batches(self) -> None:
        """Forget whole batches of which nothing is kept, but not which numbers they had.

        They mostly end in the order in which they came, so few others are looked at; one that ends out
        of turn has let go of its inputs already and waits for those before it.
        """
        gone = 0
        while gone < len(self.batches) and not self.batches[gone].live:
            batch = self.batches[gone]
            if batch.submitter:
                ranges = self._dropped.setdefault(batch.submitter, [])
                ranges[:] = [*ranges[:-1], *merged([*ranges[-1:], batch.range()])]
            gone += 1
        del self.batches[:gone]
        del self._first_ids[:gone]

    def submitters(self) -> dict[bytes, list[SubmittedRange]]:
        """Return which numbers each submitter has used, dropped ones included."""
        ranges = {submitter: list(known) for submitter, known in self._dropped.items()}
        for batch in self.batches:
            if batch.submitter:
                ranges.setdefault(batch.submitter, []).append(batch.range())
        return {submitter: merged(known) for submitter, known in ranges.items()}
