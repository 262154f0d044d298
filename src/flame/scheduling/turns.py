"""Turns: where a fair share is no whole number of executors, the one that is left over goes round.

Of eight executors three equal tenants have 3, 3 and 2, whoever decides. So the difference between what
somebody deserves and what it has is added up. Whoever has less, and is owed a whole *turn* more of it
than a sibling that has more, gets an executor from that one, and keeps it for half a turn at least
(error diffusion, as in Bresenham's line, with hysteresis so that an executor does not change hands for
less than a turn). Nobody is ever off by more than a turn, and the time it takes to change hands.

A turn is short at first, and grows with the time for which the same siblings have shared: the error
stays below a few per cent of what an executor did in that time, and a settled cluster hardly moves. It
is the longer, the longer a service takes to start. What is owed is bounded: this is about
fractions of an executor; longer debts are the balance's affair (:mod:`flame.scheduling.usage`).
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

#: Executor-seconds of a turn: at least, at most, and as a part of what was deserved since others shared.
SHORTEST = 0.4
LONGEST = 10.0
GROWTH = 0.025
#: The first two for the sessions of a tenant. They may be many, and nobody is wronged by one that is
#: done before the next begins.
SHORTEST_OF_SESSIONS = 5.0
LONGEST_OF_SESSIONS = 60.0
#: Times that a service's start has to fit into a turn, but for its first seconds: what starts at once
#: may go round often.
STARTS = 1.5
QUICK = 0.4
#: Turns that one can be owed, or be ahead, at most.
BOUND = 2.0
#: How long it takes to look again at what moves, as a part of the time since it began to.
LOOKS = 0.25
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Part:
    """What somebody deserves and has, as parts of the cluster.

    Attributes:
        has: What it has or is about to have, those on their way out excluded.
        works: What works for it: those that start excluded, those on their way out included.
        executor: What one of its executors is.
        start: Seconds that its services take to start.
        among: Whoever says the same here is a sibling.
    """

    deserved: float
    has: float
    works: float
    executor: float
    start: float = 0.0
    among: Hashable = None


@dataclass(slots=True)
class _Account:
    among: Hashable
    due: float = 0.0  # part-seconds of the cluster
    rate: float = 0.0  # by which it grows a second
    deserved: float = 0.0
    lacks: float = 0.0  # below zero: it has more than it deserves
    starved: bool = False  # it is owed as much as it can be
    turn: float = 1.0
    until: float | None = None  # it is its turn until it is owed no more turns than these

    @property
    def turns(self) -> float:
        return self.due / self.turn


class Turns(Generic[Key]):
    """Whose turn it is. The caller says what time it is.

    Args:
        shortest, longest: Executor-seconds of a turn.
    """

    def __init__(self, now: float, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest, self._longest = shortest, longest
        self._accounts: dict[Key, _Account] = {}
        self._now = self._since = now
        self._moving: float | None = None  # since when somebody starts or leaves

    def note(self, now: float, parts: Mapping[Key, Part]) -> None:
        """Say what everybody has and deserves from ``now`` on, those who deserve nothing left out."""
        passed, self._now = max(0.0, now - self._now), max(now, self._now)
        if parts.keys() != self._accounts.keys():
            self._since = self._now
            for key in self._accounts.keys() - parts.keys():
                del self._accounts[key]
        moving = False
        for key, part in parts.items():
            account = self._accounts.setdefault(key, _Account(part.among))
            account.due += account.rate * passed
            account.deserved, account.turn = part.deserved, self._length(part)
            if account.lacks != part.deserved - part.has:
                self._moving = self._now
            account.rate, account.lacks = part.deserved - part.works, part.deserved - part.has
            moving = moving or abs(part.has - part.works) > _EXACT
        if not moving:
            self._moving = None
        elif self._moving is None:
            self._moving = self._now
        for siblings in self._siblings():
            self._compare(siblings)

    def _length(self, part: Part) -> float:
        """Return how long its turn is, in part-seconds of the cluster."""
        age = self._now - self._since
        grown = min(self._longest, GROWTH * age * part.deserved / part.executor)
        return part.executor * max(self._shortest, grown, STARTS * (part.start - QUICK))

    def _siblings(self) -> list[list[_Account]]:
        found: dict[Hashable, list[_Account]] = {}
        for account in self._accounts.values():
            found.setdefault(account.among, []).append(account)
        return list(found.values())

    def _compare(self, siblings: list[_Account]) -> None:
        """Say whose turn begins, and whose is over."""
        # What all of them lack together, as executors come and go, is nobody's debt to another. Whoever
        # cannot have what it is owed is left out, or all others would seem to be ahead.
        free = [a for a in siblings if not a.starved]
        deserved = sum([a.deserved for a in free])
        lacking = sum([a.due for a in free]) / deserved if deserved else 0.0
        for account in siblings:
            if not account.starved:
                account.due -= lacking * account.deserved
            most = BOUND * account.turn
            account.due = max(-most, min(most, account.due))
            account.starved = account.due == most
        least = min([a.turns for a in siblings if a.lacks < -_EXACT], default=None)
        for account in siblings:
            owed = account.turns
            if account.until is not None and owed <= account.until + _EXACT:
                account.until, self._moving = None, self._now
            if account.lacks > _EXACT and least is not None and owed - least >= 1.0 - _EXACT:
                if account.until is None:
                    self._moving = self._now
                account.until = (owed + least) / 2

    def owed(self) -> dict[Key, float]:
        """Return how many turns each is owed."""
        return {key: account.turns for key, account in self._accounts.items()}

    def begun(self) -> dict[Key, None]:
        """Return whose turn it is: they go first for an executor more, and keep that."""
        return {key: None for key, account in self._accounts.items() if account.until is not None}

    def next_change(self) -> float | None:
        """Return in how many seconds somebody's turn begins or ends, if nothing else happens.

        While executors start or leave that has to be looked at: soon, and then less and less often.
        """
        times: list[float] = []
        if self._moving is not None:
            times.append(LOOKS * (self._now - self._moving))
        for siblings in self._siblings():
            ahead = min(
                (a for a in siblings if a.lacks < -_EXACT), key=lambda a: a.turns, default=None
            )
            for account in siblings:
                pace = account.rate / account.turn
                if account.until is not None and pace < 0:
                    times.append((account.turns - account.until) / -pace)
                elif account.lacks > _EXACT and ahead is not None:
                    gap, pace = 1.0 - account.turns + ahead.turns, pace - ahead.rate / ahead.turn
                    if pace > 0:
                        times.append(gap / pace)
        return max(0.0, min(times)) if times else None
