"""Turns: where a fair share is no whole number of executors, the one that is left over goes round.

Of eight executors three equal tenants have 3, 3 and 2, whoever decides. So the difference between what
somebody deserves and what it has is added up. Who is owed a whole *turn* of it goes first for one
executor more, and keeps that one until it is owed nothing (error diffusion, as in Bresenham's line,
with hysteresis so that an executor does not change hands for less than a turn).

A turn is short at first, and grows with the time for which the same tenants have shared: the error
stays below a few per cent of what an executor did in that time, and a settled cluster hardly moves. It
is the longer, the longer a service takes to start. What is owed is bounded: this is about
fractions of an executor; longer debts are the balance's affair (:mod:`flame.scheduling.usage`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from flame.scheduling.deserved import Fairness

Key = TypeVar("Key")

#: Executor-seconds of a turn: at least, at most, and as a part of what was deserved since others shared.
SHORTEST = 0.3
LONGEST = 10.0
GROWTH = 0.03
#: Times that a service's start has to fit into a turn, but for its first seconds: what starts at once
#: may go round often.
STARTS = 4.0
QUICK = 0.5
#: Turns that one can be owed, or be ahead, at most.
BOUND = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """What somebody has and deserves now; and of the cluster, what one of its executors is.

    Attributes:
        start: Seconds that its services take to start.
    """

    share: Fairness
    executor: float
    start: float = 0.0


@dataclass(slots=True)
class _Account:
    due: float = 0.0  # part-seconds of the cluster
    rate: float = 0.0  # by which it grows a second
    turn: float = 1.0
    owed: bool = False


class Turns(Generic[Key]):
    """Whose turn it is. The caller says what time it is."""

    def __init__(self, now: float) -> None:
        self._accounts: dict[Key, _Account] = {}
        self._now = self._since = now

    def note(self, now: float, parts: Mapping[Key, Part]) -> None:
        """Say what everybody has and deserves from ``now`` on, those who deserve nothing left out."""
        passed, self._now = max(0.0, now - self._now), max(now, self._now)
        if parts.keys() != self._accounts.keys():
            self._since = self._now
            for key in self._accounts.keys() - parts.keys():
                del self._accounts[key]
        age = self._now - self._since
        for key, part in parts.items():
            account = self._accounts.setdefault(key, _Account())
            length = min(LONGEST, GROWTH * age * part.share.deserved / part.executor)
            account.turn = part.executor * max(SHORTEST, length, STARTS * (part.start - QUICK))
            most = BOUND * account.turn
            account.due = max(-most, min(most, account.due + account.rate * passed))
            account.rate = part.share.deserved - part.share.got
            if account.due >= account.turn * (1 - 1e-9):
                account.owed = True
            elif account.due <= 0.0:
                account.owed = False

    def owed(self) -> dict[Key, float]:
        """Return who goes first for an executor more, and how many turns each is owed."""
        return {
            key: account.due / account.turn
            for key, account in self._accounts.items()
            if account.owed
        }

    def next_change(self) -> float | None:
        """Return in how many seconds somebody's turn begins or ends, if nothing else happens."""
        times = []
        for account in self._accounts.values():
            if account.owed and account.rate < 0:
                times.append(account.due / -account.rate)
            elif not account.owed and account.rate > 0:
                times.append((account.turn - account.due) / account.rate)
        return max(0.0, min(times)) if times else None
