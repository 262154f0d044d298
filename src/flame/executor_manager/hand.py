"""The tasks an executor has in hand: what the I/O thread and the main thread share.

    I/O thread ──deal()──▶ tasks ──popleft()──▶ main thread ──append()──▶ finished ──▶ I/O thread
                    ▲        │
                    └────────┘ take_back(): the unstarted ones, from the far end

There is no lock per task: ``deque.popleft``, ``pop``, ``extend`` and ``append`` are atomic under the
interpreter's lock, so a task is either popped by the main thread (started) or by the I/O thread
(taken back), never both. Wake-ups are one per batch: each side says when it goes to sleep, and looks
again before it does. The I/O thread wakes the main thread when it has done with what arrived together:
earlier, that would only wait for the interpreter's lock.
"""

import itertools
import os
import sys
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

from flame.executor_manager.outbox import Finished
from flame.executor_manager.task_output import TaskOutput
from flame.model.ids import TaskId
from flame.wire import frames

#: While more tasks are in hand, results wait at most so many ns for others to be sent with.
RIPE_AFTER = 4_000_000

_RING = (1).to_bytes(8, sys.byteorder)  # as the kernel counts them

#: (task id, attempt, input)
Held = tuple[TaskId, int, bytes | None]


@dataclass(frozen=True, slots=True)
class Enter:
    """Bind to a session: make the service and let it enter."""

    bind: frames.Bind


@dataclass(frozen=True, slots=True)
class Leave:
    """Unbind: let the service leave."""


@dataclass(frozen=True, slots=True)
class End:
    """Leave if bound, then end the process."""


Command = Enter | Leave | End


class Bell:
    """What a sleeping thread waits for; rings that nobody waited for are one, for the next who does.

    Whoever rings lets go of the interpreter first. A lock or a queue would wake the sleeper while the
    interpreter is still taken: it goes to sleep again at once, and all in all each waking takes five
    switches between the threads instead of one.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Wake the one who waits, or who will."""
        os.write(self._fd, _RING)

    def wait(self) -> None:
        """Sleep until it rings; signals are handled meanwhile."""
        os.read(self._fd, len(_RING))

    def __del__(self) -> None:
        os.close(self._fd)


class Hand:
    """Tasks in, results out, between two threads.

    Attributes:
        tasks: Unstarted tasks, next one first.
        finished: Results that have not been put into a frame.
        cancelled: Tasks that nobody wants any more; services see it as ``context.cancelled``.
        output: What tasks write beside their results.
        awake: False while the I/O thread has nothing to send and must be woken for a result.
        gathering: True while the I/O thread takes what arrived together; ``hand_over`` ends it.
    """

    def __init__(self) -> None:
        self.tasks: deque[Held] = deque()
        self.finished: deque[Finished] = deque()
        self.cancelled: set[int] = set()
        #: What is said of tasks in hand; few have any.
        self.notes: dict[int, frames.TaskNotes] = {}
        self.output = TaskOutput()
        self.awake = True
        self.gathering = False
        self._commands: deque[Command] = deque()
        self._bell = Bell()
        self._main_waits = False

    # --- I/O thread

    def deal(self, tasks: Iterable[Held]) -> None:
        """Hand tasks to the main thread."""
        self.tasks.extend(tasks)
        self._wake_main()

    def command(self, command: Command) -> None:
        """Ask the main thread for something, to be done when no task is left.

        An Enter comes first: what is in hand with it is of that session.
        """
        self._commands.append(command)
        self._wake_main()

    def take_back(self, wanted: Collection[int], count: int = 0) -> list[int]:
        """Remove unstarted tasks, these or else the last ``count``; return the ids removed."""
        taken: list[int] = []
        if not wanted:
            while len(taken) < count:
                try:
                    taken.append(self.tasks.pop()[0])
                except IndexError:  # the main thread has started all the others
                    break
            return taken
        ids = frozenset(wanted)
        kept: list[Held] = []
        # The main thread may start tasks at the other end all the while.
        try:
            while len(taken) < len(ids):
                task = self.tasks.pop()
                if task[0] in ids:
                    taken.append(task[0])
                else:
                    kept.append(task)
        except IndexError:
            pass
        if kept:
            self.deal(reversed(kept))
        return taken

    def end(self) -> None:
        """Let the main thread finish the task that runs, start no other, and end the process."""
        self.take_back((), sys.maxsize)
        self.command(End())

    def hand_over(self) -> None:
        """All that arrived together is here: let the main thread see to it."""
        self.gathering = False
        self._wake_main()

    def _wake_main(self) -> None:
        if self._main_waits and not self.gathering:
            self._main_waits = False
            self._bell.ring()

    # --- main thread

    def wait(self) -> Command | None:
        """Sleep until there is a task (None) or, with no task left, a command."""
        while True:
            if self._commands and (not self.tasks or isinstance(self._commands[0], Enter)):
                return self._commands.popleft()
            if self.tasks:
                return None
            self._main_waits = True
            if not self.tasks and not self._commands:
                self._bell.wait()
            self._main_waits = False


def held_of(tasks: frames.Tasks, inputs: Iterable[bytes | None]) -> Iterable[Held]:
    """Return a frame's tasks as the hand keeps them."""
    # Copied as a whole, which is faster than one by one.
    attempts: Iterable[int] = tasks.attempts[:] or itertools.repeat(1)
    return zip(cast("Iterable[TaskId]", tasks.task_ids[:]), attempts, inputs, strict=False)
