"""Spares: processes in reserve, which have imported everything and are nobody yet."""

import asyncio
import logging
from collections import deque

from flame.executor_manager.accounts import Account
from flame.executor_manager.guardian import GuardianLost
from flame.executor_manager.processes import Process, Processes
from flame.executor_manager.reports import tail
from flame.executor_manager.workplace import Workplaces
from flame.runtime.tasks import Tasks

log = logging.getLogger(__name__)

MAX_SPARES = 4
FIRST_SPARES = 2  # are started at once; the others, and those that replace used ones, one by one
SPARE_PAUSE = 1.0  # seconds from a start to the replacement of its spare: a burst goes first
SPARE_INTERVAL = 0.5  # seconds between two


class Spares:
    """Keeps so many of them for the account of tenants that have none of their own."""

    def __init__(
        self,
        processes: Processes,
        account: Account | None,
        places: Workplaces,
        wanted: int,
        tasks: Tasks,
    ) -> None:
        self._processes = processes
        self._account = account
        self._places = places
        self._wanted = wanted
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._spares: deque[Process] = deque()
        self._replenish: asyncio.TimerHandle | None = None
        self._filling = False
        self._failed = 0
        self._closed = False

    def take(self, account: Account | None) -> Process | None:
        """Return one that runs as this account; None if there is none."""
        if self._spares and account is self._account:
            return self._spares.popleft()
        return None

    def replenish_soon(self, delay: float = SPARE_PAUSE) -> None:
        """Fill the reserve again, in so many seconds."""
        if not self._closed and not self._filling and self._replenish is None:
            self._replenish = self._loop.call_later(delay, self._start_replenishing)

    def ended(self, process: Process, status: int | None) -> None:
        """A spare has ended before anybody needed it."""
        if process in self._spares:
            self._spares.remove(process)
        stderr = tail(self._places.path(process.name, "err"))
        self._places.delete_output(process.name)
        if self._closed:
            return
        self._failed += 1
        log.error("spare-ended status=%s stderr=%r", status, stderr)
        self.replenish_soon(min(60.0, SPARE_PAUSE * 2**self._failed))

    def close(self) -> None:
        """Start no more."""
        self._closed = True
        if self._replenish is not None:
            self._replenish.cancel()

    def _start_replenishing(self) -> None:
        self._replenish = None
        self._filling = True
        self._tasks.start(self._fill(), "spares")

    async def _fill(self) -> None:
        try:
            while len(self._spares) < self._wanted and not self._closed:
                spare = await self._processes.start(self._account)
                self._spares.append(spare)
                if spare.number > FIRST_SPARES:  # the zygote has a number, too
                    await asyncio.sleep(SPARE_INTERVAL)
        except (OSError, GuardianLost) as error:
            log.warning("spare-failed error=%s", error)
        finally:
            self._filling = False
