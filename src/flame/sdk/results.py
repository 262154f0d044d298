"""Reading a session's outcome log: the results of all its tasks, whoever submitted them.

A program that crashed, or another one, gets by this what a session has come to. Positions are those
of the log, 0 is the session's first outcome, and they never change: a reader that remembers the last
position it dealt with goes on behind it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flame.model.errors import FlameError, InvalidRequest, WrongState
from flame.model.specs import EventCode, TaskState
from flame.sdk.future import Outcome, error_of_failure
from flame.sdk.session_stream import OUTCOME_RETURN, SessionStream
from flame.sdk.views import Task
from flame.wire import frames
from flame.wire.batches import unpack, unpack_failures


@dataclass(frozen=True, slots=True)
class Result:
    """What one task came to.

    Attributes:
        position: Its place in the session's log of outcomes.
        output: What the service returned; None also if the task did not succeed.
        error: Why it did not succeed; None if it did.
        skipped: How many results before this one are no longer kept. Only of a session in memory,
            whose reader was away or slow; :meth:`Session.info` has the counts.
    """

    position: int
    task_id: int
    output: bytes | None
    error: FlameError | None = None
    skipped: int = 0


class ResultLog(SessionStream):
    """A stream that submits nothing and takes every outcome, no faster than its reader.

    Args:
        returned: Called when credit can be given back to the manager.
        follow: Go on until the session is closed; otherwise until where the log ended at first.

    Raises:
        InvalidRequest: The position is no such number.
    """

    def __init__(
        self,
        name: str,
        position: int,
        returned: Callable[[SessionStream], object],
        *,
        follow: bool,
    ) -> None:
        _check_position(position)
        super().__init__(name, _nobody, position=position)
        self.submitter.id = b""  # nobody: it submits nothing
        self._follow = follow
        self._returned = returned
        self._end: int | None = None
        self._arrived: deque[tuple[list[Result], int]] = deque()
        self._news = asyncio.Event()
        self._failed: FlameError | None = None
        self._over = False

    async def next_results(self) -> list[Result]:
        """Wait for some results; none of them means that there are no more.

        Raises:
            FlameError: The session is not there, or the client was closed.
        """
        while not self._arrived:
            if self._failed is not None:
                raise self._failed
            if self._over:
                return []
            self._news.clear()
            await self._news.wait()
        results, cost = self._arrived.popleft()
        self._owed += cost
        if self._owed >= OUTCOME_RETURN:
            self._returned(self)
        if self._end is not None:
            results = [result for result in results if result.position < self._end]
            self._over = self._over or not results or results[-1].position >= self._end - 1
        return results

    # --- what arrived ---------------------------------------------------------------------------

    def attached(self, frame: frames.Attached) -> None:
        super().attached(frame)
        if not self._follow and self._end is None:
            self._end = frame.log_end
            self._over = self.position >= frame.log_end
        self._news.set()

    def outcomes(self, frame: frames.Outcomes) -> None:
        failures = unpack_failures(frame.unsuccessful, frame.failures)
        outputs = unpack(frame.outputs, frame.absent)
        results = [
            Result(
                frame.position + index,
                task_id,
                outputs[index],
                error_of_failure(self.name, task_id, failures[index])
                if index in failures
                else None,
                max(0, frame.position - self.position) if index == 0 else 0,
            )
            for index, task_id in enumerate(frame.task_ids)
        ]
        cost = frames.TASK_COST * len(results) + sum(map(len, frame.outputs))
        self.position = max(self.position, frame.position + len(results))
        self._arrived.append((results, cost))
        self._news.set()

    def session_closed(self) -> None:
        self._over = True
        super().session_closed()

    def attach_refused(self, error: FlameError) -> None:
        self.end(error)

    def end(self, error: FlameError) -> None:
        super().end(error)
        if not self._over and not isinstance(error, WrongState):
            self._failed = error
        self._over = True
        self._news.set()


def output_of(task: Task) -> bytes | None:
    """Return what a final task came to, as its future does.

    Raises:
        TaskError: It did not succeed.
    """
    if task.state is TaskState.SUCCEEDED:
        return task.output
    code = next((e.code for e in task.events if e.code != EventCode.PAYLOAD_OMITTED), 0)
    raise error_of_failure(task.session, task.id, (task.state, code, task.failure or ""))


def _nobody(futures: Sequence[Any], outcomes: Sequence[Outcome]) -> None:
    """There are no futures in a stream that submits nothing."""


def _check_position(value: object) -> None:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise InvalidRequest(f"from_position is {value!r}; it must be a whole number from 0 on")
