"""Submits tasks while their outcomes are already being shown, in order or as they come.

One thread reads and submits, so that slow input delays no output and slow output no task; it stays
at most ``AHEAD`` tasks before what was shown, so that endless input fits into memory.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

import flame
from flame.model.errors import FlameError

AHEAD = 16_384  # tasks


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task that was submitted: its place among them, from 1, and what it is for."""

    number: int
    item: str | None
    future: flame.Future


class Follow:
    """An iterator over tasks: in their order, or with ``ordered=False`` as they finish.

    Args:
        inputs: Item and input of each task.
        finished: Called when a task has finished, by another thread.
    """

    def __init__(
        self,
        session: flame.Session,
        inputs: Iterator[tuple[str | None, bytes]],
        *,
        ordered: bool,
        finished: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._ordered = ordered
        self._finished = finished
        self._shown: SimpleQueue[Submitted | BaseException | int] = SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self._stopped = False

    def __iter__(self) -> Iterator[Submitted]:
        threading.Thread(target=self._submit, name="flmexec-submit", daemon=True).start()
        seen, total = 0, None
        while total is None or seen < total:
            got = self._shown.get()
            if isinstance(got, BaseException):
                raise got
            if isinstance(got, int):
                total = got
                continue
            yield got
            seen += 1
            self._room.release()

    def stop(self) -> None:
        """Submit no more."""
        self._stopped = True

    def _submit(self) -> None:
        number = 0
        try:
            for number, (item, data) in enumerate(self._inputs, start=1):
                self._room.acquire()
                if self._stopped:
                    return
                task = Submitted(number, item, self._session.run(data))
                if self._finished is not None:
                    self._count(task, self._finished)
                if self._ordered:
                    self._shown.put(task)
                else:
                    self._show_when_done(task)
        except (FlameError, OSError) as error:
            self._shown.put(error)
        else:
            self._shown.put(number)

    def _show_when_done(self, task: Submitted) -> None:
        task.future.add_done_callback(lambda _: self._shown.put(task))

    @staticmethod
    def _count(task: Submitted, finished: Callable[[], None]) -> None:
        task.future.add_done_callback(lambda _: finished())
