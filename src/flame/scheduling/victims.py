"""Which of a session's executors go, when some have to: those whose leaving costs least."""

from collections.abc import Sequence
from dataclasses import dataclass

from flame.model.ids import ExecutorId, NodeName

#: A task that was preempted so often is left alone.
MAX_PREEMPTIONS = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One executor of the session.

    Attributes:
        held: Tasks it has in hand, started or not.
        started_at: When its running task started; None: none runs.
        preemptions: How often that task was preempted before.
        gang: Members of a gang have the same number and go together; None: it is alone.
    """

    executor: ExecutorId
    node: NodeName
    held: int = 0
    started_at: float | None = None
    preemptions: int = 0
    gang: int | None = None


def choose(
    candidates: Sequence[Candidate],
    count: int,
    node: NodeName | None = None,
    *,
    protect: bool = True,
) -> list[ExecutorId]:
    """Return ``count`` executors, or fewer, in the order in which to release them.

    Idle ones first, then those that hold only unstarted tasks, then running ones, the latest started
    first; those on ``node`` before all others. ``protect`` leaves out tasks that were preempted twice
    (a claim within a guarantee does not). A gang goes as a whole.
    """
    free = [
        c
        for c in candidates
        if not protect or c.started_at is None or c.preemptions < MAX_PREEMPTIONS
    ]
    free.sort(key=lambda c: (node is not None and c.node != node, *_cost(c)))
    protected = {c.gang for c in candidates if c.gang is not None and c not in free}
    chosen: dict[ExecutorId, None] = {}
    for candidate in free:
        if len(chosen) >= count:
            break
        if candidate.gang is None:
            chosen[candidate.executor] = None
        elif candidate.gang not in protected:
            chosen.update({c.executor: None for c in free if c.gang == candidate.gang})
    return list(chosen)


def _cost(candidate: Candidate) -> tuple[int, float, int, ExecutorId]:
    started = candidate.started_at
    kind = 2 if started is not None else 1 if candidate.held else 0
    return (kind, -(started or 0.0), candidate.held, candidate.executor)
