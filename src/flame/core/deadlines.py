"""Moments at which something must be looked at, by key.

Moving a deadline later, which happens all the time, touches only a dictionary: the heap's entry is
put back when it comes up too early.
"""

from heapq import heappop, heappush

#: What is due, and whose: ("lease", node name), ("idle", executor id), ("retry", session number)...
Key = tuple[str, str | int]


class Deadlines:
    """A set of keys, each with one due time in seconds."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, when: float) -> None:
        """Make ``key`` due at ``when``, whatever was set before."""
        before = self._due.get(key)
        self._due[key] = when
        if before is None or when < before:
            heappush(self._heap, (when, key))

    def clear(self, key: Key) -> None:
        """Forget ``key``."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """Return the earliest due time, or None."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[Key]:
        """Remove and return the keys due at ``now``, earliest first."""
        due: list[Key] = []
        while True:
            self._settle()
            if not self._heap or self._heap[0][0] > now:
                return due
            _, key = heappop(self._heap)
            del self._due[key]
            due.append(key)

    def _settle(self) -> None:
        """Make the heap's first entry a true one."""
        while self._heap:
            when, key = self._heap[0]
            due = self._due.get(key)
            if due == when:
                return
            heappop(self._heap)
            if due is not None and due > when:
                heappush(self._heap, (due, key))
