"""Who had how much over time: decayed, so that a tenant starved now is repaid, but not for ever.

For everybody the difference between what it got and what it deserved is added up and forgotten with
a half-life (decayed usage: Kay and Lauder, "A Fair Share Scheduler", CACM 1988). The *balance* given
to the ledger is the mean of that difference over the window; in a steady state it is 0, and shares
are those of the moment. It is bounded, so that repaying one never starves another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from flame.scheduling.deserved import Fairness

Key = TypeVar("Key")

DEFAULT_HALF_LIFE = 300.0  # seconds
#: A balance is at most this part of what is deserved, up or down.
BOUND = 0.5


@dataclass(slots=True)
class _Account:
    surplus: float = 0.0  # decayed mean of got - deserved, in parts of the cluster
    used: float = 0.0  # decayed mean of got
    deserved: float = 0.0  # decayed mean of deserved
    got_now: float = 0.0
    deserved_now: float = 0.0


class Usage(Generic[Key]):
    """The accounts of all tenants (or sessions). The caller says what time it is."""

    def __init__(self, now: float, half_life: float = DEFAULT_HALF_LIFE) -> None:
        self._accounts: dict[Key, _Account] = {}
        self._now = now
        self._half_life = half_life

    def advance(self, now: float) -> None:
        """Let time pass: until ``now`` everybody had what was last noted."""
        if now <= self._now:
            return
        kept = 0.5 ** ((now - self._now) / self._half_life)
        self._now = now
        for account in self._accounts.values():
            account.used = account.used * kept + account.got_now * (1 - kept)
            account.deserved = account.deserved * kept + account.deserved_now * (1 - kept)
            account.surplus = account.used - account.deserved

    def note(self, now: float, current: Mapping[Key, Fairness]) -> None:
        """Say what everybody has and deserves from ``now`` on."""
        self.advance(now)
        for key, account in self._accounts.items():
            if key not in current:
                account.got_now = account.deserved_now = 0.0
        for key, share in current.items():
            account = self._accounts.setdefault(key, _Account())
            account.got_now, account.deserved_now = share.got, share.deserved

    def balances(self) -> dict[Key, float]:
        """Return for each how much more than it deserved it had (below zero: less), bounded."""
        return {
            key: max(-BOUND * a.deserved_now, min(BOUND * a.deserved_now, a.surplus))
            for key, a in self._accounts.items()
        }

    def decayed(self) -> dict[Key, Fairness]:
        """Return decayed got and deserved."""
        return {key: Fairness(a.used, a.deserved) for key, a in self._accounts.items()}

    def forget(self, key: Key) -> None:
        """Close an account."""
        self._accounts.pop(key, None)
