"""Moments at which something must be looked at, by key.

Moving a deadline later, or clearing and setting it again, happens all the time and touches only
dictionaries: a key keeps its one entry in the heap, which is put back when it comes up too early.
"""

from heapq import heappop, heappush

#: What is due, and whose: ("lease", node name), ("idle", executor id), ("retry", session number)...
Key = tuple[str, str | int]


class Deadlines:
    """A set of keys, each with one due time in seconds."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        # When the heap's one true entry of a key comes up; other entries of it are leftovers.
        self._entry: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, when: float) -> None:
        """Make ``key`` due at ``when``, whatever was set before."""
        self._due[key] = when
        entry = self._entry.get(key)
        if entry is None or when < entry:
            self._push(key, when)

    def clear(self, key: Key) -> None:
        """Forget ``key``."""
        self._due.pop(key, None)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def items(self) -> list[tuple[Key, float]]:
        """Return every key with its due time."""
        return list(self._due.items())

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
            del self._due[key], self._entry[key]
            due.append(key)

    def _push(self, key: Key, when: float) -> None:
        self._entry[key] = when
        heappush(self._heap, (when, key))

    def _settle(self) -> None:
        """Make the heap's first entry a true one."""
        while self._heap:
            when, key = self._heap[0]
            due = self._due.get(key)
            current = self._entry.get(key) == when
            if current and due == when:
                return
            heappop(self._heap)
            if current:
                del self._entry[key]
                if due is not None:
                    self._push(key, due)
