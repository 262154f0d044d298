"""Reading single tasks, pages of tasks and pieces of the outcome log, whatever the database.

The statements are written once for all databases: a parameter is ``?1``, ``?2``, ..., and what runs
them (:class:`Query`) puts that into its database's spelling. Each statement's rows are fetched at once.
"""

from collections.abc import Container, Sequence
from typing import Any, Protocol

from flame.core.records import OutcomesRecorded, StoredTask
from flame.model.attempts import Attempt, Loss, keep
from flame.model.ids import SessionNumber, TaskId
from flame.model.logs import KEPT_LOG_BYTES, TaskLog
from flame.model.specs import TaskLimits, TaskState
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.storage import rows
from flame.storage.batches import joined, slice_outcomes
from flame.storage.store import CorruptStore

Row = tuple[Any, ...]  # by the select lists below; what is wrong in it, the check sums find

#: Batches of outcomes with results of so many bytes are read together, up to so many tasks: a thousand
#: clients that come back read the same log from wherever each was, and a read costs as much as some
#: fifty small rows.
SMALL_RESULTS = 4096
MOST_JOINED = 512

_BATCH = "session, first_id, count, submitter, first_number, created_ms, check_sum"
_OUTCOMES = (
    "session, first_position, count, min_id, max_id, succeeded, failed, cancelled, finished_ms,"
    " check_sum, ids"
)

# Rows of outcomes whose id range overlaps ?2..?3. A row of width w spans less than 2**w ids, so it
# starts in the 2**w before ?2 at the earliest: for each width that the session uses, the index
# answers with few rows that do not overlap. The first part steps from one width in use to the next.
_WHERE_FINAL = f"""
WITH RECURSIVE widths(width) AS (
    SELECT min(width) FROM outcomes WHERE session = ?1
    UNION ALL
    SELECT (SELECT min(o.width) FROM outcomes o WHERE o.session = ?1 AND o.width > widths.width)
    FROM widths WHERE widths.width IS NOT NULL
)
SELECT {_OUTCOMES} FROM widths CROSS JOIN outcomes
WHERE outcomes.width = widths.width AND session = ?1
AND min_id BETWEEN ?2 - (CAST(1 AS BIGINT) << widths.width) AND ?3 AND max_id >= ?2
ORDER BY first_position
"""  # noqa: S608 - our own names


class Query(Protocol):
    """Runs one statement to its end, from any thread; raises CorruptStore where it cannot be read."""

    def __call__(self, sql: str, *values: rows.Column) -> list[Row]: ...


class Reader:
    """Decodes and verifies what the writer stored.

    Args:
        query: The database.
        deleted: Sessions of which rows are left; reads find nothing of them.
    """

    def __init__(self, query: Query, deleted: Container[int]) -> None:
        self.rows = query
        self._deleted = deleted

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        found = self.tasks(session, task_id - 1, 1)
        return found[0] if found and found[0].task_id == task_id else None

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        if session in self._deleted:
            return []
        wanted: list[tuple[TaskId, bytes | None, int]] = []
        said: dict[int, TaskNotes] = {}
        start = self._batch_holding(session, after + 1)
        while len(wanted) < limit:
            batch = self.rows(
                f"SELECT {_BATCH}, inputs FROM batches WHERE session = ?1 AND first_id >= ?2"  # noqa: S608 - our own names
                " ORDER BY first_id LIMIT 1",
                session,
                start,
            )
            if not batch:
                break
            first_id, count, created_ms = verified_batch(batch[0])
            inputs, _, notes = limited_inputs(batch[0])
            skip = max(after + 1 - first_id, 0)
            wanted += (
                (TaskId(first_id + index), inputs[index], created_ms)
                for index in range(skip, min(count, skip + limit - len(wanted)))
            )
            said.update((first_id + index, own) for index, own in notes.items())
            start = first_id + count
        if not wanted:
            return []
        low, high = wanted[0][0], wanted[-1][0]
        final = self._final(session, low, high)
        spent = self.attempts(session, low, high)
        return [
            final_task(
                task_id,
                given,
                created_ms,
                final.get(task_id),
                spent.get(task_id, ()),
                said.get(task_id, NO_NOTES),
            )
            for task_id, given, created_ms in wanted
        ]

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        if session in self._deleted:
            return None
        found = self.rows(
            f"SELECT {_OUTCOMES}, results FROM outcomes WHERE session = ?1 AND first_position <= ?2"  # noqa: S608 - our own names
            " ORDER BY first_position DESC LIMIT 1",
            session,
            position,
        )
        if not found:
            return None
        batch = stored_outcomes(found[0])
        end = batch.first_position + len(batch.task_ids)
        if position >= end:
            return None
        if len(found[0][11]) <= SMALL_RESULTS:
            batch = joined([batch, *self._small_outcomes(session, end)])
        return slice_outcomes(batch, position, max_bytes)

    def _small_outcomes(self, session: SessionNumber, position: int) -> list[OutcomesRecorded]:
        """Return the consecutive small batches that begin at ``position``: MOST_JOINED tasks or so."""
        batches = []
        for row in self.rows(
            f"SELECT {_OUTCOMES}, results FROM outcomes WHERE session = ?1 AND first_position >= ?2"  # noqa: S608 - our own names
            f" AND first_position < ?3 AND length(results) <= {SMALL_RESULTS} ORDER BY first_position",
            session,
            position,
            position + MOST_JOINED,
        ):
            if row[1] != position:
                break  # a large one is between
            batches.append(stored_outcomes(row))
            position += row[2]
        return batches

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        if session in self._deleted:
            return [], False
        logs = []
        for number, position, size, task_id, attempt, check, log in self.rows(
            "SELECT session, position, size, task_id, attempt, check_sum, log FROM task_logs"
            " WHERE session = ?1 AND task_id > ?2 ORDER BY task_id LIMIT ?3",
            session,
            after,
            limit,
        ):
            key = number, position
            rows.verify("task_logs", key, check, *key, size, task_id, attempt)
            streams = rows.unseal(rows.streams, log, check, "task_logs", key)
            logs.append(TaskLog(TaskId(task_id), attempt, *streams))
        ((start, end),) = self.rows(
            "SELECT (SELECT position - size FROM task_logs WHERE session = ?1"
            " ORDER BY position LIMIT 1),"
            " (SELECT max(position) FROM task_logs WHERE session = ?1)",
            session,
        )
        return logs, bool(start) and end > KEPT_LOG_BYTES

    def attempts(self, session: SessionNumber, low: int, high: int) -> dict[TaskId, list[Attempt]]:
        """Return the attempts that lost leases spent, for each charged task from low to high."""
        spent: dict[TaskId, list[Attempt]] = {}
        for number, charged, attempt, check, loss in self.rows(
            "SELECT number, charged, attempt, check_sum, loss FROM lease_losses"
            " WHERE session = ?1 AND charged BETWEEN ?2 AND ?3 ORDER BY number",
            session,
            max(low, 1),
            high,
        ):
            rows.verify("lease_losses", number, check, session, charged, attempt)
            lost = rows.unseal(rows.lost, loss, check, "lease_losses", number)
            keep(
                spent.setdefault(TaskId(charged), []),
                attempt,
                lost.node,
                lost.executor,
                Loss(lost.cause, lost.detail, lost.pid, lost.exit_code, lost.signal),
                lost.lost_ms,
            )
        return spent

    def _batch_holding(self, session: SessionNumber, task_id: int) -> int:
        """Return the first id of the batch with ``task_id``, or ``task_id`` if none has it."""
        found = self.rows(
            f"SELECT {_BATCH} FROM batches WHERE session = ?1 AND first_id <= ?2"  # noqa: S608 - our own names
            " ORDER BY first_id DESC LIMIT 1",
            session,
            task_id,
        )
        if found:
            first_id, count, _ = verified_batch(found[0])
            if first_id + count > task_id:
                return first_id
        return task_id

    def _final(
        self, session: SessionNumber, low: TaskId, high: TaskId
    ) -> dict[TaskId, tuple[OutcomesRecorded, int]]:
        """Return where each final task from low to high stands: its batch and the index in it."""
        found: dict[TaskId, tuple[OutcomesRecorded, int]] = {}
        for row in self.rows(_WHERE_FINAL, session, low, high):
            verify_outcomes(row)
            indexes = [i for i, task_id in enumerate(stored_ids(row)) if low <= task_id <= high]
            if not indexes:
                continue  # its lowest and highest id enclose the wanted ones, that is all
            results = self.rows(
                "SELECT results FROM outcomes WHERE session = ?1 AND first_position = ?2",
                session,
                row[1],
            )
            if not results:
                continue  # the session was deleted meanwhile
            batch = stored_outcomes(row + results[0])
            found.update((batch.task_ids[index], (batch, index)) for index in indexes)
        return found


def verified_batch(row: Row) -> tuple[int, int, int]:
    """Check the columns of a row of batches; return its first id, count and creation time."""
    session, first_id, count, submitter, first_number, created_ms, check = row[:7]
    rows.verify(
        "batches",
        (session, first_id),
        check,
        session,
        first_id,
        count,
        submitter,
        first_number,
        created_ms,
    )
    return first_id, count, created_ms


def limited_inputs(
    row: Row,
) -> tuple[list[bytes | None], dict[int, TaskLimits], dict[int, TaskNotes]]:
    """Decode the inputs of a verified row of batches, and the limits that some of its tasks have."""
    key = row[0], row[1]
    inputs = rows.unseal(rows.inputs, row[7], row[6], "batches", key)
    notes = rows.notes_of(inputs.pop()) if len(inputs) == row[2] + 2 else {}
    limits = rows.limits_of(inputs.pop()) if len(inputs) == row[2] + 1 else {}
    if len(inputs) != row[2]:
        raise CorruptStore(f"table batches, row {key}: {len(inputs)} inputs for {row[2]} tasks")
    return inputs, limits, notes


def verify_outcomes(row: Row) -> None:
    """Check the columns of a row of outcomes."""
    rows.verify("outcomes", row[:2], row[9], *row[:9], int(row[10] is None))


def stored_ids(row: Row) -> list[TaskId]:
    """Return the task ids of a verified row of outcomes."""
    check, ids = row[9], row[10]
    if ids is None:
        return [TaskId(task_id) for task_id in range(row[3], row[4] + 1)]
    return rows.unseal(rows.ids, ids, check, "outcomes", row[:2])


def stored_outcomes(row: Row) -> OutcomesRecorded:
    """Decode a row of outcomes, results included."""
    key = row[0], row[1]
    verify_outcomes(row)
    ids = stored_ids(row)
    results = rows.unseal(rows.results, row[11], row[9], "outcomes", key)
    if not len(ids) == len(results[0]) == row[2]:
        raise CorruptStore(
            f"table outcomes, row {key}: {len(ids)} ids and {len(results[0])} outputs for"
            f" {row[2]} tasks"
        )
    return rows.decode_results(SessionNumber(row[0]), row[1], ids, results, row[8])


def final_task(
    task_id: TaskId,
    given: bytes | None,
    created_ms: int,
    final: tuple[OutcomesRecorded, int] | None,
    attempts: Sequence[Attempt],
    notes: TaskNotes,
) -> StoredTask:
    """Put one task together from its batch and, if it has ended, its outcome."""
    if final is None:
        return StoredTask(
            task_id,
            given,
            created_ms,
            TaskState.PENDING,
            attempts=attempts[-1].number if attempts else 0,
            history=tuple(attempts),
            notes=notes,
        )
    batch, index = final
    failure = batch.failures.get(index)
    return StoredTask(
        task_id,
        given,
        created_ms,
        state=TaskState.SUCCEEDED if failure is None else failure[0],
        output=batch.outputs[index],
        failure=failure,
        finished_ms=batch.finished_ms,
        attempts=attempts[-1].number if attempts else 0,
        history=tuple(attempts),
        notes=notes,
    )
