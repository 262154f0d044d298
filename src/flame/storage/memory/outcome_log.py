"""A session's outcomes in the order of their commits: batches with rising positions."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import count, islice

from flame.core.records import OutcomesRecorded
from flame.model.ids import TaskId


class OutcomeLog:
    """What is kept of an outcome log.

    Attributes:
        first_kept: The lowest position that can still be read.
        end: The position of the outcome that is recorded next.
    """

    __slots__ = ("first_kept", "end", "_batches", "_positions", "_where", "_indexed")

    def __init__(self) -> None:
        self.first_kept = 0
        self.end = 0
        self._batches: list[OutcomesRecorded] = []
        self._positions: list[int] = []
        self._where: dict[int, int] = {}  # position of a final task, below ``_indexed``
        self._indexed = 0

    def append(self, record: OutcomesRecorded) -> None:
        """Keep a batch, which begins at ``end``."""
        self._batches.append(record)
        self._positions.append(record.first_position)
        self.end = record.first_position + len(record.task_ids)

    def at(self, position: int) -> OutcomesRecorded | None:
        """Return the batch that has this position, if it is kept."""
        if not self.first_kept <= position < self.end:
            return None
        batch = self._batches[bisect_right(self._positions, position) - 1]
        return batch if position < batch.first_position + len(batch.task_ids) else None

    def slices(
        self, start: int, end: int
    ) -> Iterator[tuple[Sequence[TaskId], Sequence[bytes | None]]]:
        """Yield (tasks, outputs) of the kept outcomes from ``start`` to before ``end``."""
        first = max(bisect_right(self._positions, start) - 1, 0)
        for batch in islice(self._batches, first, None):
            if batch.first_position >= end:
                return
            own = slice(max(start - batch.first_position, 0), end - batch.first_position)
            yield batch.task_ids[own], batch.outputs[own]

    def positions(self) -> dict[int, int]:
        """Return the position of each final task that is kept. Cost: what is new since the last call."""
        start = max(self._indexed, self.first_kept)
        first = max(bisect_right(self._positions, start) - 1, 0)
        for batch in islice(self._batches, first, None):
            skip = max(start - batch.first_position, 0)
            self._where.update(
                zip(
                    islice(batch.task_ids, skip, None),
                    count(batch.first_position + skip),
                    strict=False,  # the positions never end
                )
            )
        self._indexed = self.end
        return self._where

    def forget(self, task_ids: Sequence[TaskId]) -> None:
        """These tasks are dropped; ``drop_before`` follows."""
        if self._where:
            for task_id in task_ids:
                self._where.pop(task_id, None)

    def drop_before(self, position: int) -> None:
        """Keep nothing before a position. Batches go when :meth:`drop_batches` is called."""
        self.first_kept = position

    def drop_batches(self) -> None:
        """Forget whole batches of which nothing is kept."""
        gone = 0
        while gone < len(self._batches):
            batch = self._batches[gone]
            if batch.first_position + len(batch.task_ids) > self.first_kept:
                break
            gone += 1
        del self._batches[:gone]
        del self._positions[:gone]
