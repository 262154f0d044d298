"""The zygotes of a node: processes that executors are forked from, in place of starting a Python each.

    wanted ──start──▶ starting ──ready──▶ ready ──unused for long──▶ gone
                          └──ended──▶ failed: not tried again for a while

There is one without anybody's code for each user that executors run as; all tenants of that user
share it. An application with ``preload`` has one that has imported its module, for its tenant alone.
"""

import asyncio
import hashlib
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from flame.executor_manager.guardian import Guardian, GuardianLost
from flame.model.specs import ApplicationSpec
from flame.wire.frames import StartExecutor

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "flame.executor_manager.zygote")

READY_WITHIN = 30.0  # seconds; an application that takes longer to import pays each time
UNUSED = 600.0  # seconds after which an application's zygote is ended
RETRY = 300.0  # seconds before what has failed is tried again
MOST = 4  # of applications

Key = tuple[str, ...]


@dataclass(slots=True)
class Zygote:
    """One of them; ``pid`` is 0 until it has been started."""

    key: Key
    started: float
    used: float
    pid: int = 0
    failed: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_ready(self) -> bool:
        """Whether executors can be forked from it."""
        return self.settled.is_set() and not self.failed


class Zygotes:
    """Starts them, forks from them, ends those that nobody uses."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._loop = asyncio.get_running_loop()
        self._by_key: dict[Key, Zygote] = {}
        guardian.on_zygote_ready = self._on_ready

    def find(self, key: Key) -> Zygote | None:
        """Return what is there, ready or not; None if it has to be started."""
        zygote = self._by_key.get(key)
        if zygote is None or (zygote.failed and self._loop.time() - zygote.started > RETRY):
            return None
        return zygote

    async def start(self, key: Key, spawn: Callable[[], Awaitable[int]]) -> None:
        """Start one with ``spawn``, which returns its pid; does not wait until it is ready."""
        now = self._loop.time()
        zygote = self._by_key[key] = Zygote(key, now, now)
        self._limit()
        try:
            zygote.pid = await spawn()
        except (OSError, GuardianLost) as error:
            log.warning("zygote-not-started key=%s error=%s", key, error)
            self._fail(zygote)
            return
        self._loop.call_later(READY_WITHIN, self._overdue, zygote)

    async def fork(self, key: Key, fds: Sequence[int], groups: Sequence[str]) -> int:
        """Fork an executor from the zygote of this key; returns its pid, or 0 if that cannot be.

        Raises:
            GuardianLost: The guardian died meanwhile.
        """
        zygote = self._by_key.get(key)
        if zygote is None or not zygote.is_ready:
            return 0
        zygote.used = self._loop.time()
        return await self._guardian.fork(zygote.pid, fds, groups)

    def ended(self, pid: int) -> None:
        """A zygote has ended."""
        for zygote in self._by_key.values():
            if zygote.pid == pid:
                if zygote.is_ready:  # its code has changed, or somebody ended it: start another
                    del self._by_key[zygote.key]
                else:
                    self._fail(zygote)
                return

    def collect(self) -> None:
        """End those of applications that have not been used for long."""
        for zygote in list(self._by_key.values()):
            if len(zygote.key) > 1 and self._loop.time() - zygote.used > UNUSED:
                self._end(zygote)

    def _limit(self) -> None:
        """Keep to a number of them: each holds what its application has imported."""
        of_applications = [z for z in self._by_key.values() if len(z.key) > 1]
        for zygote in sorted(of_applications, key=lambda z: z.used)[:-MOST]:
            self._end(zygote)

    def _end(self, zygote: Zygote) -> None:
        self._guardian.kill(zygote.pid)
        del self._by_key[zygote.key]
        zygote.failed = True
        zygote.settled.set()

    def _on_ready(self, pid: int) -> None:
        for zygote in self._by_key.values():
            if zygote.pid == pid:
                zygote.settled.set()

    def _overdue(self, zygote: Zygote) -> None:
        if not zygote.settled.is_set():
            log.warning("zygote-overdue key=%s seconds=%g", zygote.key, READY_WITHIN)
            self._guardian.kill(zygote.pid)
            self._fail(zygote)

    def _fail(self, zygote: Zygote) -> None:
        zygote.failed = True
        zygote.settled.set()


def plain_key(user: str) -> Key:
    """Return the key of the zygote that has nobody's code."""
    return (user,)


def application_key(user: str, order: StartExecutor, application: ApplicationSpec) -> Key:
    """Return the key of an application's zygote: what differs in it must not share one."""
    asked = (
        application.entry_point,
        application.environments,
        application.working_directory,
        order.resources.cpu,
    )
    code = hashlib.sha256(repr(asked).encode()).hexdigest()
    return (user, order.tenant, order.application_name, code)
