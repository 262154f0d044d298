"""Looks at what executors use and write, again and again, and ends those that use more than they may."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping

from flame.executor_manager.guardian import Guardian
from flame.executor_manager.limits import Limits
from flame.executor_manager.packages.preparation import Key
from flame.executor_manager.processes import Process, Processes
from flame.executor_manager.reports import oom_kills
from flame.executor_manager.watch import LOOK, DiskWatch, Overrun, Watched
from flame.executor_manager.workplace import Workplaces
from flame.runtime.backoff import Backoff
from flame.runtime.tasks import Tasks

log = logging.getLogger(__name__)

SELDOM = 30.0  # seconds between two tries to look at a file system that fails, at most


class Lookout:
    """Looks, from :meth:`start` until the tasks are closed.

    Args:
        alive: The executors to look at, as they are at any time.
    """

    def __init__(
        self,
        alive: Mapping[Key, Process],
        processes: Processes,
        places: Workplaces,
        limits: Limits,
        guardian: Guardian,
    ) -> None:
        self._alive = alive
        self._processes = processes
        self._places = places
        self._limits = limits
        self._guardian = guardian
        self._oom_samples = deque([oom_kills()] * 2, maxlen=2)

    def start(self, tasks: Tasks) -> None:
        """Begin to look."""
        tasks.start(self._watch(), "watch")
        if self._limits.disk is not None:
            tasks.start(self._watch_disk(self._limits.disk), "watch-disk")

    @property
    def oom_kills_before(self) -> int:
        """How many processes the kernel had killed for their memory a moment ago."""
        return self._oom_samples[0]

    async def _watch(self) -> None:
        """Look at memory and at output, each second."""
        while True:
            await asyncio.sleep(LOOK)
            # How many there were a moment ago: an end is compared with that.
            self._oom_samples.append(oom_kills())
            self._processes.zygotes.collect()
            await asyncio.to_thread(
                self._rotate, [process.name for process in self._alive.values()]
            )
            await self._end_overruns(self._limits.memory_overruns)

    def _rotate(self, names: list[str]) -> None:
        for name in names:
            try:
                self._places.rotate(name)
            except OSError as error:
                log.warning("output-not-rotated process=%s error=%s", name, error)

    async def _watch_disk(self, disk: DiskWatch) -> None:
        backoff = Backoff(first=LOOK, ceiling=SELDOM)
        blind = False
        while True:
            try:
                pause = disk.pause()
                if pause == 0.0:
                    await self._end_overruns(disk.overruns)
            except OSError as error:  # the file system is away, or fails
                if not blind:
                    log.warning("disk-not-watched error=%s (it is tried again and again)", error)
                blind, pause = True, backoff.next_delay()
            else:
                if blind:
                    log.warning("disk-watched-again")
                    backoff.reset()
                blind = False
            await asyncio.sleep(pause)

    async def _end_overruns(self, look: Callable[[list[Watched]], list[Overrun]]) -> None:
        """Look at what executors use, and end those that use more than they may."""
        watched = [
            Watched(process.pid, self._limits.memory_of(process.number), process.paths)
            for process in self._alive.values()
        ]
        for overrun in await asyncio.to_thread(look, watched):
            process = self._processes.by_pid.get(overrun.pid)
            if process is not None and process.overrun is None:
                process.overrun = overrun
                self._guardian.kill(process.pid)
