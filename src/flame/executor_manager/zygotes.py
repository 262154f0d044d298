"""The zygotes of a node: processes that executors are forked from, in place of starting a Python each.

    wanted ──start──▶ starting ──ready──▶ ready ──unused for long──▶ gone
                          └──ended──▶ failed: not tried again for a while

There is one without anybody's code for each user that executors run as; all tenants of that user
share it. A package that has an environment of its own has one that runs in that, as the environment may
run code of the package when its Python starts: for its tenant alone. An application with ``preload`` has
one that has imported its module, for its tenant alone, too.
"""

import asyncio
import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flame.executor_manager.accounts import Account
from flame.executor_manager.guardian import Guardian, GuardianLost
from flame.executor_manager.limits import Limits
from flame.executor_manager.packages.place import Place
from flame.executor_manager.reports import tail
from flame.executor_manager.surroundings import thread_variables
from flame.executor_manager.workplace import Workplaces
from flame.model.specs import ApplicationSpec
from flame.runtime.tasks import Tasks
from flame.wire.frames import StartExecutor

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "flame.executor_manager.zygote")  # or another interpreter

READY_WITHIN = 30.0  # seconds; an application that takes longer to import pays each time
UNUSED = 600.0  # seconds after which an application's zygote is ended
RETRY = 300.0  # seconds before what has failed is tried again
MOST = 8  # of applications and packages

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

    def fail(self) -> None:
        """It will not become ready, or is gone."""
        self.failed = True
        self.settled.set()


class Zygotes:
    """Starts them, forks from them, ends those that nobody uses.

    Args:
        environment: Of executors, before an application adds its own.
        directory: The executor manager's.
        numbers: Names for processes, shared with those of executors.
        tasks: Where starting one runs.
    """

    def __init__(
        self,
        guardian: Guardian,
        limits: Limits,
        places: Workplaces,
        environment: Mapping[str, str],
        directory: str,
        numbers: Iterator[int],
        tasks: Tasks,
    ) -> None:
        self._guardian = guardian
        self._limits = limits
        self._places = places
        self._environment = environment
        self._directory = directory
        self._numbers = numbers
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._by_key: dict[Key, Zygote] = {}
        self._by_pid: dict[int, int] = {}  # pid → number
        guardian.on_zygote_ready = self._on_ready

    def of_application(
        self,
        account: Account | None,
        order: StartExecutor,
        application: ApplicationSpec,
        package: Place | None,
    ) -> Key | None:
        """Return the key of a zygote that has the application's module; start one if there is none."""
        if not application.preload:
            return None
        key = _application_key(account, order, application, package)
        zygote = self._find(key)
        if zygote is not None:
            return key if zygote.is_ready else None
        variables = dict(application.environments)
        if package is not None:
            variables = dict(package.surround(application.environments))
        own = (application.working_directory, variables.get("PYTHONPATH"))
        paths = (*own, self._environment.get("PYTHONPATH"))
        variables["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        variables = {**thread_variables(order.resources.cpu, self._environment), **variables}
        module = application.entry_point.partition(":")[0]
        work = self._start(key, account, _command(package, module), variables)
        self._tasks.start(work, "zygote")
        return None  # this executor pays for its imports itself

    async def plain(self, account: Account | None) -> Key:
        """Return the key of a zygote that has nobody's code, once it is ready or has failed."""
        key = (_user(account),)
        return await self._settled(key, account, COMMAND)

    async def of_package(
        self, account: Account | None, order: StartExecutor, package: Place
    ) -> Key:
        """Return the key of a zygote in a package's environment, once it is ready or has failed."""
        key = (_user(account), order.tenant, package.release)
        return await self._settled(key, account, _command(package))

    async def _settled(self, key: Key, account: Account | None, command: Sequence[str]) -> Key:
        zygote = self._find(key)
        if zygote is None:
            zygote = await self._start(key, account, command)
        await zygote.settled.wait()
        return key

    def _find(self, key: Key) -> Zygote | None:
        zygote = self._by_key.get(key)
        if zygote is None or (zygote.failed and self._loop.time() - zygote.started > RETRY):
            return None
        return zygote

    async def _start(
        self,
        key: Key,
        account: Account | None,
        command: Sequence[str],
        variables: Mapping[str, str] | None = None,
    ) -> Zygote:
        """Start one; does not wait until it is ready."""
        now = self._loop.time()
        zygote = self._by_key[key] = Zygote(key, now, now)
        self._limit()
        try:
            zygote.pid = await self._spawn(account, command, variables or {})
        except (OSError, GuardianLost) as error:
            log.warning("zygote-not-started key=%s error=%s", key, error)
            zygote.fail()
        else:
            self._loop.call_later(READY_WITHIN, self._overdue, zygote)
        return zygote

    async def _spawn(
        self, account: Account | None, command: Sequence[str], variables: Mapping[str, str]
    ) -> int:
        number = next(self._numbers)
        name, output = f"zygote-{number}", self._places.open_output
        environment, confinement = dict(self._environment), self._limits.confine(number)
        if account is not None:
            environment.update(account.environment())
            confinement = {**confinement, **account.confinement()}
        with output(name, "out") as out, output(name, "err") as err:
            pid = await self._guardian.spawn(
                command,
                {**environment, **variables},
                self._directory,
                (out.fileno(), err.fileno()),
                {**confinement, "zygote": True},
            )
        self._by_pid[pid] = number
        return pid

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

    def ended(self, pid: int, status: int | None) -> bool:
        """A process has ended; returns whether it was one of these."""
        number = self._by_pid.pop(pid, None)
        if number is None:
            return False
        self._limits.forget(number)
        stderr = tail(self._places.path(f"zygote-{number}", "err"))
        log.info("zygote-ended pid=%s status=%s stderr=%r", pid, status, stderr)
        self._places.delete_output(f"zygote-{number}")
        for zygote in list(self._by_key.values()):
            if zygote.pid == pid and zygote.is_ready:
                del self._by_key[
                    zygote.key
                ]  # its code has changed, say: the next one starts another
            elif zygote.pid == pid:
                zygote.fail()
        return True

    def collect(self) -> None:
        """End those of applications and packages that have not been used for long."""
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
        zygote.fail()

    def _on_ready(self, pid: int) -> None:
        for zygote in self._by_key.values():
            if zygote.pid == pid:
                zygote.settled.set()

    def _overdue(self, zygote: Zygote) -> None:
        if not zygote.settled.is_set():
            log.warning("zygote-overdue key=%s seconds=%g", zygote.key, READY_WITHIN)
            self._guardian.kill(zygote.pid)
            zygote.fail()


def _command(package: Place | None, *arguments: str) -> tuple[str, ...]:
    """Return the command of a zygote: with the interpreter that its executors are to have."""
    python = package.python if package is not None else ""
    return (python or COMMAND[0], *COMMAND[1:], *arguments)


def _user(account: Account | None) -> str:
    return account.name if account is not None else ""


def _application_key(
    account: Account | None,
    order: StartExecutor,
    application: ApplicationSpec,
    package: Place | None,
) -> Key:
    """Return the key of an application's zygote: what differs in it must not share one."""
    asked = (
        application.entry_point,
        application.environments,
        application.working_directory,
        order.resources.cpu,
        package and package.release,
    )
    code = hashlib.sha256(repr(asked).encode()).hexdigest()
    return (_user(account), order.tenant, order.application_name, code)
