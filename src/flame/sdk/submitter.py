"""The submitter: it numbers a session's tasks, and keeps each until the manager has answered.

    pile ─▶ unaccepted ──Accepted, Refused──▶ the stream's
               ▲   │
               └───┘ sent again after a reconnection, under the numbers it had

Numbers are contiguous, and a number is sent until it is answered, so a lost connection neither loses a
task nor runs one twice. A refused batch leaves a gap, beyond which the manager takes nothing: then all
that is in flight is answered first, and what is left is numbered from 0 by a new submitter.
"""

from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from secrets import token_bytes
from typing import Any

from flame.sdk.pile import Pile
from flame.wire import frames
from flame.wire.batches import pack
from flame.wire.codec import notes_to

#: A future: its kind (for threads or for asyncio) only its maker and the stream's ``deliver`` know.
AnyFuture = Any


class Batch:
    """Consecutive numbers and their tasks, as they were or will be sent."""

    __slots__ = ("first", "futures", "sent")

    def __init__(self, first: int, futures: Sequence[AnyFuture]) -> None:
        self.first = first
        self.futures = futures
        self.sent = False

    @property
    def inputs(self) -> list[bytes | None]:
        return [future._task for future in self.futures]

    @property
    def end(self) -> int:
        return self.first + len(self.futures)

    def part(self, low: int, high: int) -> "Batch":
        """Return the numbers from ``low`` up to ``high`` as a batch of their own."""
        cut = slice(low - self.first, high - self.first)
        part = Batch(low, self.futures[cut])
        part.sent = self.sent
        return part


class Submitter:
    """The tasks of one client in one session that have no answer yet.

    Attributes:
        id: Under whose numbers they are submitted.
        pile: What ``run`` was given.
        credit: How many bytes more the manager takes.
        limited: A task with limits of its own was put into the pile, some time; any thread may set it.
    """

    def __init__(self, known: bytes | None = None) -> None:
        """Begin as somebody new, or as one whom another process may have been before."""
        self.id = known or token_bytes(16)
        self._is_known = known is not None  # by those who submit the same again
        self.pile = Pile()
        self.credit = 0
        self.limited = False
        self._chunk = frames.FRAME_TASKS
        self._next_number = 0
        self._unaccepted: deque[Batch] = deque()
        self._unsent = 0  # how many of them, at the end, are to be sent (again)
        self._accepted_end = 0
        self._resent_below = 0
        self._gap: int | None = None  # a number that was refused
        self._held_back: list[Batch] = []  # what the gap keeps from being accepted

    @property
    def unanswered(self) -> int:
        """Tasks that the cluster has neither stored nor refused, as far as we know."""
        held = sum(len(batch.futures) for batch in self._held_back)
        return len(self.pile) + held + sum(len(batch.futures) for batch in self._unaccepted)

    @property
    def has_something_to_send(self) -> bool:
        """Whether :meth:`next_submit` might return one. Cheap, and never wrongly False."""
        return bool(self.pile.items or self._unsent or self._gap is not None)

    @property
    def must_start_over(self) -> bool:
        """Whether all that is left waits behind a gap."""
        return self._gap is not None and not self._unaccepted and bool(self._held_back or self.pile)

    @property
    def manager_may_know_more(self) -> bool:
        """Whether the manager may have stored tasks whose ids we do not know yet."""
        first = self._unaccepted[0].first if self._unaccepted else self._next_number
        return first < self._resent_below

    def is_forgotten(self, submitted: int) -> bool:
        """Whether the manager, which has so many of ours, lost some that it had accepted."""
        return submitted < self._accepted_end

    def attached(self, submitted: int, credit: int) -> None:
        """The manager has so many of ours, and takes so many bytes more."""
        self._resent_below = max(self._resent_below, submitted)
        self.credit = credit

    def next_submit(self, alias: int) -> frames.Submit | None:
        """Return what may be sent now; None if there is nothing."""
        found = self._unsent_batch() if self._unsent else self._batch_from_pile()
        if found is None:
            return None
        batch, inputs = found
        elements, absent = pack(inputs)
        submit = frames.Submit(
            alias=alias, first_number=batch.first, inputs=elements, absent=absent
        )
        if self.limited:
            _add_limits(submit, batch.futures)
        return submit

    def accepted(self, first: int, count: int) -> list[Batch]:
        """Return the tasks of these numbers, which are stored."""
        batches = self._take(first, count)
        if batches:
            self._accepted_end = max(self._accepted_end, batches[-1].end)
        return batches

    def refused(self, first: int, count: int, *, closed: bool) -> list[Batch]:
        """Return those of these numbers that are not stored, and never will be.

        Others were refused for the gap before them; unless the session is closed they are kept.
        """
        final = []
        for batch in self._take(first, count):
            if self._gap is not None and batch.first > self._gap and not closed:
                self._held_back.append(batch)
                continue
            if self._gap is None:
                self._gap = batch.first
                self._hold_back_unsent(batch.first)
            final.append(batch)
        return final

    def disconnected(self) -> None:
        """Whatever was not answered is to be sent again."""
        for batch in self._unaccepted:
            batch.sent = False
        self._unsent = len(self._unaccepted)
        self._resent_below = self._next_number
        if self._gap is not None:
            self._hold_back_unsent(self._gap)

    def start_over(self) -> None:
        """Become a new submitter, with all that is unaccepted numbered from 0."""
        batches = sorted((*self._unaccepted, *self._held_back), key=lambda batch: batch.first)
        known = sha256(self.id).digest()[:16]  # whoever is refused the same goes on as the same
        self.id = known if self._is_known else token_bytes(16)
        self._gap = None
        self._held_back = []
        self._next_number = self._accepted_end = self._resent_below = 0
        self._unaccepted = deque()
        for batch in batches:
            batch.first, batch.sent = self._next_number, False
            self._next_number = batch.end
            self._unaccepted.append(batch)
        self._unsent = len(self._unaccepted)

    def abandon(self) -> list[AnyFuture]:
        """Forget all that has left the pile; return whose tasks they were."""
        futures = [
            future for batch in (*self._unaccepted, *self._held_back) for future in batch.futures
        ]
        self._unaccepted.clear()
        self._held_back.clear()
        self._unsent = 0
        return futures

    def _unsent_batch(self) -> tuple[Batch, list[bytes | None]] | None:
        """Return the first batch that waits to be sent, or as much of it as credit allows; its inputs."""
        index = len(self._unaccepted) - self._unsent
        batch = self._unaccepted[index]
        inputs = batch.inputs
        count, cost = _fitting(sizes_of(inputs), self.credit)
        if not count:
            return None
        if count < len(batch.futures):
            middle = batch.first + count
            self._unaccepted[index] = batch.part(batch.first, middle)
            self._unaccepted.insert(index + 1, batch.part(middle, batch.end))
            batch = self._unaccepted[index]
            del inputs[count:]
        else:
            self._unsent -= 1
        batch.sent = True
        self.credit -= cost
        return batch, inputs

    def _batch_from_pile(self) -> tuple[Batch, list[bytes | None]] | None:
        """Make a batch of what has piled up, as large as a frame and credit allow; return its inputs too."""
        pile = self.pile
        if self._gap is not None or self.credit < frames.TASK_COST or not pile.items:
            return None
        futures = pile.take(self._chunk)
        inputs = [future._task for future in futures]
        sizes = sizes_of(inputs)
        count, cost = _fitting(sizes, self.credit)
        if count < len(futures):
            # Large inputs: do not take 2048 each time to put most of them back.
            self._chunk = count + count // 8 + 1
            pile.put_back(futures[count:])
            if not count:
                return None
            del futures[count:], inputs[count:], sizes[count:]
        else:
            self._chunk = min(frames.FRAME_TASKS, 2 * self._chunk)
        pile.taken(sizes)
        self.credit -= cost
        batch = Batch(self._next_number, futures)
        batch.sent = True
        self._next_number += count
        self._unaccepted.append(batch)
        return batch, inputs

    def _take(self, first: int, count: int) -> list[Batch]:
        """Remove these numbers from what is unaccepted. Usually they are its first batch."""
        pending = self._unaccepted
        if pending and pending[0].first == first and len(pending[0].futures) == count:
            if self._unsent == len(pending):
                self._unsent -= 1
            return [pending.popleft()]
        end = first + count
        taken: list[Batch] = []
        kept: deque[Batch] = deque()
        for batch in pending:
            low, high = max(first, batch.first), min(end, batch.end)
            if low >= high:
                kept.append(batch)
                continue
            taken.append(batch.part(low, high))
            if batch.first < low:
                kept.append(batch.part(batch.first, low))
            if high < batch.end:
                kept.append(batch.part(high, batch.end))
        self._unaccepted = kept
        self._unsent = sum(not batch.sent for batch in kept)
        return taken

    def _hold_back_unsent(self, gap: int) -> None:
        """Nothing beyond the gap that is not in flight needs to be sent in vain."""
        kept: deque[Batch] = deque()
        for batch in self._unaccepted:
            if batch.sent or batch.first < gap:
                kept.append(batch)
            else:
                self._held_back.append(batch)
        self._unaccepted = kept
        self._unsent = sum(not batch.sent for batch in kept)


def submitter_id(text: str) -> bytes:
    """Return the submitter id that a text stands for."""
    return sha256(f"flame submitter {text}".encode()).digest()[:16]


def _add_limits(submit: frames.Submit, futures: Sequence[AnyFuture]) -> None:
    for index, future in enumerate(futures):
        notes = getattr(future, "notes", None)
        if notes is not None:
            submit.noted.append(index)
            submit.notes.append(notes_to(notes))
        own = getattr(future, "limits", None)
        if own is not None:
            submit.limited.append(index)
            submit.timeout_ms.append(own.timeout_ms)
            submit.deadline_ms.append(own.deadline_ms)


def sizes_of(inputs: Sequence[bytes | None]) -> list[int]:
    """Return how many bytes each input has."""
    try:
        return list(map(len, inputs))  # type: ignore[arg-type]
    except TypeError:  # some are None
        return [0 if value is None else len(value) for value in inputs]


def _fitting(sizes: Sequence[int], credit: int) -> tuple[int, int]:
    """Return how many inputs of these sizes fit in a frame and in the credit, and their cost.

    A single input may exceed the frame's size, never the credit.
    """
    total = sum(sizes)
    cost = total + frames.TASK_COST * len(sizes)
    if total <= frames.FRAME_BYTES and cost <= credit:
        return len(sizes), cost
    count = total = cost = 0
    for size in sizes:
        next_cost = cost + size + frames.TASK_COST
        if next_cost > credit or (count and total + size > frames.FRAME_BYTES):
            break
        count, total, cost = count + 1, total + size, next_cost
    return count, cost
