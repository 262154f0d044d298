"""Prepares what an application is made of before its executors start: once, whoever asks.

    prepare(executor, wanted) ──▶ fetch ──▶ install ──▶ check ──▶ a Place, or Unprepared with the cause

Executors that ask for the same at the same time wait for one preparation, which ends when none of them
waits any more. A failure is answered again for a moment that doubles with each, so that a session's
attempts to bind cost little; after that, or when ``retry`` is called, it is tried anew. Nothing is
remembered for ever.
"""

import asyncio
import hashlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flame.executor_manager.guardian import GuardianLost
from flame.executor_manager.packages import BadPackage
from flame.executor_manager.packages.errands import Transcript
from flame.executor_manager.packages.jobs import (
    CheckJob,
    InstallJob,
    failure,
    is_done,
    write_job,
)
from flame.executor_manager.packages.place import Place, place_of
from flame.executor_manager.packages.python_environment import SOURCES, flame_version
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Fetched, Sources, remove
from flame.executor_manager.packages.unpack import MAX_BYTES, MAX_ENTRIES
from flame.model.packages import INSTALLERS, PYTHON
from flame.model.specs import ApplicationSpec, ShimKind
from flame.runtime.tasks import Tasks

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 600.0  # seconds for fetching, installing and checking
CHECK_TIMEOUT = 60.0  # seconds for importing an entry point
FIRST_PAUSE = 1.0  # seconds for which a failure is answered again; doubled by each
LONGEST_PAUSE = 60.0
KEPT = 200  # preparations that are remembered while no executor uses them
LOG_TAIL = 4096  # bytes that reports carry

PREPARING = "preparing"
READY = "ready"
FAILED = "failed"

Key = tuple[str, int]  # executor, incarnation


class Unprepared(Exception):
    """The executor cannot start as it should; the text says why, and what the log ends with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an executor's application is made of. Equal ones are prepared together."""

    tenant: str
    application: str
    url: str
    installer: str
    entry_point: str
    command: str
    environments: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, tenant: str, application: str, spec: ApplicationSpec) -> "Wanted | None":
        """Return what has to be prepared for an application; None: nothing."""
        if not spec.url or not spec.installer:
            return None
        is_python = spec.shim is ShimKind.PYTHON
        return cls(
            tenant,
            application,
            spec.url,
            spec.installer,
            spec.entry_point if is_python else "",
            "" if is_python else spec.command or "",
            spec.environments,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """How far a preparation is, for who watches."""

    wanted: Wanted
    state: str
    message: str
    log: str
    since: float  # seconds since the epoch


class Runs(Protocol):
    """Runs a process for a tenant's package; it ends when this is cancelled. See ``Errands.run``."""

    def __call__(
        self,
        tenant: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        directory: str,
        transcript: Transcript,
    ) -> Awaitable[int]: ...


@dataclass(slots=True, eq=False)
class _Preparation:
    wanted: Wanted
    waiting: set[Key] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    release: Path | None = None
    place: Place | None = None
    state: str = PREPARING
    step: str = ""
    problem: str = ""
    transcript: Transcript = field(default_factory=Transcript)
    since: float = 0.0
    pause: float = 0.0
    retry_at: float = 0.0  # monotonic


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
        self._sources = sources
        self._releases = releases
        self._run = run
        self._on_report = on_report
        self.timeout = timeout
        self._clock = clock
        self._tasks = Tasks("packages")
        self._preparations: dict[Wanted, _Preparation] = {}
        self._contents: dict[tuple[str, str], str] = {}  # what a changing url was when last fetched
        self._installing = 0
        self._checked: set[tuple[Hashable, ...]] = set()

    def start(self) -> None:
        """Find what an earlier manager left on disk."""
        self._releases.sweep()

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()

    def reports(self) -> list[Report]:
        """Return the state of everything that is known, for who has just come."""
        return [self._report_of(each) for each in self._preparations.values()]

    def retry(self, tenant: str, application: str, shared: bool) -> None:
        """Somebody changed the application: forget failures, and what changing urls were.

        Args:
            tenant: Whose application.
            application: Its name.
            shared: It is every tenant's.
        """
        for wanted, each in list(self._preparations.items()):
            if wanted.application == application and (shared or wanted.tenant == tenant):
                self._contents.pop((wanted.tenant, wanted.url), None)
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
            each = self._preparations[wanted] = _Preparation(wanted, since=time.time())
            self._forget_old()
        if each.release is None or not self._releases.is_ready(each.release):
            each.state = FAILED if each.state == FAILED else PREPARING
        if each.state == FAILED and self._clock() < each.retry_at:
            raise Unprepared(_explain(each))
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
                raise Unprepared(_explain(each))
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

    async def _prepare(self, each: _Preparation) -> None:
        each.state, each.problem, each.transcript = PREPARING, "", Transcript()
        each.since = time.time()
        try:
            async with asyncio.timeout(self.timeout):
                await self._make_ready(each)
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
        self._on_report(self._report_of(each))
        self._make_room()

    def _fail(self, each: _Preparation, problem: str) -> None:
        each.state, each.problem, each.since = FAILED, problem, time.time()
        each.pause = min(LONGEST_PAUSE, each.pause * 2 or FIRST_PAUSE)
        each.retry_at = self._clock() + each.pause

    async def _make_ready(self, each: _Preparation) -> None:
        wanted = each.wanted
        if wanted.installer not in INSTALLERS:
            raise BadPackage(
                f"installer {wanted.installer!r} is not known; allowed are {', '.join(INSTALLERS)}"
            )
        content = self._sources.content_of(wanted.url) or self._contents.get(
            (wanted.tenant, wanted.url)
        )
        release = None if content is None else self._release(wanted, content)
        if release is None or not self._releases.is_ready(release):
            release = await self._make_release(each)
        each.release, each.place = release, place_of(release, wanted.url, wanted.installer)
        await self._check(each, release, each.place)

    async def _make_release(self, each: _Preparation) -> Path:
        """Fetch and install, unless the content is here already."""
        wanted = each.wanted
        directory = self._releases.scratch()
        try:
            self._step(each, "fetching the package")
            fetched = await self._sources.fetch(wanted.url, wanted.tenant, directory)
            self._contents[wanted.tenant, wanted.url] = fetched.sha256
            release = self._release(wanted, fetched.sha256)
            async with self._releases.lock(release):
                if not self._releases.is_ready(release):
                    await self._install(each, fetched, release, directory / "job")
        finally:
            await asyncio.shield(asyncio.to_thread(remove, directory))
        return release

    async def _install(
        self, each: _Preparation, fetched: Fetched, release: Path, job: Path
    ) -> None:
        self._step(each, "installing the package")
        cache = self._releases.cache(each.wanted.tenant)
        self._releases.begin(each.wanted.tenant, release)
        write_job(
            job,
            InstallJob(
                archive=str(fetched.archive),
                release=str(release),
                installer=each.wanted.installer,
                cache=str(cache),
                max_bytes=MAX_BYTES,
                max_entries=MAX_ENTRIES,
            ),
        )
        self._installing += 1
        try:
            await self._errand(each, sys.executable, "install", job, {})
            await asyncio.to_thread(self._releases.finish, release, time.time())
        except BaseException:
            await asyncio.shield(asyncio.to_thread(remove, release))
            raise
        finally:
            self._installing -= 1
        if not self._installing:
            surplus = await asyncio.to_thread(self._releases.take_cache, each.wanted.tenant)
            if surplus is not None:
                self._tasks.start(asyncio.to_thread(remove, surplus), "remove")

    async def _check(self, each: _Preparation, release: Path, place: Place) -> None:
        """Try to import what executors will, once for each release and way to start."""
        wanted = each.wanted
        signature = (release, wanted.entry_point, wanted.command, wanted.environments)
        if signature in self._checked or not (wanted.entry_point or wanted.command):
            return
        self._step(each, "checking the package")
        job = CheckJob(wanted.entry_point, wanted.command)
        variables = dict(place.surround(wanted.environments))
        directory = self._releases.scratch()
        try:
            write_job(directory / "job", job)
            python = place.python or sys.executable
            try:
                async with asyncio.timeout(min(CHECK_TIMEOUT, self.timeout)):
                    await self._errand(each, python, "check", directory / "job", variables)
            except TimeoutError:
                raise BadPackage(
                    f"importing {wanted.entry_point or wanted.command} took longer than "
                    f"{min(CHECK_TIMEOUT, self.timeout):g} s, and was ended"
                ) from None
        finally:
            await asyncio.shield(asyncio.to_thread(remove, directory))
        if len(self._checked) > KEPT:
            self._checked.clear()
        self._checked.add(signature)

    async def _errand(
        self,
        each: _Preparation,
        python: str,
        what: str,
        job: Path,
        variables: Mapping[str, str],
    ) -> None:
        await asyncio.to_thread(self._releases.give, each.wanted.tenant, job.parent)
        # -P: what lies in the working directory cannot be imported by accident.
        command = [python, "-P", "-m", f"flame.executor_manager.packages.{what}", str(job)]
        directory = str(job.parent)
        tenant = each.wanted.tenant
        code = await self._run(tenant, command, variables, directory, each.transcript)
        if code != 0 or not is_done(job):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise BadPackage(failure(job) or f"{each.step} failed: its process {how}")

    # --- what is known ---------------------------------------------------------------------------

    def _step(self, each: _Preparation, step: str) -> None:
        each.step = step
        self._on_report(self._report_of(each))

    def _release(self, wanted: Wanted, content: str) -> Path:
        parts = [content, wanted.installer]
        if (
            wanted.installer == PYTHON
        ):  # an environment belongs to its interpreter, and to this Flame
            parts += [sys.version, os.path.realpath(sys.executable), flame_version(), str(SOURCES)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        return self._releases.place(wanted.tenant, key)

    def _forget(self, each: _Preparation) -> None:
        if self._preparations.get(each.wanted) is each:
            del self._preparations[each.wanted]

    def _report_of(self, each: _Preparation) -> Report:
        message = each.problem or each.step
        return Report(each.wanted, each.state, message, each.transcript.end(LOG_TAIL), each.since)

    def _forget_old(self) -> None:
        for wanted, each in list(self._preparations.items())[:-KEPT]:
            if each.task is None:
                del self._preparations[wanted]

    def _make_room(self) -> None:
        for gone in self._releases.take_surplus():
            log.info("release-removed path=%s", gone)
            self._tasks.start(asyncio.to_thread(remove, gone), "remove")


def _explain(each: _Preparation) -> str:
    """The cause for a waiting session, with the end of the log if the cause does not hold it."""
    wanted = each.wanted
    said = each.transcript.end(LOG_TAIL // 2).strip()
    text = f"the package of application {wanted.application!r} cannot be prepared: {each.problem}"
    return f"{text}\nThe end of the log:\n{said}" if said else text
