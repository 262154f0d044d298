"""Runs of a task that ended without an outcome, and why: what a task that fails by them can show."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: Characters of one attempt's detail, which ends with up to 4 KB of the process's stderr.
MAX_DETAIL = 5000
#: Attempts of one task that are kept: the first, and the newest.
MAX_KEPT = 8


class Cause(StrEnum):
    """Why a run ended without an outcome. The first six are an executor manager's words."""

    EXIT = "exit"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out of memory"
    OUT_OF_DISK = "out of disk"
    NEVER_STARTED = "never started"
    STOPPED = "stopped"  # on purpose: drained, released, or given to somebody else
    NODE_LOST = "node lost"
    EXECUTOR_LOST = "executor lost"  # its process may live, but nobody heard of it
    ENDED_EARLY = "ended early"  # killed for another task, which was cancelled and did not end
    PREEMPTED = "preempted"  # thrown away for a tenant that was owed the executor
    RAISED = "raised"  # the service failed the task, and its session asked to try again


#: These were not the task's doing, and spend no attempt.
UNCOUNTED = frozenset((Cause.STOPPED, Cause.ENDED_EARLY, Cause.PREEMPTED))


@dataclass(frozen=True, slots=True)
class Loss:
    """How an executor was lost, or a run of a task failed.

    Attributes:
        cause: A :class:`Cause`, or a word of a newer executor manager.
        detail: A sentence for people; of a process that died, with the end of its stderr.
    """

    cause: str
    detail: str = ""
    pid: int = 0
    exit_code: int = 0
    signal: int = 0

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}" if self.detail else self.cause


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task that spent one of its attempts."""

    number: int
    node: str
    executor: str
    loss: Loss
    ended_ms: int
    raised: int = 0  # how many up to this one the service failed

    def __str__(self) -> str:
        executor = f", executor {self.executor}" if self.executor else ""
        pid = f", pid {self.loss.pid}" if self.loss.pid else ""
        return f"attempt {self.number} on node {self.node}{executor}{pid}: {self.loss}"


def bounded(text: str) -> str:
    """Return a loss's detail no longer than is kept: its beginning and its end."""
    if len(text) <= MAX_DETAIL:
        return text
    head = MAX_DETAIL // 10
    return f"{text[:head]}\n...\n{text[-(MAX_DETAIL - head) :]}"


def keep(
    attempts: list[Attempt], number: int, node: str, executor: str, loss: Loss, ended_ms: int
) -> None:
    """Add an attempt to a task's history, which stays short."""
    raised = (attempts[-1].raised if attempts else 0) + (loss.cause == Cause.RAISED)
    attempts.append(Attempt(number, node, executor, loss, ended_ms, raised))
    if len(attempts) > MAX_KEPT:
        del attempts[1]


def history(attempts: Iterable[Attempt]) -> str:
    """Return the attempts as lines for people, the oldest first."""
    return "\n".join(str(attempt) for attempt in attempts)
