"""Results on their way: kept until the session manager has stored them.

    finished ──take()──▶ frame ──next_unsent()──▶ sent ──stored()──▶ forgotten
                           ▲                       │
                           └────── rewind() ───────┘   the connection broke: send again
The frames are numbered, and go out again under the number they had.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flame.executor_manager.task_output import Streams
from flame.model.specs import EventCode, Failure, TaskState
from flame.wire import frames
from flame.wire.batches import pack, pack_failures

#: Unstored results over this many bytes stop new tasks from coming.
HIGH_WATER = 64 * 1024 * 1024

MAX_REASON = 64 * 1024  # characters of a failure's text


class Failed(str):
    """The output of a task that failed: why, for people. Its own type, as outputs are bytes.

    ``kinds`` say it for programs; see ``model.retries``.
    """

    __slots__ = ("kinds",)
    kinds: Sequence[str]

    def __new__(cls, text: object, kinds: Sequence[str] = ()) -> "Failed":
        self = super().__new__(cls, text)
        self.kinds = kinds
        return self


#: (task id, attempt, output, ns that it took, bytes of input)
Finished = tuple[int, int, bytes | Failed | None, int, int]

_PLAIN = {bytes, type(None)}


@dataclass(frozen=True, slots=True)
class Batch:
    """A frame with results and what it says about its tasks."""

    whole: frames.ExecutorFrame
    size: int
    task_ids: Sequence[int]
    elapsed_ns: int
    input_bytes: int

    @property
    def frame(self) -> frames.Results:
        """The results in the frame."""
        return self.whole.results


class Outbox:
    """Results frames of one incarnation, numbered from 1, oldest first."""

    def __init__(self, max_output_bytes: int) -> None:
        self._max_output_bytes = max_output_bytes
        self._batches: deque[Batch] = deque()
        self._sent = 0  # this many of the batches went out on the current connection
        self._sequence = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def full(self) -> bool:
        """Whether so much is unstored that no more tasks should come."""
        return self._bytes > HIGH_WATER

    def take(
        self, finished: deque[Finished], written: dict[int, Streams] | None = None
    ) -> Batch | None:
        """Make one frame of what is at the head of ``finished``; None when that is empty.

        ``written``: what tasks wrote; theirs is taken out of it. The other thread may append to ``finished`` meanwhile.
        """
        rows = [finished.popleft() for _ in range(min(len(finished), frames.FRAME_TASKS))]
        if not rows:
            return None
        # What a task wrote is there before its result: only now is it known that none of these did.
        batch = self._mixed(rows, written) if written else self._plain(rows)
        finished.extendleft(reversed(rows[len(batch.task_ids) :]))
        self._batches.append(batch)
        self._bytes += batch.size
        return batch

    def _plain(self, rows: Sequence[Finished]) -> Batch:
        """Make a frame of results that nearly all are like: looked at by the column, not one by one."""
        task_ids, attempts, outputs, times, inputs = zip(*rows, strict=True)
        kinds = set(map(type, outputs))
        if not kinds <= _PLAIN:
            return self._mixed(rows, {})
        elements, absent = pack(outputs) if type(None) in kinds else (outputs, ())
        lengths = list(map(len, elements))
        size = sum(lengths)
        if size > frames.FRAME_BYTES or max(lengths) > self._max_output_bytes:
            return self._mixed(rows, {})
        whole = self._frame(task_ids, elements, absent, attempts)
        return Batch(whole, size + frames.TASK_COST * len(rows), task_ids, sum(times), sum(inputs))

    def _mixed(self, rows: Iterable[Finished], written: dict[int, Streams]) -> Batch:
        """Make a frame of as many results as fit: failures, logs and large outputs may be among them."""
        task_ids: list[int] = []
        attempts: list[int] = []
        outputs: list[bytes | None] = []
        failures: dict[int, Failure] = {}
        kinds: list[Sequence[str]] = []
        logs: dict[int, Streams] = {}
        size = elapsed = input_bytes = 0
        limit = self._max_output_bytes
        for task_id, attempt, output, task_ns, task_bytes in rows:
            length = 0 if output is None else len(output)
            if output.__class__ is bytes and length > limit:
                output = _too_large(length, limit)
                length = 0
            log = written.get(task_id)
            if log is not None:
                length += len(log[0]) + len(log[1])
            if size and size + length > frames.FRAME_BYTES:
                break
            if output.__class__ is Failed:
                failures[len(task_ids)] = (TaskState.FAILED, EventCode.FAILED, _text(output))
                kinds.append([_text(kind) for kind in output.kinds])
                output = None
            if log is not None:
                del written[task_id]
                logs[len(task_ids)] = log
            task_ids.append(task_id)
            attempts.append(attempt)
            outputs.append(output)  # type: ignore[arg-type] # a Failed has just become None
            size += length
            elapsed += task_ns
            input_bytes += task_bytes
        elements, absent = pack(outputs)
        whole = self._frame(task_ids, elements, absent, attempts)
        frame = whole.results
        if failures:
            unsuccessful, messages = pack_failures(failures)
            for message, each in zip(messages, kinds, strict=True):
                message.kinds.extend(each)
            frame.unsuccessful.extend(unsuccessful)
            frame.failures.extend(messages)
        for index, (stdout, stderr) in logs.items():
            frame.logged.append(index)
            frame.logs.append(frames.TaskLog(stdout=stdout, stderr=stderr))
        size += frames.TASK_COST * len(task_ids)
        return Batch(whole, size, task_ids, elapsed, input_bytes)

    def _frame(
        self,
        task_ids: Sequence[int],
        elements: Sequence[bytes],
        absent: Sequence[int],
        attempts: Sequence[int],
    ) -> frames.ExecutorFrame:
        self._sequence += 1
        return frames.ExecutorFrame(
            results={  # made in its place: a message that is given is copied
                "sequence": self._sequence,
                "task_ids": task_ids,
                "outputs": elements,
                "absent": absent,
                "attempts": () if attempts.count(1) == len(attempts) else attempts,
            }
        )

    def next_unsent(self) -> frames.ExecutorFrame | None:
        """Return the oldest frame that has not been sent on this connection, and count it sent."""
        if self._sent == len(self._batches):
            return None
        self._sent += 1
        return self._batches[self._sent - 1].whole

    def unstored(self) -> dict[int, int]:
        """Return the attempt of each task whose result is kept here, by its id."""
        held: dict[int, int] = {}
        for batch in self._batches:
            attempts = batch.frame.attempts or itertools.repeat(1)
            held.update(zip(batch.task_ids, attempts, strict=False))
        return held

    def stored(self, sequence: int) -> None:
        """Forget the frames up to this number."""
        while self._batches and self._batches[0].frame.sequence <= sequence:
            self._bytes -= self._batches.popleft().size
            self._sent = max(0, self._sent - 1)

    def rewind(self) -> None:
        """The connection is a new one: everything unstored goes out again, in order."""
        self._sent = 0
        for batch in self._batches:
            batch.frame.ClearField("window")  # the hello has the one that counts


def _text(reason: str) -> str:
    """Return a failure's text as the wire can carry it: bounded, and valid UTF-8."""
    if len(reason) > MAX_REASON:
        reason = f"{reason[: MAX_REASON // 2]}\n...\n{reason[-MAX_REASON // 2 :]}"
    return reason.encode("utf-8", "replace").decode()


def _too_large(size: int, limit: int) -> Failed:
    return Failed(
        f"the output has {size} bytes; at most {limit} are allowed: "
        "return a reference to large data instead of the data"
    )
