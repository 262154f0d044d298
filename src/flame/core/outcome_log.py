"""The outcome log of a session, as its subscribers see it.

Outcomes take consecutive positions in the order of their commit. A subscriber has a cursor and
credit: when it is caught up it is served from the newest batches in memory (the tail), otherwise from
the store. Reconnecting, re-attaching and slow readers all use this one mechanism.
"""

from bisect import bisect_right
from dataclasses import dataclass

from flame.core.events import AttachmentId
from flame.core.records import OutcomesRecorded
from flame.model.ids import SessionNumber

#: What an outcome costs of a subscriber's credit, beside its output. The wire's TASK_COST.
OUTCOME_COST = 64
#: The most that a subscriber may have on its way, whatever it grants.
MOST_CREDIT = 256 * 1024 * 1024
#: Outcomes kept in memory for subscribers that are nearly caught up, in bytes a session.
TAIL_BYTES = 8 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Attachment:
    """One client channel's use of one session.

    Attributes:
        cursor: The position of the next outcome to send.
        credit: Bytes of outcomes that may be sent; below zero after one large outcome.
        withheld: Submit credit to give back when the queue has shrunk.
        allowance: Bytes that it may still submit, as it was told.
        fetching: The store is being read for it.
        told_closed: It was told that the session is closed.
        own: It is sent only parts of the log that hold tasks of its submitter.
        skipped: Parts of the log that were not sent since the last one that was.
    """

    id: AttachmentId
    session: SessionNumber
    submitter: bytes
    subscribed: bool
    cursor: int
    taken: int
    credit: int
    withheld: int = 0
    allowance: int = 0
    fetching: bool = False
    told_closed: bool = False
    skipped: int = 0
    own: bool = False


class Tail:
    """The newest committed batches, consecutive, up to TAIL_BYTES."""

    __slots__ = ("_batches", "_bytes", "_starts")

    def __init__(self) -> None:
        self._batches: list[OutcomesRecorded] = []
        self._starts: list[int] = []
        self._bytes = 0

    @property
    def start(self) -> int | None:
        """The first position that is here; None: nothing is."""
        return self._starts[0] if self._starts else None

    def append(self, batch: OutcomesRecorded) -> None:
        """Add the batch that was committed last."""
        self._batches.append(batch)
        self._starts.append(batch.first_position)
        self._bytes += cost_of(batch)
        if self._bytes > TAIL_BYTES:
            drop = 0
            while self._bytes > TAIL_BYTES and drop < len(self._batches) - 1:
                self._bytes -= cost_of(self._batches[drop])
                drop += 1
            del self._batches[:drop], self._starts[:drop]

    def find(self, position: int) -> OutcomesRecorded | None:
        """Return the batch that holds ``position``, if it is still here."""
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return None
        batch = self._batches[index]
        return batch if position < batch.first_position + len(batch.task_ids) else None

    def clear(self) -> None:
        """Forget everything."""
        self._batches.clear()
        self._starts.clear()
        self._bytes = 0


def cost_of(batch: OutcomesRecorded) -> int:
    """Return what the batch costs of a subscriber's credit."""
    return OUTCOME_COST * len(batch.task_ids) + sum(
        [len(output) for output in batch.outputs if output is not None]
    )


def cut(batch: OutcomesRecorded, position: int, credit: int) -> tuple[OutcomesRecorded, int]:
    """Return the part of ``batch`` from ``position`` on that ``credit`` allows, and its cost.

    At least one outcome, so that one larger than the whole credit gets through.
    """
    skip = position - batch.first_position
    cost = cost_of(batch)
    if skip == 0 and cost <= credit:
        return batch, cost
    cost, end = 0, skip
    for output in batch.outputs[skip:]:
        cost += OUTCOME_COST + len(output or b"")
        end += 1
        if cost >= credit:
            break
    return part(batch, skip, end), cost


def up_to(batch: OutcomesRecorded, position: int) -> OutcomesRecorded:
    """Return the part of ``batch`` below ``position``, which is one of its own or its end or beyond."""
    count = position - batch.first_position
    return batch if count >= len(batch.task_ids) else part(batch, 0, count)


def part(batch: OutcomesRecorded, start: int, end: int) -> OutcomesRecorded:
    """Return the outcomes of ``batch`` at these indexes, as a batch of their own."""
    return OutcomesRecorded(
        batch.session,
        batch.first_position + start,
        batch.task_ids[start:end],
        batch.outputs[start:end],
        {i - start: f for i, f in batch.failures.items() if start <= i < end},
        batch.finished_ms,
    )
