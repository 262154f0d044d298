"""CreateTask and WatchTask, for clients of every version: one object a call is the core's handle.

They serve a released client's every task, so they cost no asyncio task and no future.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flame.core.effects import TaskView
from flame.model.errors import FlameError
from flame.model.ids import TaskId, Tenant
from flame.session_manager import serving
from flame.session_manager.call import Call
from flame.session_manager.replies import Watches, Watching


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a version of the API says things.

    Attributes:
        encode: Returns a task's bytes for this call; so many states before it were not told.
        code_of: The status of an error.
    """

    encode: Callable[[TaskView, Call, int], bytes]
    code_of: serving.CodeOf


class Creation:
    """One CreateTask call."""

    __slots__ = ("_call", "_dialect")

    def __init__(self, call: Call, dialect: Dialect) -> None:
        self._call = call
        self._dialect = dialect

    def answer(self, view: TaskView) -> None:
        """The task is stored."""
        try:
            self._call.finish(self._dialect.encode(view, self._call, 0))
        except FlameError as error:
            self.refuse(error)

    def refuse(self, error: FlameError) -> None:
        """There is no such task."""
        serving.end(self._call, error, self._dialect.code_of)


class Watch:
    """One WatchTask call.

    A state that could not be sent yet is replaced by a newer one, which then says how many there
    were: a slow client never has more than one waiting.
    """

    __slots__ = ("_call", "_dialect", "_ended", "_sending", "_skipped", "_waiting")

    def __init__(self, call: Call, dialect: Dialect, ended: Callable[[], None]) -> None:
        self._call = call
        self._dialect = dialect
        self._ended: Callable[[], None] | None = ended
        self._skipped = 0
        self._sending = False
        self._waiting: TaskView | None = None

    def notify(self, view: TaskView) -> None:
        """The task changed."""
        if self._sending:
            self._skipped += self._waiting is not None
            self._waiting = view
            return
        try:
            data = self._dialect.encode(view, self._call, self._skipped)
        except FlameError as error:
            self.refuse(error)
            return
        self._skipped = 0
        if view.state.is_final:
            self._call.finish(data)
            self.end()
        else:
            self._sending = True
            self._call.send(data, self._sent)

    def refuse(self, error: FlameError) -> None:
        """There is no such task."""
        serving.end(self._call, error, self._dialect.code_of)
        self.end()

    def end(self) -> None:
        """Nothing more will be told."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def _sent(self) -> None:
        self._sending = False
        view, self._waiting = self._waiting, None
        if view is not None:
            self.notify(view)


#: ``Manager.watch``.
WatchTask = Callable[[Tenant, str, TaskId, Watching], Callable[[], None]]


def watch(
    call: Call, name: str, task_id: TaskId, dialect: Dialect, watches: Watches, begin: WatchTask
) -> None:
    """Serve a WatchTask call until the task is final or the client has gone.

    Raises:
        ResourceExhausted: As many tasks are watched as may be.
    """
    watches.begin()
    watcher = Watch(call, dialect, watches.end)
    stop = begin(call.caller.tenant, name, task_id, watcher)

    def gone() -> None:
        watcher.end()
        stop()

    if not call.is_over:
        call.on_gone = gone
