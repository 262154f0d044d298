"""How many tasks an executor wants to have in hand.

Enough that it never waits for the next batch, few enough that none waits behind a slow one while
another executor is idle: about 12 ms of work, by the measured time of a task. So no-ops come by the
thousand, and a task of a second has one successor at hand and no more.
"""

import math

from flame.executor_manager.hand import RIPE_AFTER
from flame.model.specs import WINDOW_AT_BINDING

LEAST = 2  # one that runs, one that is next
MOST = 4096
#: ns of work: of 8 ms, tasks of one ran out where results waited, and then the session manager for others.
AHEAD = 12_000_000
#: ns from a result to the tasks that its frame brings: it waits to be sent, then the round trip.
UNTIL_MORE = RIPE_AFTER + 1_000_000
MOST_BYTES = 64 * 1024 * 1024  # of inputs in hand, as far as past inputs tell

#: Batches weigh in by their size, as if this many tasks had been seen before.
_MEMORY = 64


class Window:
    """A running estimate of a task's time and size, and the window that follows from it.

    Attributes:
        tasks: The window to announce.
    """

    def __init__(self) -> None:
        self.tasks = LEAST
        self._mean_ns = 0.0
        self._mean_bytes = 0.0
        self._seen = 0

    def observe(self, count: int, elapsed_ns: int, input_bytes: int) -> bool:
        """Take in ``count`` tasks that took so long and had so much input, all together.

        Returns whether ``tasks`` changed by enough to be worth announcing.
        """
        weight = count / (count + min(self._seen, _MEMORY))
        self._seen += count
        self._mean_ns += (elapsed_ns / count - self._mean_ns) * weight
        self._mean_bytes += (input_bytes / count - self._mean_bytes) * weight
        return self._change(self._wanted())

    def rebind(self) -> None:
        """Another session of the same application comes: expect tasks like the last ones, with care."""
        self.tasks = min(self.tasks, WINDOW_AT_BINDING)
        self._seen = 0

    def slow_task(self, elapsed_ns: int) -> bool:
        """A task has been running this long and goes on: hold no more than one behind it.

        Returns whether ``tasks`` changed.
        """
        self._mean_ns = max(self._mean_ns, float(elapsed_ns))
        return self._change(self._wanted())

    def _wanted(self) -> int:
        mean_ns = max(self._mean_ns, 1.0)
        behind = math.ceil(UNTIL_MORE / mean_ns)  # the one that runs: of 3 ms, one would not do
        wanted = min(MOST, max(int(AHEAD / mean_ns), 1 + behind))
        if self._mean_bytes > 0:
            wanted = min(wanted, int(MOST_BYTES / self._mean_bytes))
        # A few quick tasks promise little: at most four times as many at each step.
        return max(LEAST, min(wanted, self.tasks * 4))

    def _change(self, wanted: int) -> bool:
        # A change of less than a quarter is noise, not worth a frame.
        if abs(wanted - self.tasks) * 4 < self.tasks or wanted == self.tasks:
            return False
        self.tasks = wanted
        return True
