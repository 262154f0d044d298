"""What is written down while a simulation runs: integrals, waiting times, and the state now and then."""

from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from flame.model.ids import Tenant
from flame.model.resources import Resources
from flame.scheduling.deserved import Fairness
from flame.testing.capacity.sessions import Session

#: Points in time of which the state is kept, at least half of this many.
MOST_SAMPLES = 480


@dataclass(frozen=True, slots=True)
class Sample:
    """The cluster at one moment.

    Attributes:
        at: Seconds from the beginning.
        used: What executors occupy.
        waiting: Sessions that arrived and have not begun.
        shares: What each tenant has and deserves, as parts of the cluster.
    """

    at: float
    capacity: Resources
    used: Resources
    executors: int
    waiting: int
    shares: Mapping[Tenant, Fairness]


class Integral:
    """Resources over time: what they come to in resource-seconds."""

    def __init__(self) -> None:
        self.now = Resources()
        self._at = 0.0
        self._sums: dict[str, float] = defaultdict(float)

    def change(self, at: float, amount: Resources, sign: int = 1) -> None:
        """There is so much more (or less) from now on."""
        self.advance(at)
        self.now = self.now + amount if sign > 0 else self.now - amount

    def advance(self, at: float) -> None:
        """Let time pass."""
        seconds = at - self._at
        if seconds > 0:
            self._at = at
            for name, count in self.now.named():
                if count:
                    self._sums[name] += count * seconds

    def add(self, amount: Resources, seconds: float) -> None:
        """Count something that was there for so long."""
        for name, count in amount.named():
            if count:
                self._sums[name] += count * seconds

    def sums(self) -> dict[str, float]:
        """Return resource-seconds by the resource's name."""
        return dict(self._sums)


def _times() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class Measures:
    """Everything that the report is made of.

    Attributes:
        waits: Seconds from a task's submission to the begin of its run, by tenant and priority.
        executor_seconds: How long each tenant's executors were there.
        thrown_away: Tasks that were stopped while they ran, and the seconds that they had run.
    """

    sessions: list[Session] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    capacity: Integral = field(default_factory=Integral)
    allocated: Integral = field(default_factory=Integral)
    busy: Integral = field(default_factory=Integral)
    waits: dict[tuple[Tenant, int], "array[float]"] = field(
        default_factory=lambda: defaultdict(_times)
    )
    executor_seconds: dict[Tenant, float] = field(default_factory=lambda: defaultdict(float))
    finished: int = 0
    last_finished: float = 0.0
    tasks_thrown_away: int = 0
    seconds_thrown_away: float = 0.0
    most_executors: int = 0

    def sample(self, sample: Sample) -> bool:
        """Keep a sample. Whether there are so many that every other was dropped."""
        self.samples.append(sample)
        self.most_executors = max(self.most_executors, sample.executors)
        if len(self.samples) < MOST_SAMPLES:
            return False
        del self.samples[1::2]
        return True
