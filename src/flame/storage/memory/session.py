"""What one session holds.

A session with ``Durability.MEMORY`` forgets finished tasks once every subscriber has taken their
outcomes: the newest 10,000 of those, or 64 MiB of inputs and outputs, stay readable. The log's lower
end is then ``first_kept``.

    log:   dropped │ acknowledged, kept (bounded) │ not acknowledged (bounded by credit)
                   └ first_kept                   └ acknowledged
"""

from collections.abc import Sequence
from itertools import islice

from flame.core.records import (
    LeaseLost,
    OutcomesRecorded,
    RecoveredSession,
    SessionPut,
    StoredTask,
)
from flame.model.attempts import Attempt, keep
from flame.model.ids import TaskId
from flame.model.logs import KEPT_LOG_BYTES, TaskLog
from flame.model.specs import Durability, Event, TaskState
from flame.model.task_notes import NO_NOTES
from flame.storage.memory.outcome_log import OutcomeLog
from flame.storage.memory.submitted import Mark, Submitted, SubmittedTasks


class MemorySession:
    """One session: its tasks, its outcome log, and what was lost, logged and told of it."""

    __slots__ = (
        "put", "events", "submitted", "log", "_counts", "_acknowledged", "_kept_bytes", "_spent",
        "_logs", "_log_bytes", "_dropped_logs",
    )  # fmt: skip

    def __init__(self, put: SessionPut) -> None:
        self.put = put
        self.events: list[Event] = []
        self.submitted = SubmittedTasks()
        self.log = OutcomeLog()
        self._counts = {TaskState.SUCCEEDED: 0, TaskState.FAILED: 0, TaskState.CANCELLED: 0}
        self._acknowledged = 0
        self._kept_bytes = 0  # of the acknowledged tasks that are kept
        self._spent: dict[int, list[Attempt]] = {}  # that lost leases spent, by task
        self._logs: dict[TaskId, TaskLog] = {}  # oldest first
        self._log_bytes = 0
        self._dropped_logs = False

    # --- Writing -----------------------------------------------------------------------------

    def record(self, record: OutcomesRecorded) -> None:
        """Tasks became final."""
        self.log.append(record)
        self._counts[TaskState.SUCCEEDED] += len(record.task_ids) - len(record.failures)
        for state, _, _ in record.failures.values():
            self._counts[state] += 1

    def lose_lease(self, record: LeaseLost) -> None:
        """An executor was lost, which may have spent an attempt of one task."""
        if record.charged:
            keep(
                self._spent.setdefault(record.charged, []),
                record.attempt,
                record.node,
                record.executor,
                record.loss,
                record.lost_ms,
            )

    def keep_logs(self, written: Sequence[TaskLog]) -> None:
        """Keep what tasks wrote; the oldest of it goes when there is too much."""
        for log in written:
            earlier = self._logs.pop(log.task_id, None)
            self._logs[log.task_id] = log
            self._log_bytes += log.size - (earlier.size if earlier is not None else 0)
        while self._log_bytes > KEPT_LOG_BYTES:
            oldest = next(iter(self._logs.values()))
            if self._log_bytes - oldest.size < KEPT_LOG_BYTES:
                break
            self._log_bytes -= self._logs.pop(oldest.task_id).size
            self._dropped_logs = True

    def acknowledge(self, position: int, kept_tasks: int, kept_bytes: int) -> None:
        """Drop the oldest acknowledged tasks that are over either limit."""
        if self.put.spec.durability is not Durability.MEMORY:
            return
        position = min(position, self.log.end)
        if position <= self._acknowledged:
            return
        for task_ids, outputs in self.log.slices(self._acknowledged, position):
            self._kept_bytes += self._size(task_ids, outputs)
        self._acknowledged = position
        first_kept = self.log.first_kept
        self._drop_until(position - kept_tasks)
        while self._kept_bytes > kept_bytes and self.log.first_kept < position:
            self._drop_until(self.log.first_kept + 1)
        if self.log.first_kept > first_kept:
            self.log.drop_batches()
            self.submitted.drop_batches()

    def _drop_until(self, position: int) -> None:
        """Forget the outcomes before a position, and their tasks."""
        if position <= self.log.first_kept:
            return
        for task_ids, outputs in self.log.slices(self.log.first_kept, position):
            self._kept_bytes -= self._size(task_ids, outputs)
            for batch, some in self.submitted.by_batch(task_ids):
                batch.drop(some)
            self.log.forget(task_ids)
            if self._spent:
                for task_id in task_ids:
                    self._spent.pop(task_id, None)
        self.log.drop_before(position)

    def _size(self, task_ids: Sequence[TaskId], outputs: Sequence[bytes | None]) -> int:
        """Bytes of these outcomes and of their tasks' inputs."""
        size = sum([len(output) for output in outputs if output])
        for batch, some in self.submitted.by_batch(task_ids):
            inputs, first_id = batch.inputs, batch.first_id
            given = [inputs[task_id - first_id] for task_id in some]
            size += sum([len(each) for each in given if isinstance(each, bytes)])
        return size

    # --- Reading -----------------------------------------------------------------------------

    def task(self, task_id: TaskId) -> StoredTask | None:
        """Return one task, if it is kept."""
        batch = self.submitted.batch_of(task_id)
        if batch is None:
            return None
        given = batch.inputs[task_id - batch.first_id]
        if given is Mark.DROPPED:
            return None
        history = tuple(self._spent.get(task_id, ()))
        notes = batch.notes.get(task_id - batch.first_id, NO_NOTES)
        attempts = history[-1].number if history else 0
        position = self.log.positions().get(task_id)
        outcome = None if position is None else self.log.at(position)
        if position is None or outcome is None:
            return StoredTask(
                task_id,
                given,
                batch.created_ms,
                TaskState.PENDING,
                attempts=attempts,
                history=history,
                notes=notes,
            )
        index = position - outcome.first_position
        failure = outcome.failures.get(index)
        return StoredTask(
            task_id,
            given,
            batch.created_ms,
            state=TaskState.SUCCEEDED if failure is None else failure[0],
            output=outcome.outputs[index],
            failure=failure,
            finished_ms=outcome.finished_ms,
            attempts=attempts,
            history=history,
            notes=notes,
        )

    def tasks(self, after: int, limit: int) -> list[StoredTask]:
        """Return up to ``limit`` kept tasks with an id above ``after``, by rising id."""
        kept = (self.task(task_id) for task_id in self.submitted.ids_after(after))
        return list(islice((task for task in kept if task is not None), limit))

    def logs_after(self, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        """Return up to ``limit`` logs by rising task id, and whether older ones were dropped."""
        ids = sorted(task_id for task_id in self._logs if task_id > after)
        return [self._logs[task_id] for task_id in ids[:limit]], self._dropped_logs

    def recovered(self) -> RecoveredSession:
        """Describe the session as to a manager that starts anew."""
        final = self.log.positions()

        def waits(batch: Submitted, index: int) -> bool:
            given = batch.inputs[index]
            return given is not Mark.DROPPED and batch.first_id + index not in final

        return RecoveredSession(
            put=self.put,
            next_task_id=TaskId(self.submitted.next_id),
            log_end=self.log.end,
            succeeded=self._counts[TaskState.SUCCEEDED],
            failed=self._counts[TaskState.FAILED],
            cancelled=self._counts[TaskState.CANCELLED],
            events=list(self.events),
            submitters=self.submitted.submitters(),
            pending=[
                (TaskId(task_id), given, batch.created_ms, self._attempts(task_id))
                for batch in self.submitted.batches
                for task_id, given in enumerate(batch.inputs, batch.first_id)
                if given is not Mark.DROPPED and task_id not in final
            ],
            history={
                TaskId(task_id): list(known)
                for task_id, known in self._spent.items()
                if task_id not in final
            },
            notes={
                TaskId(batch.first_id + index): own
                for batch in self.submitted.batches
                for index, own in batch.notes.items()
                if waits(batch, index)
            },
            limits={
                TaskId(batch.first_id + index): own
                for batch in self.submitted.batches
                for index, own in batch.limits.items()
                if waits(batch, index)
            },
        )

    def _attempts(self, task_id: int) -> int:
        known = self._spent.get(task_id)
        return known[-1].number if known else 0
