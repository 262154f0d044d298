"""Named asyncio tasks with one owner.

Whoever starts a task owns it through a :class:`Tasks`, and closing that ends all of them. The
failure of a task goes to its owner or to the log, and is never lost in a garbage collection.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Self

log = logging.getLogger(__name__)


class Tasks:
    """A group of tasks that ends with its owner.

    Args:
        owner: Prefix of the tasks' names, for logs and debuggers.
        on_failure: Called with each exception that ends a task; by default it is logged. The other
            tasks go on either way, until the owner closes.
    """

    def __init__(
        self, owner: str, on_failure: Callable[[BaseException], None] | None = None
    ) -> None:
        self._owner = owner
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` under ``name`` until it ends or the owner closes."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if self._on_failure is not None:
            self._on_failure(error)
        else:
            log.error("task-failed task=%s", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __len__(self) -> int:
        return len(self._tasks)


def is_cancelled() -> bool:
    """Whether somebody asked the current task to end.

    A call of ``grpc.aio`` that its own side cancelled raises CancelledError too, into a task that
    nobody cancelled and that has to go on.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
