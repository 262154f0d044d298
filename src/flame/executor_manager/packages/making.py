"""How a package becomes a release that works: fetched, installed, checked. Each below the guardian."""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from flame.executor_manager.packages import BadPackage
from flame.executor_manager.packages.errands import Transcript
from flame.executor_manager.packages.jobs import CheckJob, InstallJob, failure, is_done, write_job
from flame.executor_manager.packages.place import Place, place_of
from flame.executor_manager.packages.preparation import Preparation, Wanted
from flame.executor_manager.packages.python_environment import SOURCES, flame_version
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Fetched, Sources, remove
from flame.executor_manager.packages.unpack import MAX_BYTES, MAX_ENTRIES
from flame.model.packages import INSTALLERS, PYTHON
from flame.runtime.tasks import Tasks

CHECK_TIMEOUT = 60.0  # seconds for importing an entry point
MOST_CHECKED = 200  # releases and ways to start that are known to work


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


class Maker:
    """Makes releases.

    Args:
        run: Runs a process below the guardian.
        tasks: Where surplus is removed beside other work.
        on_step: Called when a preparation's step changes.
        timeout: Seconds that a check may take, if that is less than ``CHECK_TIMEOUT``.
    """

    def __init__(
        self,
        sources: Sources,
        releases: Releases,
        run: Runs,
        tasks: Tasks,
        on_step: Callable[[Preparation], None],
        timeout: float,
    ) -> None:
        self._sources = sources
        self._releases = releases
        self._run = run
        self._tasks = tasks
        self._on_step = on_step
        self._timeout = timeout
        self._contents: dict[tuple[str, str], str] = {}  # what a changing url was when last fetched
        self._installing = 0
        self._checked: set[tuple[Hashable, ...]] = set()

    def forget(self, wanted: Wanted) -> None:
        """What a changing url was may not be what it is."""
        self._contents.pop((wanted.tenant, wanted.url), None)

    async def make_ready(self, each: Preparation) -> None:
        """Fetch, install and check what is not here yet; then ``release`` and ``place`` are known.

        Raises:
            BadPackage: It cannot be fetched or installed, or would not start.
            OSError: The node has no room, or no way.
        """
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

    async def _make_release(self, each: Preparation) -> Path:
        """Fetch and install, unless the content is here already."""
        wanted = each.wanted
        directory = self._releases.scratch()
        try:
            self._tell_step(each, "fetching the package")
            fetched = await self._sources.fetch(wanted.url, wanted.tenant, directory)
            self._contents[wanted.tenant, wanted.url] = fetched.sha256
            release = self._release(wanted, fetched.sha256)
            async with self._releases.lock(release):
                if not self._releases.is_ready(release):
                    await self._install(each, fetched, release, directory / "job")
        finally:
            await asyncio.shield(asyncio.to_thread(remove, directory))
        return release

    async def _install(self, each: Preparation, fetched: Fetched, release: Path, job: Path) -> None:
        self._tell_step(each, "installing the package")
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

    async def _check(self, each: Preparation, release: Path, place: Place) -> None:
        """Try to import what executors will, once for each release and way to start."""
        wanted = each.wanted
        signature = (release, wanted.entry_point, wanted.command, wanted.environments)
        if signature in self._checked or not (wanted.entry_point or wanted.command):
            return
        self._tell_step(each, "checking the package")
        job = CheckJob(wanted.entry_point, wanted.command)
        variables = dict(place.surround(wanted.environments))
        directory = self._releases.scratch()
        try:
            write_job(directory / "job", job)
            python = place.python or sys.executable
            try:
                async with asyncio.timeout(min(CHECK_TIMEOUT, self._timeout)):
                    await self._errand(each, python, "check", directory / "job", variables)
            except TimeoutError:
                raise BadPackage(
                    f"importing {wanted.entry_point or wanted.command} took longer than "
                    f"{min(CHECK_TIMEOUT, self._timeout):g} s, and was ended"
                ) from None
        finally:
            await asyncio.shield(asyncio.to_thread(remove, directory))
        if len(self._checked) > MOST_CHECKED:
            self._checked.clear()
        self._checked.add(signature)

    async def _errand(
        self,
        each: Preparation,
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

    def _tell_step(self, each: Preparation, step: str) -> None:
        each.step = step
        self._on_step(each)

    def _release(self, wanted: Wanted, content: str) -> Path:
        parts = [content, wanted.installer]
        if (
            wanted.installer == PYTHON
        ):  # an environment belongs to its interpreter, and to this Flame
            parts += [sys.version, os.path.realpath(sys.executable), flame_version(), str(SOURCES)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        return self._releases.place(wanted.tenant, key)
