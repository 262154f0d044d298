"""What is read from the stores beside the loop, in threads of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flame.core.session import Session
from flame.storage.memory import MemoryStore
from flame.storage.store import Store


class StoreReader:
    """Reads the cluster's store, and the one of sessions that live in memory."""

    def __init__(self, store: Store, volatile: Store) -> None:
        self._store = store
        self._volatile = volatile
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="store-reader")

    def store_of(self, session: Session) -> Store:
        """Return where a session is kept."""
        return self._volatile if session.is_volatile else self._store

    async def read(self, store: Store, read: Callable[[], Any]) -> Any:
        """Return what a function reads from this store, without holding up the loop."""
        if isinstance(store, MemoryStore):
            return read()
        return await self.run(read)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return what a function returns in one of the threads."""
        return await self._loop.run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
