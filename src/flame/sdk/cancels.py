"""Cancels of tasks: asked for by any thread, sent once a task has its id, repeated until answered."""

from collections import deque
from collections.abc import Collection

from flame.sdk.submitter import AnyFuture
from flame.wire import frames


class Cancels:
    """The cancels of one session."""

    def __init__(self) -> None:
        self._asked: deque[AnyFuture] = deque()
        self._requests = 0
        self._unanswered: dict[int, list[int]] = {}
        self._to_repeat: list[int] = []  # those whose answer a lost connection took

    def ask(self, future: AnyFuture) -> None:
        """Cancel this one's task. Any thread may call; the other methods are the I/O thread's."""
        self._asked.append(future)

    @property
    def has_something_to_send(self) -> bool:
        """Whether :meth:`next_cancel` might return one. Cheap, and never wrongly False."""
        return bool(self._asked or self._to_repeat)

    def next_cancel(self, alias: int, waiting: Collection[int]) -> frames.Cancel | None:
        """Return what may be sent now: of tasks that have ids, and are still waited for."""
        if self._to_repeat:
            return self._cancel(alias, self._to_repeat.pop())
        if not self._asked:
            return None
        later, ids = [], []
        while self._asked:
            future = self._asked.popleft()
            if future.task_id in waiting:
                ids.append(future.task_id)
            elif future.task_id is None:
                later.append(future)
        self._asked.extend(later)
        if not ids:
            return None
        self._requests += 1
        self._unanswered[self._requests] = ids
        return self._cancel(alias, self._requests)

    def attached(self) -> None:
        """Send again what was not answered."""
        self._to_repeat = list(self._unanswered)

    def done(self, request: int) -> None:
        """The tasks of a cancel are final, or their services have been told."""
        self._unanswered.pop(request, None)

    def forget_sent(self) -> None:
        """The manager does not know the tasks any more."""
        self._unanswered.clear()
        self._to_repeat.clear()

    def clear(self) -> None:
        """Nothing is left to be cancelled."""
        self.forget_sent()
        self._asked.clear()

    def _cancel(self, alias: int, request: int) -> frames.Cancel:
        ids = self._unanswered.get(request, ())
        return frames.Cancel(alias=alias, request=request, task_ids=ids)
