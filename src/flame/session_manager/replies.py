"""Handles that the core hands back: who gets an answer, and how."""

import asyncio
from typing import Any, Protocol

from flame.core.effects import TaskView
from flame.model.errors import FlameError, ResourceExhausted


class Answerable(Protocol):
    """Somebody who waits for one answer."""

    def answer(self, view: Any) -> None:
        """Take the view (None where success is all there is to say)."""

    def refuse(self, error: FlameError) -> None:
        """Take the error."""


class CallReply:
    """A unary call that waits on a future."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answer(self, view: Any) -> None:
        """Resolve the call."""
        if not self.future.done():
            self.future.set_result(view)

    def refuse(self, error: FlameError) -> None:
        """Fail the call."""
        if not self.future.done():
            self.future.set_exception(error)


class Watches:
    """How many tasks are watched one by one (``WatchTask``), by clients of every version together."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self.count = 0

    def begin(self) -> None:
        """Count one more.

        Raises:
            ResourceExhausted: There are as many as may be.
        """
        if self.count >= self._most:
            raise ResourceExhausted(
                f"{self.count} tasks are watched, as many as may be (max_watches); "
                "try again when some are done"
            )
        self.count += 1

    def end(self) -> None:
        """Count one less."""
        self.count -= 1


class Watching(Protocol):
    """Somebody who wants to know of one task's changes."""

    def notify(self, view: TaskView) -> None:
        """The task changed."""

    def refuse(self, error: FlameError) -> None:
        """There is no such task."""
