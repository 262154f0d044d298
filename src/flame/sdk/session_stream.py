"""One session on the task channel, without the channel: what to send, and what arrived.

    run() ─▶ pile ─▶ submitter ─Accepted─▶ waiting (by task id) ─Outcomes─▶ futures resolved

User threads append to the pile and do nothing else here; the I/O thread owns the rest. It does no
I/O: the channel sends what :meth:`SessionStream.next_frame` returns while there is anything, and
reports what came in.

Up to the answer to its submit a task is the submitter's; from then on it waits here, under its id.
"""

from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import repeat

from flame.model.errors import (
    FlameError,
    InvalidRequest,
    NotFound,
    TaskCancelled,
    TaskLost,
    WrongState,
)
from flame.model.specs import EventCode
from flame.sdk.cancels import Cancels
from flame.sdk.future import Outcome, error_of_failure
from flame.sdk.submitter import AnyFuture, Submitter, sizes_of
from flame.wire import frames
from flame.wire.batches import unpack_failures

#: Outcomes that may be on their way to us, in bytes; and how many are taken before we say so.
OUTCOME_WINDOW = 16 * 1024 * 1024
OUTCOME_RETURN = 1024 * 1024

#: Resolves futures, whose kind it knows.
Deliver = Callable[[Sequence[AnyFuture], Sequence[Outcome]], object]


class State(Enum):
    """Where the stream is with its session."""

    DETACHED = auto()  # nothing to do yet
    WANTED = auto()  # an Attach is to be sent
    ATTACHING = auto()
    ATTACHED = auto()
    ENDED = auto()  # `error` says why


class SessionStream:
    """The tasks of one client in one session.

    Attributes:
        name: The session's name.
        submitter: What has not been answered.
        pile: What ``run`` was given: the submitter's.
        cancels: What shall be cancelled.
        awake: The I/O thread knows that there is something to do.
        state: See :class:`State`.
        error: Why nothing more can be submitted; None while it can.
        alias: The stream's number on the current connection; 0 while it has none.
        is_early: The session is being created, and there may be none to attach to yet.
        position: The position of the next outcome.
        closed: The session is closed, and every outcome is here.
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
        self.submitter = Submitter(submitter)
        self.pile = self.submitter.pile
        self._is_first_submitter = True
        self.cancels = Cancels()
        self.awake = False
        self.state = State.DETACHED
        self.error: FlameError | None = None
        self.alias = 0
        self.is_early = False
        self._asked_early = False
        self.position = position or 0
        self.closed = False
        self._deliver = deliver
        self._from_now_on = position is None
        self._waiting: dict[int, AnyFuture] = {}
        self._early: dict[int, Outcome] = {}
        self._owed = 0
        self._answered = 0
        self._refused = 0  # of these, since somebody asked
        self._refusal: FlameError | None = None  # the first one's
        self._settled: list[tuple[int, Callable[[], object]]] = []
        self._emptied: list[Callable[[], object]] = []
        self._ended: list[Callable[[], object]] = []

    # --- what the session asks ------------------------------------------------------------------

    @property
    def unacknowledged(self) -> int:
        """Tasks that the cluster has neither stored nor refused, as far as we know."""
        return self.submitter.unanswered

    @property
    def outstanding(self) -> int:
        """Tasks without an outcome."""
        return self.unacknowledged + len(self._waiting)

    def when_settled(self, callback: Callable[[], object]) -> None:
        """Call back once every task that is here now is stored or refused."""
        self._settled.append((self._answered + self.unacknowledged, callback))
        self._tell_who_waits()

    def take_refusals(self) -> tuple[int, FlameError | None]:
        """Return how many tasks were not stored since this was last asked, and why the first was not."""
        taken = self._refused, self._refusal
        self._refused, self._refusal = 0, None
        return taken

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

    def created(self) -> None:
        """The session is there now: attach, unless that was not too early."""
        self.is_early = False
        self.want()

    # --- what to send ---------------------------------------------------------------------------

    def attach_frame(self, alias: int) -> frames.ClientFrame:
        """Return the frame that (re)opens the session on a connection, under a new alias."""
        self.alias = alias
        self.state = State.ATTACHING
        self._asked_early = self.is_early
        self._owed = 0
        subscribe = not self._from_now_on
        return frames.ClientFrame(
            attach=frames.Attach(
                alias=alias,
                session=self.name,
                submitter=self.submitter.id,
                subscribe=subscribe,
                position=self.position,
                outcome_credit=OUTCOME_WINDOW if subscribe else 0,
                own=self._is_first_submitter,
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
        cancel = self.cancels.next_cancel(self.alias, self._waiting)
        if cancel is not None:
            return frames.ClientFrame(cancel=cancel)
        if self.submitter.must_start_over:
            self._start_over()
            return None
        submit = self.submitter.next_submit(self.alias)
        return None if submit is None else frames.ClientFrame(submit=submit)

    @property
    def has_something_to_send(self) -> bool:
        """Whether :meth:`next_frame` might return a frame. Cheap, and never wrongly False."""
        return bool(
            self.submitter.has_something_to_send
            or self._owed >= OUTCOME_RETURN
            or self.cancels.has_something_to_send
        )

    def credit_frame(self) -> frames.ClientFrame | None:
        """Return what gives outcome credit back, however little; None if nothing is owed."""
        if self.state is not State.ATTACHED or not self._owed:
            return None
        owed, self._owed = self._owed, 0
        return frames.ClientFrame(
            credit=frames.OutcomeCredit(alias=self.alias, position=self.position, bytes=owed)
        )

    # --- what arrived ---------------------------------------------------------------------------

    def attached(self, frame: frames.Attached) -> None:
        """The manager knows us; or, if ``state`` is WANTED after this, has to be asked again."""
        if self._from_now_on:
            # Only now is it known where the log ends; nothing of ours can be below that.
            self._from_now_on = False
            self.position = frame.log_end
            self.state = State.WANTED
            return
        if self.submitter.is_forgotten(frame.submitted):
            self._forgotten()
            self.position = min(self.position, frame.log_end)
            return
        self.state = State.ATTACHED
        self.submitter.attached(frame.submitted, frame.submit_credit)
        if frame.closed and self.error is None:
            self.error = self._closed_error()
        self.cancels.attached()

    def granted(self, credit: int) -> None:
        """More may be submitted."""
        self.submitter.credit += credit

    def accepted(self, first_number: int, count: int, first_task_id: int) -> None:
        """These numbers are stored, as the tasks from ``first_task_id`` on."""
        for batch in self.submitter.accepted(first_number, count):
            futures = batch.futures
            first_id = first_task_id + batch.first - first_number
            ids = range(first_id, first_id + len(futures))
            self._waiting.update(zip(ids, futures, strict=True))
            # The assignment as a loop target is the cheapest per-task step there is.
            future: AnyFuture
            for future, future._task in zip(futures, ids, strict=True):  # noqa: B007
                pass
            self._answered += len(futures)
            if self._early:
                self._deliver_early(ids)
        if self._early and not self.submitter.manager_may_know_more:
            self._early.clear()
        self._tell_who_waits()

    def refused(self, first_number: int, count: int, error: FlameError) -> None:
        """These numbers are not stored, for this reason or for a gap before them."""
        closed = isinstance(error, WrongState)
        for batch in self.submitter.refused(first_number, count, closed=closed):
            if closed and self.error is None:
                self.error = error
            self._refuse(batch.futures, error)
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
        self.cancels.done(request)

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
        elif isinstance(error, NotFound) and self._asked_early and self.state is State.ATTACHING:
            self.state = State.DETACHED if self.is_early else State.WANTED
        else:
            self.end(error)

    def disconnected(self) -> None:
        """The connection is lost: on the next one, send again whatever was not answered."""
        self.alias = 0
        if self.state in (State.DETACHED, State.ENDED):
            return
        self.submitter.disconnected()
        self.state = State.DETACHED if self.is_early else State.WANTED

    def end(self, error: FlameError) -> None:
        """Give up: whatever has no outcome gets this error, now and later."""
        self.state = State.ENDED
        self.error = error
        unanswered = self.submitter.abandon()
        stored = list(self._waiting.values())
        self._waiting = {}
        self._early.clear()
        self.cancels.clear()
        if stored:
            self._deliver(stored, [error] * len(stored))
        if unanswered:
            self._refuse(unanswered, error)
        self._refuse_pile(error)

    # --- parts ----------------------------------------------------------------------------------

    def _start_over(self) -> None:
        """Attach as a new submitter, with what is left."""
        self.submitter.start_over()
        self._is_first_submitter = False  # what waits was submitted by the one before
        self.state = State.WANTED

    def _forgotten(self) -> None:
        """The manager lost what it had acknowledged: in a restart of a session in memory, or its power."""
        lost, self._waiting = self._waiting, {}
        text = (
            f"session {self.name!r} lost this task: in a restart, as it lives in memory, or in a loss "
            "of power, as it is not synced"
        )
        self._deliver(
            list(lost.values()),
            [TaskLost(text, session=self.name, task=i, code=EventCode.LOST) for i in lost],
        )
        self.cancels.forget_sent()
        self._start_over()
        self._tell_who_waits()

    def _sort_out(
        self, ids: Sequence[int], futures: list[AnyFuture], results: list[Outcome]
    ) -> tuple[list[AnyFuture], list[Outcome]]:
        """Leave out what is not ours, and remember what may turn out to be."""
        if self.submitter.manager_may_know_more:
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
            self.pile.taken(sizes_of([future._task for future in futures]))
            self._refuse(futures, error)
        self._tell_who_waits()

    def _refuse(self, futures: Sequence[AnyFuture], error: FlameError) -> None:
        """Answer tasks that are not stored."""
        self._answered += len(futures)
        self._refused += len(futures)
        self._refusal = self._refusal or error
        self._deliver(futures, [error] * len(futures))

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
