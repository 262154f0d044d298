"""Prepares what an application is made of before its executors start: once, whoever asks.

    prepare(executor, wanted) ──▶ fetch ──▶ install ──▶ check ──▶ a Place, or Unprepared with the cause

Executors that ask for the same at the same time wait for one preparation, which ends when none of them
waits any more. A failure is answered again for a moment that doubles with each, so that a session's
attempts to bind cost little; after that, or when ``retry`` is called, it is tried anew. Nothing is
remembered for ever.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from flame.executor_manager.guardian import GuardianLost
from flame.executor_manager.packages import BadPackage
from flame.executor_manager.packages.errands import Transcript
from flame.executor_manager.packages.making import Maker, Runs
from flame.executor_manager.packages.place import Place
from flame.executor_manager.packages.preparation import (
    FAILED,
    PREPARING,
    READY,
    Key,
    Preparation,
    Report,
    Unprepared,
    Wanted,
)
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Sources, remove
from flame.runtime.tasks import Tasks

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 600.0  # seconds for fetching, installing and checking
FIRST_PAUSE = 1.0  # seconds for which a failure is answered again; doubled by each
LONGEST_PAUSE = 60.0
KEPT = 200  # preparations that are remembered while no executor uses them


class Preparer:
    """Prepares packages for the executors of a node.

    Args:
        run: Runs a process below the guardian.
        on_report: Called when a preparation's state or step changes.
        timeout: Seconds that one preparation may take.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        sources: Sources,
        releases: Releases,
        run: Runs,
        on_report: Callable[[Report], None],
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._releases = releases
        self._on_report = on_report
        self.timeout = timeout
        self._clock = clock
        self._tasks = Tasks("packages")
        self._preparations: dict[Wanted, Preparation] = {}
        self._maker = Maker(
            sources,
            releases,
            run,
            self._tasks,
            lambda each: on_report(each.report()),
            timeout,
        )

    def start(self) -> None:
        """Find what an earlier manager left on disk."""
        self._releases.sweep()

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()

    def reports(self) -> list[Report]:
        """Return the state of everything that is known, for who has just come."""
        return [each.report() for each in self._preparations.values()]

    def retry(self, tenant: str, application: str, shared: bool) -> None:
        """Somebody changed the application: forget failures, and what changing urls were.

        Args:
            tenant: Whose application.
            application: Its name.
            shared: It is every tenant's.
        """
        for wanted, each in list(self._preparations.items()):
            if wanted.application == application and (shared or wanted.tenant == tenant):
                self._maker.forget(wanted)
                if each.task is None:
                    del self._preparations[wanted]

    async def prepare(self, executor: Key, wanted: Wanted) -> Place:
        """Return where the application's package is, ready to start from.

        It stays there until ``let_go(executor)``.

        Raises:
            Unprepared: It cannot be prepared.
        """
        each = self._preparations.get(wanted)
        if each is None:
            each = self._preparations[wanted] = Preparation(wanted, since=time.time())
            self._forget_old()
        if each.release is None or not self._releases.is_ready(each.release):
            each.state = FAILED if each.state == FAILED else PREPARING
        if each.state == FAILED and self._clock() < each.retry_at:
            raise Unprepared(each.explain())
        if each.state != READY:
            each.waiting.add(executor)
            if each.task is None:
                each.task = self._tasks.start(self._prepare(each), f"prepare {wanted.application}")
            try:
                await asyncio.shield(each.task)
            finally:
                each.waiting.discard(executor)
                if not each.waiting and each.task is not None:
                    self._forget(each)  # nobody wants it any more
                    each.task.cancel()
            if each.state != READY:
                raise Unprepared(each.explain())
        else:
            assert each.release is not None  # noqa: S101 - so it is when it is ready
            self._releases.use(executor, each.release, time.time())
        assert each.place is not None  # noqa: S101 - the same
        return each.place

    def let_go(self, executor: Key) -> None:
        """The executor has ended: its release may be removed when there is no room for it."""
        self._releases.let_go(executor)
        self._make_room()

    # --- one preparation -------------------------------------------------------------------------

    async def _prepare(self, each: Preparation) -> None:
        each.state, each.problem, each.transcript = PREPARING, "", Transcript()
        each.since = time.time()
        try:
            async with asyncio.timeout(self.timeout):
                await self._maker.make_ready(each)
        except TimeoutError:
            self._fail(each, f"{each.step} took longer than {self.timeout:g} s, and was ended")
        except (BadPackage, GuardianLost) as error:
            self._fail(each, str(error))
        except OSError as error:
            self._fail(each, f"the node cannot prepare it: {error}")
        except asyncio.CancelledError:
            self._forget(each)
            raise
        else:
            assert each.release is not None  # noqa: S101 - so it is when it is ready
            for executor in each.waiting:
                self._releases.use(executor, each.release, time.time())
            each.state, each.pause, each.step, each.since = READY, 0.0, "", time.time()
        finally:
            each.task = None
        log.info(
            "package-%s application=%s url=%s problem=%r",
            each.state,
            each.wanted.application,
            each.wanted.url,
            each.problem,
        )
        self._on_report(each.report())
        self._make_room()

    def _fail(self, each: Preparation, problem: str) -> None:
        each.state, each.problem, each.since = FAILED, problem, time.time()
        each.pause = min(LONGEST_PAUSE, each.pause * 2 or FIRST_PAUSE)
        each.retry_at = self._clock() + each.pause

    # --- what is known ---------------------------------------------------------------------------

    def _forget(self, each: Preparation) -> None:
        if self._preparations.get(each.wanted) is each:
            del self._preparations[each.wanted]

    def _forget_old(self) -> None:
        for wanted, each in list(self._preparations.items())[:-KEPT]:
            if each.task is None:
                del self._preparations[wanted]

    def _make_room(self) -> None:
        for gone in self._releases.take_surplus():
            log.info("release-removed path=%s", gone)
            self._tasks.start(asyncio.to_thread(remove, gone), "remove")
