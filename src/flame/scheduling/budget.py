"""How much work may be thrown away: executor-seconds, as a bucket that fills at a steady rate."""

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Counts what preemption throws away, and refuses what is too much.

    Attributes:
        rate: Executor-seconds a second that may be thrown away, in the long run.
        burst: At most this many at once.
        left: What may be thrown away now.
        thrown_away: Everything that was, for metrics.
        refused: How often a task was let run because there was too little left.
    """

    rate: float
    burst: float
    left: float
    at: float
    thrown_away: float = 0.0
    refused: int = 0

    @classmethod
    def full(cls, now: float, rate: float, burst: float) -> "Budget":
        """Begin with a whole burst."""
        return cls(rate, burst, burst, now)

    def take(self, now: float, seconds: float) -> bool:
        """Whether work of so many seconds may be thrown away; if so, it is counted."""
        self.left = min(self.burst, self.left + max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)
        if seconds > self.left:
            self.refused += 1
            return False
        self.left -= seconds
        self.thrown_away += seconds
        return True

    def ready_in(self, seconds: float) -> float | None:
        """Return in how many seconds a task that was refused may be thrown away; None: never.

        It runs on meanwhile, so that its cost grows by one a second, and what is left by ``rate``.
        """
        gained = self.rate - 1.0
        wait = (seconds - self.left) / gained if gained > 0 else None
        return wait if wait is not None and seconds + wait <= self.burst else None
