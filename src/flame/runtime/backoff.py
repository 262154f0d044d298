"""How long to wait before the next try."""

import random


class Backoff:
    """Delays that double up to a ceiling, each drawn from the upper half of its range.

    The jitter keeps a thousand clients that lost the same server from coming back in step.
    """

    def __init__(
        self, first: float = 0.05, ceiling: float = 2.0, source: random.Random | None = None
    ) -> None:
        self._first = first
        self._ceiling = ceiling
        self._next = first
        self._random = source or random.Random()

    def next_delay(self) -> float:
        """Return the seconds to wait now; the next answer is up to twice as long."""
        delay = self._next * self._random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, self._ceiling)
        return delay

    def reset(self) -> None:
        """Start again from the first delay: the last try succeeded."""
        self._next = self._first
