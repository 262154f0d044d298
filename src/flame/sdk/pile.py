"""What ``run`` was given and the I/O thread did not take yet: bounded, and without a lock for small
inputs.

Appending to a deque is atomic, so a user thread appends without a lock. The bound on small inputs is
their number; only large ones are counted in bytes, which takes a lock but is nothing beside them.
Whoever finds the pile full leaves a callback and is told when there is room.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat, starmap
from typing import Any

#: Beyond either of these ``run`` waits. The first also bounds small inputs to 64 MiB.
MAX_TASKS = 262_144
MAX_LARGE_BYTES = 64 * 1024 * 1024
#: Inputs over this size count in bytes.
SMALL = 256

#: A future that holds its input in ``_task``: of threads or of asyncio.
Item = Any


class Pile:
    """A session's unsent tasks.

    Attributes:
        items: Futures with their inputs, oldest first. Any thread may append; only the I/O thread
            takes.
        large_bytes: How much the large inputs among them come to.
    """

    __slots__ = ("items", "large_bytes", "_lock", "_hopeful")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.large_bytes = 0
        self._lock = threading.Lock()
        self._hopeful: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self.items)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be appended now."""
        return len(self.items) >= MAX_TASKS or self.large_bytes >= MAX_LARGE_BYTES

    def count_large(self, size: int) -> None:
        """Count an input of more than SMALL bytes that is about to be appended."""
        with self._lock:
            self.large_bytes += size

    def when_room(self, callback: Callable[[], object]) -> None:
        """Call back, in whichever thread makes room, once the pile is not full."""
        with self._lock:
            if self.is_full:
                self._hopeful.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], object]) -> None:
        """Take back a callback that was not called yet."""
        with self._lock:
            if callback in self._hopeful:
                self._hopeful.remove(callback)

    def wait_for_room(self) -> None:
        """Block the calling thread until the pile is not full."""
        latch = threading.Lock()
        latch.acquire()
        self.when_room(latch.release)
        try:
            latch.acquire()
        finally:
            self.forget(latch.release)

    def take(self, count: int) -> list[Item]:
        """Remove the oldest ``count`` items. I/O thread only, as are the methods below."""
        # Without a step of the interpreter for each: every task passes here.
        return list(starmap(self.items.popleft, repeat((), min(count, len(self.items)))))

    def put_back(self, items: Sequence[Item]) -> None:
        """Undo a part of :meth:`take`."""
        self.items.extendleft(reversed(items))

    def taken(self, sizes: Sequence[int]) -> None:
        """Inputs of these sizes will not come back: let those who wait for room go on."""
        if self.large_bytes:
            large = sum([size for size in sizes if size > SMALL])
            with self._lock:
                self.large_bytes -= large
        if self._hopeful and not self.is_full:
            with self._lock:
                told, self._hopeful = self._hopeful, []
            for callback in told:
                callback()
