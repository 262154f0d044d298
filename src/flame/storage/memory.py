"""The memory engine: nothing survives the process, and nothing waits for a disk.

It is the store of a ``memory`` cluster, and it holds the sessions with ``Durability.MEMORY`` of any
other cluster. A commit keeps references to the batches it is given and
does nothing per task. What readers need per task is worked out when they first ask.

A session with ``Durability.MEMORY`` forgets finished tasks once every subscriber has taken their
outcomes: the newest 10,000 of those, or 64 MiB of inputs and outputs, stay readable. The log's lower
end is then ``first_kept``.

    log:   dropped │ acknowledged, kept (bounded) │ not acknowledged (bounded by credit)
                   └ first_kept                   └ acknowledged
"""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import count, islice

from flame.core.records import (
    ApplicationDeleted,
    ApplicationPut,
    Barrier,
    BindingDeleted,
    BindingPut,
    CordonDeleted,
    CordonPut,
    LeaseLost,
    OutcomesAcknowledged,
    OutcomesRecorded,
    Record,
    Recovered,
    RecoveredSession,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    StoredTask,
    SubmittedRange,
    TasksLogged,
    TasksSubmitted,
    TenantDeleted,
    TenantPut,
    TokenDeleted,
    TokenPut,
)
from flame.model.attempts import Attempt, keep
from flame.model.credentials import TokenId
from flame.model.errors import IllegalTransition
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import KEPT_LOG_BYTES, TaskLog
from flame.model.specs import Durability, Event, TaskState
from flame.model.task_notes import NO_NOTES
from flame.storage.batches import slice_outcomes
from flame.storage.ranges import merged

KEPT_TASKS = 10_000
KEPT_BYTES = 64 * 1024 * 1024


class _Mark(Enum):
    DROPPED = 0  # stands where the input of a dropped task was


_Input = bytes | None | _Mark


class MemoryStore:
    """Everything in dicts and lists, under one lock.

    ``load`` may be called again, as after a restart: then it describes what this object holds,
    under the next epoch. The simulator uses that.

    Args:
        kept_tasks: How many acknowledged finished tasks a MEMORY session keeps at most.
        kept_bytes: And how many bytes of their inputs and outputs.
    """

    name = "memory"
    settings = "nothing survives the process"
    is_quick = True

    def __init__(self, *, kept_tasks: int = KEPT_TASKS, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_tasks = kept_tasks
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._epoch = 0
        self._next_session = 1
        self._applications: dict[tuple[Tenant, str], ApplicationPut] = {}
        self._sessions: dict[SessionNumber, _Session] = {}
        self._bindings: dict[ExecutorId, BindingPut] = {}
        self._tenants: dict[Tenant, TenantPut] = {}
        self._tokens: dict[TokenId, TokenPut] = {}
        self._cordons: dict[NodeName, CordonPut] = {}

    def load(self) -> Recovered:
        with self._lock:
            self._epoch += 1
            return Recovered(
                epoch=self._epoch,
                next_session=self._next_session,
                # An epoch is never used twice, so its incarnations are not either.
                next_incarnation=(self._epoch << 32) + 1,
                applications=[put for _, put in sorted(self._applications.items())],
                sessions=[session.recovered() for _, session in sorted(self._sessions.items())],
                bindings=[put for _, put in sorted(self._bindings.items())],
                tenants=[put for _, put in sorted(self._tenants.items())],
                tokens=[put for _, put in sorted(self._tokens.items())],
                cordons=[put for _, put in sorted(self._cordons.items())],
            )

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        with self._lock:
            for record in group:
                match record:
                    case TasksSubmitted():
                        if session := self._find(record.session):
                            session.submit(record)
                    case OutcomesRecorded():
                        if session := self._find(record.session):
                            session.record(record)
                    case OutcomesAcknowledged():
                        if session := self._find(record.session):
                            session.acknowledge(record.position, self._kept_tasks, self._kept_bytes)
                    case TasksLogged():
                        if session := self._find(record.session):
                            session.keep_logs(record.logs)
                    case LeaseLost():
                        if session := self._find(record.session):
                            session.lose_lease(record)
                    case SessionEvent():
                        if session := self._find(record.session):
                            session.events.append(record.event)
                    case SessionPut():
                        self._put_session(record)
                    case SessionDeleted():
                        self._sessions.pop(record.session, None)
                    case ApplicationPut():
                        self._applications[record.tenant, record.name] = record
                    case ApplicationDeleted():
                        self._applications.pop((record.tenant, record.name), None)
                    case BindingPut():
                        self._bindings[record.executor] = record
                    case BindingDeleted():
                        self._bindings.pop(record.executor, None)
                    case TenantPut():
                        self._tenants[record.spec.name] = record
                    case TenantDeleted():
                        self._tenants.pop(record.name, None)
                    case TokenPut():
                        self._tokens[record.token] = record
                    case TokenDeleted():
                        self._tokens.pop(record.token, None)
                    case CordonPut():
                        self._cordons[record.node] = record
                    case CordonDeleted():
                        self._cordons.pop(record.node, None)
                    case Barrier():
                        pass

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        with self._lock:
            found = self._sessions.get(session)
            return None if found is None else found.task(task_id)

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        with self._lock:
            found = self._sessions.get(session)
            return [] if found is None else found.tasks(after, limit)

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        with self._lock:
            found = self._sessions.get(session)
            batch = None if found is None else found.outcomes_at(position)
        return None if batch is None else slice_outcomes(batch, position, max_bytes)

    def logs(self, session: SessionNumber, after: int, limit: int) -> tuple[list[TaskLog], bool]:
        with self._lock:
            found = self._sessions.get(session)
            if found is None:
                return [], False
            ids = sorted(task_id for task_id in found.logs if task_id > after)
            return [found.logs[task_id] for task_id in ids[:limit]], found.dropped_logs

    def first_kept(self, session: SessionNumber) -> int:
        with self._lock:
            found = self._sessions.get(session)
            return 0 if found is None else found.first_kept

    def maintain(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to release: what it holds lives as long as the object."""

    def _put_session(self, put: SessionPut) -> None:
        known = self._sessions.get(put.session)
        if known is not None:
            known.put = put
            return
        self._sessions[put.session] = _Session(put)
        self._next_session = max(self._next_session, put.session + 1)

    def _find(self, number: SessionNumber) -> "_Session | None":
        found = self._sessions.get(number)
        if found is None and number >= self._next_session:
            raise IllegalTransition(f"a record of session {number}, which never existed")
        return found


class _Submitted:
    """A batch of tasks. ``inputs`` is the caller's list until the first of its tasks is dropped."""

    __slots__ = (
        "first_id", "inputs", "created_ms", "submitter", "first_number", "live", "owned", "limits", "notes",
    )  # fmt: skip

    def __init__(self, record: TasksSubmitted) -> None:
        self.first_id = record.first_id
        self.inputs: Sequence[_Input] = record.inputs
        self.created_ms = record.created_ms
        self.submitter = record.submitter
        self.first_number = record.first_number
        self.live = len(record.inputs)
        self.owned: list[_Input] | None = None
        self.limits = record.limits or {}
        self.notes = record.notes or {}

    def range(self) -> SubmittedRange:
        return SubmittedRange(self.first_number, self.first_id, len(self.inputs))

    def drop(self, task_ids: Sequence[int]) -> None:
        """Let go of the inputs of some tasks, although the batch goes on."""
        self.live -= len(task_ids)
        if not self.live:
            self.inputs, self.owned = (_Mark.DROPPED,) * len(self.inputs), None
            return
        if self.owned is None:
            self.inputs = self.owned = list(self.inputs)
        owned, first_id = self.owned, self.first_id
        for task_id in task_ids:
            owned[task_id - first_id] = _Mark.DROPPED


class _Session:
    """What one session holds. Batches and log are lists with rising keys, searched by bisection."""

    __slots__ = (
        "put", "events", "batches", "first_ids", "next_task_id", "log", "positions", "log_end",
        "counts", "first_kept", "acknowledged", "kept_bytes", "spent", "dropped_ranges", "where",
        "indexed", "logs", "log_bytes", "dropped_logs",
    )  # fmt: skip

    def __init__(self, put: SessionPut) -> None:
        self.put = put
        self.events: list[Event] = []
        self.batches: list[_Submitted] = []
        self.first_ids: list[int] = []
        self.next_task_id = 1
        self.log: list[OutcomesRecorded] = []
        self.positions: list[int] = []
        self.log_end = 0
        self.counts = {TaskState.SUCCEEDED: 0, TaskState.FAILED: 0, TaskState.CANCELLED: 0}
        self.first_kept = 0
        self.acknowledged = 0
        self.kept_bytes = 0  # of the acknowledged tasks that are kept
        self.spent: dict[int, list[Attempt]] = {}  # that lost leases spent, by task
        self.dropped_ranges: dict[bytes, list[SubmittedRange]] = {}
        self.where: dict[int, int] = {}  # log position of a final task, below ``indexed``
        self.indexed = 0
        self.logs: dict[TaskId, TaskLog] = {}  # oldest first
        self.log_bytes = 0
        self.dropped_logs = False

    # --- Writing -----------------------------------------------------------------------------

    def submit(self, record: TasksSubmitted) -> None:
        self.batches.append(_Submitted(record))
        self.first_ids.append(record.first_id)
        self.next_task_id = record.first_id + len(record.inputs)

    def record(self, record: OutcomesRecorded) -> None:
        self.log.append(record)
        self.positions.append(record.first_position)
        self.log_end = record.first_position + len(record.task_ids)
        self.counts[TaskState.SUCCEEDED] += len(record.task_ids) - len(record.failures)
        for state, _, _ in record.failures.values():
            self.counts[state] += 1

    def lose_lease(self, record: LeaseLost) -> None:
        if record.charged:
            keep(
                self.spent.setdefault(record.charged, []),
                record.attempt,
                record.node,
                record.executor,
                record.loss,
                record.lost_ms,
            )

    def keep_logs(self, written: Sequence[TaskLog]) -> None:
        """Keep what tasks wrote; the oldest of it goes when there is too much."""
        for log in written:
            earlier = self.logs.pop(log.task_id, None)
            self.logs[log.task_id] = log
            self.log_bytes += log.size - (earlier.size if earlier is not None else 0)
        while self.log_bytes > KEPT_LOG_BYTES:
            oldest = next(iter(self.logs.values()))
            if self.log_bytes - oldest.size < KEPT_LOG_BYTES:
                break
            self.log_bytes -= self.logs.pop(oldest.task_id).size
            self.dropped_logs = True

    def acknowledge(self, position: int, kept_tasks: int, kept_bytes: int) -> None:
        """Drop the oldest acknowledged tasks that are over either limit."""
        if self.put.spec.durability is not Durability.MEMORY:
            return
        position = min(position, self.log_end)
        if position <= self.acknowledged:
            return
        for task_ids, outputs in self._log_slices(self.acknowledged, position):
            self.kept_bytes += self._size(task_ids, outputs)
        self.acknowledged = position
        dropped = self._drop_until(position - kept_tasks)
        while self.kept_bytes > kept_bytes and self.first_kept < position:
            dropped = self._drop_until(self.first_kept + 1)
        if dropped:
            self._drop_batches()

    def _drop_until(self, position: int) -> bool:
        """Forget the outcomes before a position, and their tasks; return whether there were any."""
        if position <= self.first_kept:
            return False
        for task_ids, outputs in self._log_slices(self.first_kept, position):
            self.kept_bytes -= self._size(task_ids, outputs)
            for batch, some in self._by_batch(task_ids):
                batch.drop(some)
            for known in (self.where, self.spent):
                if known:
                    for task_id in task_ids:
                        known.pop(task_id, None)
        self.first_kept = position
        return True

    def _log_slices(
        self, start: int, end: int
    ) -> Iterator[tuple[Sequence[TaskId], Sequence[bytes | None]]]:
        """Yield (tasks, outputs) of the kept outcomes from ``start`` to before ``end``."""
        first = max(bisect_right(self.positions, start) - 1, 0)
        for batch in islice(self.log, first, None):
            if batch.first_position >= end:
                return
            own = slice(max(start - batch.first_position, 0), end - batch.first_position)
            yield batch.task_ids[own], batch.outputs[own]

    def _log_between(self, start: int, end: int) -> Iterator[tuple[int, TaskId, bytes | None]]:
        """Yield (position, task, output) for the kept outcomes from ``start`` to before ``end``."""
        first = max(bisect_right(self.positions, start) - 1, 0)
        for batch in islice(self.log, first, None):
            skip = max(start - batch.first_position, 0)
            outcomes = zip(
                count(batch.first_position + skip),
                islice(batch.task_ids, skip, None),
                islice(batch.outputs, skip, None),
                strict=False,  # the positions never end
            )
            for outcome in outcomes:
                if outcome[0] >= end:
                    return
                yield outcome

    def _size(self, task_ids: Sequence[TaskId], outputs: Sequence[bytes | None]) -> int:
        """Bytes of these outcomes and of their tasks' inputs."""
        size = sum([len(output) for output in outputs if output])
        for batch, some in self._by_batch(task_ids):
            inputs, first_id = batch.inputs, batch.first_id
            given = [inputs[task_id - first_id] for task_id in some]
            size += sum([len(each) for each in given if isinstance(each, bytes)])
        return size

    def _by_batch(
        self, task_ids: Sequence[TaskId]
    ) -> Iterator[tuple[_Submitted, Sequence[TaskId]]]:
        """Cut tasks into those that were submitted together; mostly all of them were."""
        start = 0
        while start < len(task_ids):
            batch = self._batch_of(task_ids[start])
            stop = start + 1
            if batch is not None:
                first, end = batch.first_id, batch.first_id + len(batch.inputs)
                if start == 0 and first <= min(task_ids) and max(task_ids) < end:
                    yield batch, task_ids
                    return
                while stop < len(task_ids) and first <= task_ids[stop] < end:
                    stop += 1
                yield batch, task_ids[start:stop]
            start = stop

    def _drop_batches(self) -> None:
        """Forget whole batches of outcomes and of tasks of which nothing is kept."""
        gone = 0
        while gone < len(self.log):
            batch = self.log[gone]
            if batch.first_position + len(batch.task_ids) > self.first_kept:
                break
            gone += 1
        del self.log[:gone]
        del self.positions[:gone]
        # Whole batches mostly end in the order in which they came, so few others are looked at;
        # one that ends out of turn has let go of its inputs already and waits for those before it.
        gone = 0
        while gone < len(self.batches) and not self.batches[gone].live:
            batch_gone = self.batches[gone]
            if batch_gone.submitter:
                ranges = self.dropped_ranges.setdefault(batch_gone.submitter, [])
                ranges[:] = [*ranges[:-1], *merged([*ranges[-1:], batch_gone.range()])]
            gone += 1
        del self.batches[:gone]
        del self.first_ids[:gone]

    # --- Reading -----------------------------------------------------------------------------

    def task(self, task_id: TaskId) -> StoredTask | None:
        batch = self._batch_of(task_id)
        if batch is None:
            return None
        given = batch.inputs[task_id - batch.first_id]
        if given is _Mark.DROPPED:
            return None
        self._index_outcomes()
        history = tuple(self.spent.get(task_id, ()))
        notes = batch.notes.get(task_id - batch.first_id, NO_NOTES)
        attempts = history[-1].number if history else 0
        position = self.where.get(task_id)
        if position is None:
            return StoredTask(
                task_id,
                given,
                batch.created_ms,
                TaskState.PENDING,
                attempts=attempts,
                history=history,
                notes=notes,
            )
        outcome = self.log[bisect_right(self.positions, position) - 1]
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
        found: list[StoredTask] = []
        index = max(bisect_right(self.first_ids, after) - 1, 0)
        for batch in self.batches[index:]:
            for task_id in range(
                max(batch.first_id, after + 1), batch.first_id + len(batch.inputs)
            ):
                if len(found) >= limit:
                    return found
                if (task := self.task(TaskId(task_id))) is not None:
                    found.append(task)
        return found

    def outcomes_at(self, position: int) -> OutcomesRecorded | None:
        if not self.first_kept <= position < self.log_end:
            return None
        batch = self.log[bisect_right(self.positions, position) - 1]
        return batch if position < batch.first_position + len(batch.task_ids) else None

    def recovered(self) -> RecoveredSession:
        self._index_outcomes()
        ranges = {submitter: list(known) for submitter, known in self.dropped_ranges.items()}
        for batch in self.batches:
            if batch.submitter:
                ranges.setdefault(batch.submitter, []).append(batch.range())
        return RecoveredSession(
            put=self.put,
            next_task_id=TaskId(self.next_task_id),
            log_end=self.log_end,
            succeeded=self.counts[TaskState.SUCCEEDED],
            failed=self.counts[TaskState.FAILED],
            cancelled=self.counts[TaskState.CANCELLED],
            events=list(self.events),
            submitters={submitter: merged(known) for submitter, known in ranges.items()},
            pending=[
                (TaskId(task_id), given, batch.created_ms, self._attempts(task_id))
                for batch in self.batches
                for task_id, given in enumerate(batch.inputs, batch.first_id)
                if given is not _Mark.DROPPED and task_id not in self.where
            ],
            history={
                TaskId(task_id): list(known)
                for task_id, known in self.spent.items()
                if task_id not in self.where
            },
            notes={
                TaskId(batch.first_id + index): own
                for batch in self.batches
                for index, own in batch.notes.items()
                if batch.first_id + index not in self.where
                and batch.inputs[index] is not _Mark.DROPPED
            },
            limits={
                TaskId(batch.first_id + index): own
                for batch in self.batches
                for index, own in batch.limits.items()
                if batch.first_id + index not in self.where
                and batch.inputs[index] is not _Mark.DROPPED
            },
        )

    def _attempts(self, task_id: int) -> int:
        known = self.spent.get(task_id)
        return known[-1].number if known else 0

    def _index_outcomes(self) -> None:
        """Learn the positions of the tasks that became final since somebody last asked."""
        start = max(self.indexed, self.first_kept)
        for position, task_id, _ in self._log_between(start, self.log_end):
            self.where[task_id] = position
        self.indexed = self.log_end

    def _batch_of(self, task_id: int) -> _Submitted | None:
        index = bisect_right(self.first_ids, task_id) - 1
        if index < 0:
            return None
        batch = self.batches[index]
        return batch if task_id < batch.first_id + len(batch.inputs) else None
