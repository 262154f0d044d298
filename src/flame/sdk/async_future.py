"""Futures of asyncio, and how outcomes get from the I/O thread to the loop that waits for them."""

import asyncio
from collections import deque
from collections.abc import Sequence

from flame.model.specs import TaskLimits
from flame.model.task_notes import TaskNotes
from flame.sdk.connection import Feed
from flame.sdk.future import Outcome


class AsyncFuture(asyncio.Future[bytes | None]):
    """The outcome of one task, on the loop that submitted it. Await it, gather it, wait for it.

    Cancelling it (or a task that awaits it) asks the cluster to cancel the task as well.
    """

    # A real asyncio.Future: awaiting one of our own making would cost an asyncio.Task in gather().
    __slots__ = ("_task", "_feed")

    _task: bytes | int | None  # the input; the task's id, once it is stored
    _feed: Feed

    @property
    def task_id(self) -> int | None:
        """The task's id within its session; None until the cluster has stored the task."""
        return self._task if isinstance(self._task, int) else None

    def cancel(self, msg: object | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._feed.request_cancel(self)
        return cancelled


class AsyncLimitedFuture(AsyncFuture):
    """The outcome of a task that has limits of its own; see ``AsyncSession.run``."""

    __slots__ = ("limits", "notes")

    limits: TaskLimits | None
    notes: TaskNotes | None


class Delivery:
    """Takes outcomes from the I/O thread to one user loop, a pile at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: deque[tuple[Sequence[AsyncFuture], Sequence[Outcome]]] = deque()
        self._scheduled = False

    def __call__(self, futures: Sequence[AsyncFuture], outcomes: Sequence[Outcome]) -> None:
        """I/O thread: hand over a batch."""
        self._batches.append((futures, outcomes))
        if not self._scheduled:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._batches.clear()  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        self._scheduled = False  # before the look, so that what comes now wakes us again
        while self._batches:
            futures, outcomes = self._batches.popleft()
            for future, outcome in zip(futures, outcomes, strict=True):
                if future.done():
                    continue  # cancelled on this side
                if outcome is None or outcome.__class__ is bytes:
                    future.set_result(outcome)
                else:
                    future.set_exception(outcome)  # type: ignore[arg-type]
