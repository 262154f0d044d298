"""The checker: what was promised, compared with what was stored, executed and told.

It sees every committed record, every execution and every answer to a client, and objects at once, in
the event that broke a promise. :meth:`Witness.conclude` says what should hold at the end. The promises
are those of the reliability page: P1 nothing acknowledged is lost, P2 one outcome that never changes,
P3 extra executions only after a lost lease, and bounded, P5 everything ends.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from flame.core.records import (
    LeaseLost,
    OutcomesRecorded,
    Record,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    TasksSubmitted,
)
from flame.model.attempts import Cause
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import (
    Durability,
    EventCode,
    Failure,
    SessionSpec,
    SessionState,
    TaskLimits,
    TaskState,
)
from flame.testing.service import limits_of, raised_by


class Broken(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Outcome:
    """What is recorded of a final task."""

    position: int
    output: bytes | None
    failure: Failure | None


@dataclass(slots=True)
class Kept:
    """What the store was given of one session."""

    put: SessionPut
    volatile: bool
    tasks: dict[TaskId, bytes | None] = field(default_factory=dict)
    numbers: dict[tuple[bytes, int], TaskId] = field(default_factory=dict)
    outcomes: dict[TaskId, Outcome] = field(default_factory=dict)
    spent: dict[TaskId, int] = field(default_factory=dict)
    raised: set[tuple[TaskId, int]] = field(default_factory=set)
    created_ms: dict[TaskId, int] = field(default_factory=dict)
    given_up: bool = False
    cancelled: set[TaskId] = field(default_factory=set)
    executions: dict[TaskId, list[tuple[int, int]]] = field(default_factory=dict)

    def raised_times(self, task_id: TaskId) -> int:
        """Return how often the task was failed by its service, and tried again."""
        return sum(task == task_id for task, _ in self.raised)


class Witness:
    """Sees everything that is stored, executed and told.

    Args:
        expected: What a task's service makes of its input: its output, or why it fails.
    """

    def __init__(self, expected: Callable[[bytes | None], bytes | Failure | None]) -> None:
        self.sessions: dict[SessionNumber, Kept] = {}
        self.forgotten: set[SessionNumber] = set()
        self.faults = 0
        self._expected = expected
        self._lost: set[int] = set()
        self._sent: dict[str, dict[int, tuple[SessionNumber, list[TaskId]]]] = {}

    # --- what is stored --------------------------------------------------------------------------

    def committed(self, records: Iterable[Record], *, volatile: bool = False) -> None:
        """A group is in the store."""
        for record in records:
            match record:
                case SessionPut(number):
                    if number not in self.sessions:
                        self.forgotten.discard(number)  # of one that a loss of power took whole
                    kept = self.sessions.setdefault(number, Kept(record, volatile))
                    kept.put = record
                    if record.state is SessionState.CLOSED and number not in self.forgotten:
                        self._all_final(kept)
                case SessionDeleted(number):
                    self.sessions.pop(number, None)
                case TasksSubmitted(number):
                    self._submitted(self.sessions[number], record)
                case OutcomesRecorded(number):
                    self._recorded(self.sessions[number], record)
                case LeaseLost(number):
                    if record.loss.cause == Cause.RAISED:
                        self.sessions[number].raised.add((record.charged, record.attempt))
                    else:
                        self._lost.add(record.incarnation)
                    if record.charged:
                        self._charged(self.sessions[number], record)
                case SessionEvent(number, event) if event.code == EventCode.BIND_GIVEN_UP:
                    self.sessions[number].given_up = True
                case SessionEvent(number, event) if event.code == EventCode.CLIENT_LOST:
                    if self.sessions[number].put.spec.client_lost_ms is None:
                        raise Broken(f"session {number} may not be closed for want of a client")
                case _:
                    pass

    def restarted(self) -> None:
        """A new manager starts: what was kept in memory is gone."""
        for number, kept in self.sessions.items():
            if kept.volatile:
                self.forgotten.add(number)

    def power_lost(
        self, there: Iterable[Sequence[Record]], lost: Iterable[Sequence[Record]]
    ) -> set[SessionNumber]:
        """A loss of power took the last groups that were stored; return whom nothing is promised now.

        That is each durable session of which something is lost. A sync session may miss what nobody
        was told of, such as a spent attempt, but no task and no outcome.
        """
        before, forgotten = self.sessions, set(self.forgotten)
        self.sessions = {}
        for number, kept in before.items():
            if kept.volatile:
                self.sessions[number] = kept
        for group in there:
            self.committed(group)
        self.forgotten |= forgotten
        taken: set[SessionNumber] = set()
        touched = {getattr(record, "session", None) for group in lost for record in group}
        for number, kept in before.items():
            now = self.sessions.get(number)
            if kept.volatile or number in self.forgotten:
                continue
            if kept.put.spec.durability is not Durability.SYNC:
                taken |= {number} & touched
            elif now is None or (now.tasks, now.outcomes) != (kept.tasks, kept.outcomes):
                raise Broken(f"a loss of power took tasks or outcomes of sync session {number}")
            if now is not None:
                now.executions = kept.executions
        self.forgotten |= taken
        return taken

    def _submitted(self, kept: Kept, record: TasksSubmitted) -> None:
        for index, value in enumerate(record.inputs):
            task_id = TaskId(record.first_id + index)
            if task_id in kept.tasks:
                raise Broken(f"task {task_id} of session {record.session} is stored twice")
            own = (record.limits or {}).get(index)
            if own != limits_of(value):
                raise Broken(f"task {task_id} of session {record.session} is stored with {own}")
            kept.tasks[task_id] = value
            kept.created_ms[task_id] = record.created_ms
            if record.submitter:
                number = (record.submitter, record.first_number + index)
                if number in kept.numbers:
                    raise Broken(f"submit {number} of session {record.session} made two tasks")
                kept.numbers[number] = task_id

    def _recorded(self, kept: Kept, record: OutcomesRecorded) -> None:
        if record.first_position != len(kept.outcomes):
            raise Broken(
                f"session {record.session}: outcomes from {record.first_position} are recorded "
                f"where {len(kept.outcomes)} is next"
            )
        for index, task_id in enumerate(record.task_ids):
            if task_id not in kept.tasks:
                raise Broken(f"task {task_id} of session {record.session} ends, never submitted")
            if task_id in kept.outcomes:
                raise Broken(f"task {task_id} of session {record.session} has a second outcome")
            outcome = Outcome(
                record.first_position + index, record.outputs[index], record.failures.get(index)
            )
            kept.outcomes[task_id] = outcome
            self._is_right(kept, task_id, outcome, record.finished_ms)

    def _is_right(self, kept: Kept, task_id: TaskId, outcome: Outcome, finished_ms: int) -> None:
        spec = kept.put.spec
        who = f"task {task_id} of session {kept.put.session}"
        value = self._expected(kept.tasks[task_id])
        if outcome.failure is None:
            if outcome.output != value:
                raise Broken(f"{who} returned {outcome.output!r}, not {value!r}")
            return
        state, code, message = outcome.failure
        if state is TaskState.CANCELLED:
            return  # by its user or by the close of its session
        raised = kept.raised_times(task_id)
        if code == EventCode.FAILED and value is not None and value[:2] == outcome.failure[:2]:
            wanted = spec.retry_on_failure if _is_retried(spec, kept.tasks[task_id]) else 0
            if raised != wanted and kept.put.state is SessionState.OPEN:
                raise Broken(f"{who} failed, and was tried again {raised} times, not {wanted}")
            if message.startswith(str(value[2])):
                return
        lost = kept.spent.get(task_id, 0) - raised
        if code == EventCode.LOST and lost == spec.max_attempts:
            return
        own = limits_of(kept.tasks[task_id]) or TaskLimits()
        timeout = own.timeout_ms or spec.task_timeout_ms
        deadline = own.deadline_ms or spec.deadline_ms
        age = finished_ms - kept.created_ms[task_id]
        if code == EventCode.TIMED_OUT and timeout and age >= timeout:
            return
        if code == EventCode.DEADLINE_PASSED and deadline and age >= deadline:
            return
        if code == EventCode.BIND_GIVEN_UP and kept.given_up:
            return
        raise Broken(f"{who} failed with {code} ({message}); {value!r} was expected")

    def _charged(self, kept: Kept, record: LeaseLost) -> None:
        before = kept.spent.get(record.charged, 0)
        if record.attempt != before + 1 or record.attempt > _most_attempts(kept):
            raise Broken(
                f"task {record.charged} of session {record.session} is charged attempt "
                f"{record.attempt} after {before}"
            )
        kept.spent[record.charged] = record.attempt

    def _all_final(self, kept: Kept) -> None:
        missing = kept.tasks.keys() - kept.outcomes.keys()
        if missing:
            raise Broken(f"session {kept.put.session} is closed without {sorted(missing)[:9]}")

    # --- what is executed ------------------------------------------------------------------------

    def started(
        self,
        number: SessionNumber,
        task_id: TaskId,
        value: bytes | None,
        attempt: int,
        incarnation: int,
    ) -> None:
        """A service was called with a task."""
        kept = self.sessions.get(number)
        if kept is None or number in self.forgotten:
            return
        who = f"task {task_id} of session {number}"
        if task_id not in kept.tasks or kept.tasks[task_id] != value:
            raise Broken(f"{who} runs before it is stored, or with another input")
        runs = kept.executions.setdefault(task_id, [])
        for number_of, earlier in runs:
            if (task_id, number_of) in kept.raised:
                continue  # its service failed it, and it is tried again
            # One whose own lease was lost may go on for a while; its results are refused.
            if earlier not in self._lost and incarnation not in self._lost:
                raise Broken(f"{who} runs again, and no lease of incarnation {earlier} was lost")
        if attempt > _most_attempts(kept):
            raise Broken(f"{who} runs as attempt {attempt}")
        runs.append((attempt, incarnation))

    def bound(self, executor: str) -> None:
        """An executor's results are numbered from 1 again."""
        self._sent[executor] = {}

    def results_sent(
        self, executor: str, sequence: int, number: SessionNumber, task_ids: Sequence[TaskId]
    ) -> None:
        """An executor sends results under this sequence."""
        self._sent.setdefault(executor, {})[sequence] = (number, list(task_ids))

    def results_confirmed(self, executor: str, sequence: int) -> None:
        """The manager tells an executor to forget results."""
        sent = self._sent.get(executor, {})
        for known in [s for s in sent if s <= sequence]:
            number, task_ids = sent.pop(known)
            kept = self.sessions.get(number)
            if kept is None or number in self.forgotten:
                continue
            for task_id in task_ids:
                if task_id not in kept.outcomes and not kept.raised_times(task_id):
                    raise Broken(
                        f"executor {executor} may forget task {task_id} of session {number}, "
                        "whose outcome is not stored"
                    )

    # --- what clients are told -------------------------------------------------------------------

    def accepted(
        self, number: SessionNumber, submitter: bytes, submit: int, task_id: TaskId, value: bytes
    ) -> None:
        """A client was told that its submit is stored."""
        kept = self.sessions.get(number)
        if kept is None or number in self.forgotten:
            return
        if kept.numbers.get((submitter, submit)) != task_id or kept.tasks[task_id] != value:
            raise Broken(f"submit {submit} was acknowledged as task {task_id}: it is not stored so")

    def delivered(
        self, number: SessionNumber, position: int, task_id: TaskId, output: object, failure: object
    ) -> None:
        """A client was told an outcome."""
        kept = self.sessions.get(number)
        if kept is None or number in self.forgotten:
            return
        known = kept.outcomes.get(task_id)
        if known is None or (known.position, known.output, known.failure) != (
            position,
            output,
            failure,
        ):
            raise Broken(f"task {task_id} of session {number} was told {output!r}; not stored so")

    # --- the end ---------------------------------------------------------------------------------

    def unfinished(self) -> list[tuple[SessionNumber, TaskId]]:
        """Return the accepted tasks of kept sessions that have no outcome."""
        return [
            (number, task_id)
            for number, kept in self.sessions.items()
            if number not in self.forgotten
            for task_id in kept.tasks
            if task_id not in kept.outcomes
        ]


def _is_retried(spec: SessionSpec, value: bytes | None) -> bool:
    """Whether what the service raises is among what its session has tried again."""
    error = raised_by(value)
    if error is None or not spec.retry_on:
        return True
    return bool({base.__name__ for base in error.__mro__} & set(spec.retry_on))


def _most_attempts(kept: Kept) -> int:
    return kept.put.spec.max_attempts + kept.put.spec.retry_on_failure
