"""The future of one task: what ``Session.run`` returns.

It is made for every task, so it is lean: four slots, no lock, and no second object beside it: until
the task is stored it holds the input, afterwards the task's id. The I/O thread stores the outcome in
one slot and moves on; only a future that somebody waits for, or that has callbacks, costs more.

How a waiter and the I/O thread meet without a lock on the hot path: the waiter adds its callback and
*then* looks at the outcome; the I/O thread stores the outcome and *then* looks for callbacks. So one
of them sees the other's, perhaps both do; a callback is popped before it is called, and a pop is
atomic, so it is called once.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Final, Protocol

from flame.model.errors import (
    FlameError,
    TaskCancelled,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskTimedOut,
    WrongState,
)
from flame.model.specs import EventCode, Failure, TaskLimits, TaskState
from flame.model.task_notes import TaskNotes

_log = logging.getLogger(__name__)

#: What a task came to: its output, or why there is none.
Outcome = bytes | None | FlameError


class _Pending:
    """The type of the mark for "no outcome yet"."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<pending>"


PENDING: Final = _Pending()

_adding = threading.Lock()


class TaskOwner(Protocol):
    """What a future needs of the stream that its task is in."""

    def request_cancel(self, future: "Future") -> None:
        """Ask the cluster to cancel the future's task. Any thread."""

    def may_wait(self) -> bool:
        """Whether the calling thread may wait for an outcome: not if it is the one that brings it."""


class Future:
    """The outcome of one task, now or later. Any thread may use it.

    A lost session manager never shows here: the outcome comes after the reconnection.
    """

    __slots__ = ("_outcome", "_callbacks", "_task", "_owner")

    def __init__(self, owner: TaskOwner, input: bytes | None) -> None:
        self._outcome: Outcome | _Pending = PENDING
        self._callbacks: list[Callable[[Future], object]] | None = None
        self._task: bytes | int | None = input  # its id, once it is stored
        self._owner = owner

    @property
    def task_id(self) -> int | None:
        """The task's id within its session; None until the cluster has stored the task."""
        task = self._task
        return task if isinstance(task, int) else None

    def done(self) -> bool:
        """Whether the outcome is here."""
        return self._outcome is not PENDING

    def cancelled(self) -> bool:
        """Whether the task was cancelled before it finished."""
        return isinstance(self._outcome, TaskCancelled)

    def result(self, timeout: float | None = None) -> bytes | None:
        """Wait for the task and return its output.

        Raises:
            TaskFailed: The service raised; the text has its traceback.
            TaskTimedOut: It ran, or took, longer than its session allows.
            TaskCancelled: It was cancelled before it finished.
            TaskLost: Its executors died until its attempts were spent.
            FlameError: The task was not accepted, for the reason given.
            TimeoutError: There is no outcome after ``timeout`` seconds. The task goes on.
        """
        outcome = self._outcome
        if outcome is PENDING:
            self._wait(timeout)
            outcome = self._outcome
        if outcome is None or outcome.__class__ is bytes:
            return outcome
        try:
            raise outcome  # type: ignore[misc]
        finally:
            del outcome, self  # the traceback refers to this frame: no cycle through it

    def exception(self, timeout: float | None = None) -> FlameError | None:
        """Wait for the task and return why it did not succeed; None if it did.

        Raises:
            TimeoutError: There is no outcome after ``timeout`` seconds.
        """
        if self._outcome is PENDING:
            self._wait(timeout)
        outcome = self._outcome
        return outcome if isinstance(outcome, FlameError) else None

    def cancel(self) -> bool:
        """Ask the cluster to cancel the task; False if the outcome is here already.

        The outcome decides: TaskCancelled, or whatever the task came to first.
        """
        if self._outcome is not PENDING:
            return False
        self._owner.request_cancel(self)
        return True

    def add_done_callback(self, callback: "Callable[[Future], object]") -> None:
        """Call ``callback(future)`` once the outcome is here; at once if it is.

        It runs in the thread that brings outcomes, so it must be quick and must not wait for
        another task. What it raises is logged.
        """
        with _adding:
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append(callback)
        if self._outcome is not PENDING:
            run_callbacks(self)

    def remove_done_callback(self, callback: "Callable[[Future], object]") -> None:
        """Take back a callback that was not called yet."""
        with _adding:
            try:
                if self._callbacks is not None:
                    self._callbacks.remove(callback)
            except ValueError:
                pass  # called already, or about to be

    def _wait(self, timeout: float | None) -> None:
        if not self._owner.may_wait():
            raise WrongState(
                "a Future's callback runs in the thread that brings outcomes and must not wait for "
                "one; wait in another thread"
            )
        latch = threading.Lock()
        latch.acquire()

        def wake(_: Future) -> None:
            latch.release()

        self.add_done_callback(wake)
        woken = False
        try:
            woken = latch.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            if not woken:
                self.remove_done_callback(wake)
        if self._outcome is PENDING:
            raise TimeoutError(f"no outcome after {timeout} s; the task goes on")

    def __repr__(self) -> str:
        outcome = self._outcome
        if outcome is PENDING:
            state = "pending"
        elif isinstance(outcome, FlameError):
            state = type(outcome).__name__
        else:
            state = "succeeded"
        return f"<flame.Future task={self.task_id or '?'} {state}>"


class LimitedFuture(Future):
    """The outcome of a task that has limits or notes of its own; see ``Session.run``."""

    __slots__ = ("limits", "notes")

    def __init__(
        self,
        owner: TaskOwner,
        input: bytes | None,
        limits: TaskLimits | None,
        notes: TaskNotes | None = None,
    ) -> None:
        super().__init__(owner, input)
        self.limits = limits
        self.notes = notes


def resolve(futures: Iterable[Future], outcomes: Iterable[Outcome]) -> None:
    """Give each future its outcome, the whole batch first, and then call their callbacks."""
    called: list[Future] = []
    # The assignment as a loop target is the cheapest per-task step there is.
    future: Future
    for future, future._outcome in zip(futures, outcomes):  # noqa: B905
        if future._callbacks is not None:
            called.append(future)
    for future in called:
        run_callbacks(future)


def fail(futures: Iterable[Future], error: FlameError) -> None:
    """Give all futures the same error."""
    resolve(futures, repeat(error))


def run_callbacks(future: Future) -> None:
    """Call, once each, the callbacks of a future whose outcome is here."""
    callbacks = future._callbacks
    while callbacks:
        try:
            callback = callbacks.pop(0)
        except IndexError:
            return  # another thread popped it
        try:
            callback(future)
        except Exception:
            _log.exception("future-callback-raised task=%s", future.task_id)


def deadline_of(timeout: float | None) -> float | None:
    """Return when a timeout that starts now ends, on the monotonic clock."""
    return None if timeout is None else time.monotonic() + timeout


def left_until(deadline: float | None) -> float | None:
    """Return the seconds until a deadline, at least 0."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


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
