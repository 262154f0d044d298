"""The thread that commits: one group at a time, off the event loop."""

import asyncio
import queue
import threading
from collections.abc import Callable

from flame.engine.engine import Group
from flame.model.errors import ResourceExhausted
from flame.storage.store import Store


class StoreWriter:
    """Commits groups in the order given and tells the loop of each.

    Args:
        committed: Called on the loop after a commit.
        failed: Called on the loop with the error of a commit that failed. After any but
            ResourceExhausted, nothing more is committed.
    """

    def __init__(
        self, store: Store, committed: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self._store = store
        self._committed = committed
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def commit(self, group: Group) -> None:
        """Have a group committed."""
        self._groups.put(group)

    def close(self) -> None:
        """Commit what was given, then end the thread."""
        self._groups.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            try:
                self._store.commit(group.records, sync=group.sync)
            except Exception as error:  # the loop decides what a store that fails means
                self._loop.call_soon_threadsafe(self._failed, error)
                if not isinstance(error, ResourceExhausted):
                    return
                continue
            self._loop.call_soon_threadsafe(self._committed)
