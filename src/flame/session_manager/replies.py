"""Handles that the core hands back: who gets an answer, and how."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from flame.core.effects import TaskView
from flame.model.errors import FlameError
from flame.model.ids import SessionNumber, TaskId


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


class Watcher:
    """One WatchTask call. States that nobody has read yet are replaced by newer ones."""

    __slots__ = ("_error", "_future", "_view", "final")

    def __init__(self) -> None:
        self._view: TaskView | None = None
        self._error: FlameError | None = None
        self._future: asyncio.Future[None] | None = None
        self.final: tuple[SessionNumber, TaskId] | None = None

    def notify(self, view: TaskView) -> None:
        """The task changed."""
        self._view = view
        self._wake()

    def is_final(self, session: SessionNumber, task_id: TaskId) -> None:
        """The task was final before the watch began: the store has it."""
        self.final = (session, task_id)
        self._wake()

    def refuse(self, error: FlameError) -> None:
        """There is no such task."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def views(self) -> AsyncIterator[TaskView]:
        """Yield each new state; end after a final one, or when ``final`` is set."""
        while True:
            if self._error is not None:
                raise self._error
            if self.final is not None:
                return
            view, self._view = self._view, None
            if view is not None:
                yield view
                if view.state.is_final:
                    return
            else:
                self._future = asyncio.get_running_loop().create_future()
                await self._future
