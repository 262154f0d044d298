"""Handles that the core hands back: who gets an answer, and how."""

import asyncio
from typing import Any, Protocol

from flame.core.effects import TaskView
from flame.model.errors import FlameError


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


class Watching(Protocol):
    """Somebody who wants to know of one task's changes."""

    def notify(self, view: TaskView) -> None:
        """The task changed."""

    def refuse(self, error: FlameError) -> None:
        """There is no such task."""
