"""One session on the task channel, without the channel: what to send, and what arrived.

    run() ─▶ pile ─▶ unaccepted ─Accepted─▶ waiting (by task id) ─Outcomes─▶ futures resolved
                        ▲   │
                        └───┘ sent again after a reconnection, under the numbers it had

User threads append to the pile and do nothing else here; the I/O thread owns the rest. It does no
I/O: the channel sends what :meth:`SessionStream.next_frame` returns while there is anything, and
reports what came in.

A submitter's numbers are contiguous, and a number is sent until it is answered, so a lost connection
neither loses a task nor runs one twice. A refused batch leaves a gap, beyond which the manager takes
nothing: the stream then waits for the answers to all that is in flight and attaches again as a new
submitter, with what is left numbered from 0.
"""

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from hashlib import sha256
from itertools import repeat
from secrets import token_bytes
from typing import Any

from flame.model.errors import (
    FlameError,
    InvalidRequest,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimedOut,
    WrongState,
)
from flame.model.specs import EventCode, Failure, TaskState
from flame.sdk.future import Outcome
from flame.sdk.pile import Pile
from flame.wire import frames
from flame.wire.batches import pack, unpack_failures
from flame.wire.codec import notes_to

#: Outcomes that may be on their way to us, in bytes; and how many are taken before we say so.
OUTCOME_WINDOW = 16 * 1024 * 1024
OUTCOME_RETURN = 1024 * 1024

#: A future: its kind (for threads or for asyncio) only its maker and ``deliver`` know.
AnyFuture = Any
Deliver = Callable[[Sequence[AnyFuture], Sequence[Outcome]], object]


class State(Enum):
    """Where the stream is with its session."""

    DETACHED = auto()  # nothing to do yet
    WANTED = auto()  # an Attach is to be sent
    ATTACHING = auto()
    ATTACHED = auto()
    ENDED = auto()  # `error` says why


class Batch:
    """Consecutive numbers and their tasks, as they were or will be sent."""

    __slots__ = ("first", "futures", "sent")

    def __init__(self, first: int, futures: Sequence[AnyFuture]) -> None:
        self.first = first
        self.futures = futures
        self.sent = False

    @property
    def inputs(self) -> list[bytes | None]:
        return [future._task for future in self.futures]

    @property
    def end(self) -> int:
        return self.first + len(self.futures)

    def part(self, low: int, high: int) -> "Batch":
        """Return the numbers from ``low`` up to ``high`` as a batch of their own."""
        cut = slice(low - self.first, high - self.first)
        part = Batch(low, self.futures[cut])
        part.sent = self.sent
        return part


class SessionStream:
    """The tasks of one client in one session.

    Attributes:
        name: The session's name.
        pile: What ``run`` was given.
        cancels: Futures whose tasks shall be cancelled; any thread may append.
        awake: The I/O thread knows that there is something to do.
        state: See :class:`State`.
        error: Why nothing more can be submitted; None while it can.
        alias: The stream's number on the current connection; 0 while it has none.
        position: The position of the next outcome.
        closed: The session is closed, and every outcome is here.
        limited: A task with limits of its own was put into the pile, some time; any thread may set it.
    """

    def __init__(
        self,
        name: str,
        deliver: Deliver,
        *,
        position: int | None = 0,
        submitter: bytes | None = None,
    ) -> None:
        """Prepare a stream.

        Args:
            name: The session's.
            deliver: Resolves futures.
            position: Where to begin in the log of outcomes; None: outcomes from now on.
            submitter: Under whose numbers to submit: another process may have done so before. None:
                somebody new.
        """
        self.name = name
        self.pile = Pile()
        self.cancels: deque[AnyFuture] = deque()
        self.awake = False
        self.state = State.DETACHED
        self.error: FlameError | None = None
        self.alias = 0
        self.position = position or 0
        self.closed = False
        self.limited = False
        self._deliver = deliver
        self._from_now_on = position is None
        self._submitter = submitter or token_bytes(16)
        self._is_known = submitter is not None  # by those who submit the same again
        self._next_number = 0
        self._credit = 0
        self._chunk = frames.FRAME_TASKS
        self._unaccepted: deque[Batch] = deque()
        self._unsent = 0  # how many of them, at the end, are to be sent (again)
        self._accepted_end = 0
        self._resent_below = 0
        self._gap: int | None = None  # a number that was refused
        self._held_back: list[Batch] = []  # what the gap keeps from being accepted
        self._waiting: dict[int, AnyFuture] = {}
        self._early: dict[int, Outcome] = {}
        self._owed = 0
        self._cancel_requests = 0
        self._cancelling: dict[int, list[int]] = {}
        self._cancels_to_repeat: list[int] = []  # those whose answer a lost connection took
        self._answered = 0
        self._settled: list[tuple[int, Callable[[], object]]] = []
        self._emptied: list[Callable[[], object]] = []
        self._ended: list[Callable[[], object]] = []

    # --- what the session asks ------------------------------------------------------------------

    @property
    def unacknowledged(self) -> int:
        """Tasks that the cluster has neither stored nor refused, as far as we know."""
        held = sum(len(batch.futures) for batch in self._held_back)
        return len(self.pile) + held + sum(len(batch.futures) for batch in self._unaccepted)

    @property
    def outstanding(self) -> int:
        """Tasks without an outcome."""
        return self.unacknowledged + len(self._waiting)

    def when_settled(self, callback: Callable[[], object]) -> None:
        """Call back once every task that is here now is stored or refused."""
        self._settled.append((self._answered + self.unacknowledged, callback))
        self._tell_who_waits()

    def when_empty(self, callback: Callable[[], object]) -> None:
        """Call back once no task is without an outcome."""
        self._emptied.append(callback)
        self._tell_who_waits()

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Call back once nothing more will happen here."""
        self._ended.append(callback)
        self._tell_who_waits()

    def want(self) -> None:
        """Attach, unless that was asked for already."""
        if self.state is State.DETACHED:
            self.state = State.WANTED

    # --- what to send ---------------------------------------------------------------------------

    def attach_frame(self, alias: int) -> frames.ClientFrame:
        """Return the frame that (re)opens the session on a connection, under a new alias."""
        self.alias = alias
        self.state = State.ATTACHING
        self._owed = 0
        subscribe = not self._from_now_on
        return frames.ClientFrame(
            attach=frames.Attach(
                alias=alias,
                session=self.name,
                submitter=self._submitter,
                subscribe=subscribe,
                position=self.position,
                outcome_credit=OUTCOME_WINDOW if subscribe else 0,
            )
        )

    def next_frame(self) -> frames.ClientFrame | None:
        """Return the next frame that may be sent now; None if there is none."""
        if self.error is not None and self.pile.items:
            self._refuse_pile(self.error)
        if self.state is not State.ATTACHED:
            return None
        if self._owed >= OUTCOME_RETURN:
            return self.credit_frame()
        if self._cancels_to_repeat:
            return self._cancel_of(self._cancels_to_repeat.pop())
        if self.cancels:
            cancel = self._cancel_frame()
            if cancel is not None:
                return cancel
        if self._gap is not None and not self._unaccepted and (self._held_back or self.pile):
            self._start_over()
            return None
        batch = self._unsent_batch() if self._unsent else self._batch_from_pile()
        if batch is None:
            return None
        elements, absent = pack(batch.inputs)
        submit = frames.Submit(
            alias=self.alias, first_number=batch.first, inputs=elements, absent=absent
        )
        if self.limited:
            _add_limits(submit, batch.futures)
        return frames.ClientFrame(submit=submit)

    @property
    def has_something_to_send(self) -> bool:
        """Whether :meth:`next_frame` might return a frame. Cheap, and never wrongly False."""
        return bool(
            self.pile.items
            or self._unsent
            or self._owed >= OUTCOME_RETURN
            or self.cancels
            or self._gap is not None
        )

    def credit_frame(self) -> frames.ClientFrame | None:
        """Return what gives outcome credit back, however little; None if nothing is owed."""
        if self.state is not State.ATTACHED or not self._owed:
            return None
        owed, self._owed = self._owed, 0
        return frames.ClientFrame(
            credit=frames.OutcomeCredit(alias=self.alias, position=self.position, bytes=owed)
        )

    def _unsent_batch(self) -> Batch | None:
        """Return the first batch that waits to be sent, or as much of it as credit allows."""
        index = len(self._unaccepted) - self._unsent
        batch = self._unaccepted[index]
        count, cost = _fitting(_sizes(batch.inputs), self._credit)
        if not count:
            return None
        if count < len(batch.futures):
            middle = batch.first + count
            self._unaccepted[index] = batch.part(batch.first, middle)
            self._unaccepted.insert(index + 1, batch.part(middle, batch.end))
            batch = self._unaccepted[index]
        else:
            self._unsent -= 1
        batch.sent = True
        self._credit -= cost
        return batch

    def _batch_from_pile(self) -> Batch | None:
        """Make a batch of what has piled up, as large as a frame and credit allow."""
        pile = self.pile
        if self._gap is not None or self._credit < frames.TASK_COST or not pile.items:
            return None
        futures = pile.take(self._chunk)
        sizes = _sizes([future._task for future in futures])
        count, cost = _fitting(sizes, self._credit)
        if count < len(futures):
            # Large inputs: do not take 2048 each time to put most of them back.
            self._chunk = count + count // 8 + 1
            pile.put_back(futures[count:])
            if not count:
                return None
            del futures[count:], sizes[count:]
        else:
            self._chunk = min(frames.FRAME_TASKS, 2 * self._chunk)
        pile.taken(sizes)
        self._credit -= cost
        batch = Batch(self._next_number, futures)
        batch.sent = True
        self._next_number += count
        self._unaccepted.append(batch)
        return batch

    def _cancel_frame(self) -> frames.ClientFrame | None:
        """Return the cancels of tasks that have ids; the others wait until they have."""
        later, ids = [], []
        while self.cancels:
            future = self.cancels.popleft()
            if future.task_id in self._waiting:
                ids.append(future.task_id)
            elif future.task_id is None:
                later.append(future)
        self.cancels.extend(later)
        if not ids:
            return None
        self._cancel_requests += 1
        self._cancelling[self._cancel_requests] = ids
        return self._cancel_of(self._cancel_requests)

    def _cancel_of(self, request: int) -> frames.ClientFrame:
        ids = self._cancelling.get(request, ())
        cancel = frames.Cancel(alias=self.alias, request=request, task_ids=ids)
        return frames.ClientFrame(cancel=cancel)

    # --- what arrived ---------------------------------------------------------------------------

    def attached(self, frame: frames.Attached) -> None:
        """The manager knows us; or, if ``state`` is WANTED after this, has to be asked again."""
        if self._from_now_on:
            # Only now is it known where the log ends; nothing of ours can be below that.
            self._from_now_on = False
            self.position = frame.log_end
            self.state = State.WANTED
            return
        if frame.submitted < self._accepted_end:
            self._forgotten()
            self.position = min(self.position, frame.log_end)
            return
        self.state = State.ATTACHED
        self._resent_below = max(self._resent_below, frame.submitted)
        self._credit = frame.submit_credit
        if frame.closed and self.error is None:
            self.error = self._closed_error()
        self._cancels_to_repeat = list(self._cancelling)

    def granted(self, credit: int) -> None:
        """More may be submitted."""
        self._credit += credit

    def accepted(self, first_number: int, count: int, first_task_id: int) -> None:
        """These numbers are stored, as the tasks from ``first_task_id`` on."""
        for batch in self._take(first_number, count):
            futures = batch.futures
            first_id = first_task_id + batch.first - first_number
            ids = range(first_id, first_id + len(futures))
            self._waiting.update(zip(ids, futures, strict=True))
            # The assignment as a loop target is the cheapest per-task step there is.
            future: AnyFuture
            for future, future._task in zip(futures, ids, strict=True):  # noqa: B007
                pass
            self._accepted_end = max(self._accepted_end, batch.end)
            self._answered += len(futures)
            if self._early:
                self._deliver_early(ids)
        if self._early and not self._may_know_more_than_we:
            self._early.clear()
        self._tell_who_waits()

    def refused(self, first_number: int, count: int, error: FlameError) -> None:
        """These numbers are not stored, for this reason or for a gap before them."""
        for batch in self._take(first_number, count):
            closed = isinstance(error, WrongState)
            if self._gap is not None and batch.first > self._gap and not closed:
                self._held_back.append(batch)
                continue
            if self._gap is None:
                self._gap = batch.first
                self._hold_back_unsent(batch.first)
            if closed and self.error is None:
                self.error = error
            self._answered += len(batch.futures)
            self._deliver(batch.futures, [error] * len(batch.futures))
        self._tell_who_waits()

    def outcomes(self, frame: frames.Outcomes) -> None:
        """A part of the log: resolve the futures of our tasks in it."""
        ids: Sequence[int] = frame.task_ids
        outputs = list(frame.outputs)
        results: list[Outcome] = outputs  # type: ignore[assignment]
        self._owed += frames.TASK_COST * len(ids) + sum(map(len, outputs))
        for index in frame.absent:
            results[index] = None
        if frame.unsuccessful:
            failures = unpack_failures(frame.unsuccessful, frame.failures)
            for index, failure in failures.items():
                results[index] = error_of_failure(self.name, ids[index], failure)
        self.position = max(self.position, frame.position + len(ids))
        waiting = self._waiting
        before = len(waiting)
        futures = list(map(waiting.pop, ids, repeat(None)))
        if before - len(waiting) != len(ids):
            futures, results = self._sort_out(ids, futures, results)
        if futures:
            self._deliver(futures, results)
            if self._emptied:
                self._tell_who_waits()

    def cancel_done(self, request: int) -> None:
        """The tasks of a cancel are final, or their services have been told."""
        self._cancelling.pop(request, None)

    def session_closed(self) -> None:
        """The session is closed, and every outcome came before this."""
        self.closed = True
        left, self._waiting = list(self._waiting.values()), {}
        if left:
            text = f"session {self.name!r} was closed before the task's outcome was taken"
            error = TaskCancelled(text, session=self.name, code=EventCode.CANCELLED)
            self._deliver(left, [error] * len(left))
        self.end(self._closed_error())

    def attach_refused(self, error: FlameError) -> None:
        """The manager does not let us use the session."""
        if isinstance(error, InvalidRequest) and self.position and not self._from_now_on:
            # The log is shorter than what we had of it. Ask where it ends now.
            self._from_now_on = True
            self.state = State.WANTED
        else:
            self.end(error)

    def disconnected(self) -> None:
        """The connection is lost: on the next one, send again whatever was not answered."""
        self.alias = 0
        if self.state in (State.DETACHED, State.ENDED):
            return
        for batch in self._unaccepted:
            batch.sent = False
        self._unsent = len(self._unaccepted)
        self._resent_below = self._next_number
        if self._gap is not None:
            self._hold_back_unsent(self._gap)
        self.state = State.WANTED

    def end(self, error: FlameError) -> None:
        """Give up: whatever has no outcome gets this error, now and later."""
        self.state = State.ENDED
        self.error = error
        futures = list(self._waiting.values())
        for batch in (*self._unaccepted, *self._held_back):
            futures.extend(batch.futures)
            self._answered += len(batch.futures)
        self._waiting = {}
        self._unaccepted.clear()
        self._held_back.clear()
        self._unsent = 0
        self._early.clear()
        self._cancelling.clear()
        self._cancels_to_repeat.clear()
        self.cancels.clear()
        if futures:
            self._deliver(futures, [error] * len(futures))
        self._refuse_pile(error)

    # --- parts ----------------------------------------------------------------------------------

    @property
    def _may_know_more_than_we(self) -> bool:
        """Whether the manager may have stored tasks whose ids we do not know yet."""
        first = self._unaccepted[0].first if self._unaccepted else self._next_number
        return first < self._resent_below

    def _take(self, first: int, count: int) -> list[Batch]:
        """Remove these numbers from what is unaccepted. Usually they are its first batch."""
        pending = self._unaccepted
        if pending and pending[0].first == first and len(pending[0].futures) == count:
            if self._unsent == len(pending):
                self._unsent -= 1
            return [pending.popleft()]
        end = first + count
        taken: list[Batch] = []
        kept: deque[Batch] = deque()
        for batch in pending:
            low, high = max(first, batch.first), min(end, batch.end)
            if low >= high:
                kept.append(batch)
                continue
            taken.append(batch.part(low, high))
            if batch.first < low:
                kept.append(batch.part(batch.first, low))
            if high < batch.end:
                kept.append(batch.part(high, batch.end))
        self._unaccepted = kept
        self._unsent = sum(not batch.sent for batch in kept)
        return taken

    def _hold_back_unsent(self, gap: int) -> None:
        """Nothing beyond the gap that is not in flight needs to be sent in vain."""
        kept: deque[Batch] = deque()
        for batch in self._unaccepted:
            if batch.sent or batch.first < gap:
                kept.append(batch)
            else:
                self._held_back.append(batch)
        self._unaccepted = kept
        self._unsent = sum(not batch.sent for batch in kept)

    def _start_over(self) -> None:
        """Attach as a new submitter, with all that is unaccepted numbered from 0."""
        batches = sorted((*self._unaccepted, *self._held_back), key=lambda batch: batch.first)
        known = sha256(self._submitter).digest()[
            :16
        ]  # whoever is refused the same goes on as the same
        self._submitter = known if self._is_known else token_bytes(16)
        self._gap = None
        self._held_back = []
        self._next_number = self._accepted_end = self._resent_below = 0
        self._unaccepted = deque()
        for batch in batches:
            batch.first, batch.sent = self._next_number, False
            self._next_number = batch.end
            self._unaccepted.append(batch)
        self._unsent = len(self._unaccepted)
        self.state = State.WANTED

    def _forgotten(self) -> None:
        """The manager lost what it had acknowledged: a session in memory, and a restart."""
        lost, self._waiting = self._waiting, {}
        text = f"session {self.name!r} lives in memory and lost this task in a restart"
        self._deliver(
            list(lost.values()),
            [TaskLost(text, session=self.name, task=i, code=EventCode.LOST) for i in lost],
        )
        self._cancelling.clear()
        self._cancels_to_repeat.clear()
        self._start_over()
        self._tell_who_waits()

    def _sort_out(
        self, ids: Sequence[int], futures: list[AnyFuture], results: list[Outcome]
    ) -> tuple[list[AnyFuture], list[Outcome]]:
        """Leave out what is not ours, and remember what may turn out to be."""
        if self._may_know_more_than_we:
            self._early.update(
                (task_id, result)
                for task_id, future, result in zip(ids, futures, results, strict=True)
                if future is None
            )
        ours = [index for index, future in enumerate(futures) if future is not None]
        return [futures[index] for index in ours], [results[index] for index in ours]

    def _deliver_early(self, ids: range) -> None:
        known = [task_id for task_id in ids if task_id in self._early]
        if known:
            self._deliver(
                [self._waiting.pop(task_id) for task_id in known],
                [self._early.pop(task_id) for task_id in known],
            )

    def _closed_error(self) -> WrongState:
        return WrongState(f"session {self.name!r} is closed and takes no more tasks")

    def _refuse_pile(self, error: FlameError) -> None:
        """Nothing more can be submitted: answer what piled up."""
        while futures := self.pile.take(frames.FRAME_TASKS):
            self.pile.taken(_sizes([future._task for future in futures]))
            self._answered += len(futures)
            self._deliver(futures, [error] * len(futures))
        self._tell_who_waits()

    def _tell_who_waits(self) -> None:
        if self._settled:
            told = [callback for count, callback in self._settled if count <= self._answered]
            self._settled = [entry for entry in self._settled if entry[0] > self._answered]
            for callback in told:
                callback()
        if self._emptied and not self.outstanding:
            empty, self._emptied = self._emptied, []
            for callback in empty:
                callback()
        if self._ended and self.state is State.ENDED:
            ended, self._ended = self._ended, []
            for callback in ended:
                callback()


def error_of_failure(session: str, task_id: int, failure: Failure) -> TaskError:
    """Return what a future of the task raises."""
    state, code, message = failure
    if state is TaskState.CANCELLED:
        kind: type[TaskCancelled | TaskLost | TaskFailed] = TaskCancelled
        message = message or f"task {task_id} of session {session!r} was cancelled"
    elif code == EventCode.LOST:
        kind = TaskLost
    elif code in (EventCode.TIMED_OUT, EventCode.DEADLINE_PASSED):
        kind = TaskTimedOut
    else:
        kind = TaskFailed
    return kind(message, session=session, task=task_id, code=code)


def submitter_of(text: str) -> bytes:
    """Return the submitter id that a text stands for."""
    return sha256(f"flame submitter {text}".encode()).digest()[:16]


def _add_limits(submit: frames.Submit, futures: Sequence[AnyFuture]) -> None:
    for index, future in enumerate(futures):
        notes = getattr(future, "notes", None)
        if notes is not None:
            submit.noted.append(index)
            submit.notes.append(notes_to(notes))
        own = getattr(future, "limits", None)
        if own is not None:
            submit.limited.append(index)
            submit.timeout_ms.append(own.timeout_ms)
            submit.deadline_ms.append(own.deadline_ms)


def _sizes(inputs: Sequence[bytes | None]) -> list[int]:
    try:
        return list(map(len, inputs))  # type: ignore[arg-type]
    except TypeError:  # some are None
        return [0 if value is None else len(value) for value in inputs]


def _fitting(sizes: Sequence[int], credit: int) -> tuple[int, int]:
    """Return how many inputs of these sizes fit in a frame and in the credit, and their cost.

    A single input may exceed the frame's size, never the credit.
    """
    total = sum(sizes)
    cost = total + frames.TASK_COST * len(sizes)
    if total <= frames.FRAME_BYTES and cost <= credit:
        return len(sizes), cost
    count = total = cost = 0
    for size in sizes:
        next_cost = cost + size + frames.TASK_COST
        if next_cost > credit or (count and total + size > frames.FRAME_BYTES):
            break
        count, total, cost = count + 1, total + size, next_cost
    return count, cost
