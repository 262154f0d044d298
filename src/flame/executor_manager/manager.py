"""The executor manager's life: register, serve, stop everything, leave.

task                      started by   ends                    if it fails
agent (node channel)      Manager      at the end              the process ends, with the reason
stop (after a signal)     Manager      when all is stopped     the same
watch, spares, start...   Supervisor   with the supervisor     logged; ends are reported
"""

import asyncio
import logging
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from flame.executor_manager.accounts import Accounts
from flame.executor_manager.agent import Identity, NodeAgent
from flame.executor_manager.limits import LimitOptions, Limits
from flame.executor_manager.node import Node
from flame.executor_manager.packages.making import Runs
from flame.executor_manager.packages.preparation import Report
from flame.executor_manager.packages.preparer import Preparer
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Sources
from flame.executor_manager.sandbox import find_bubblewrap
from flame.executor_manager.spares import MAX_SPARES
from flame.executor_manager.supervisor import Supervisor
from flame.executor_manager.volumes import Allowed
from flame.executor_manager.workplace import socket_directory
from flame.model.resources import UNIT
from flame.runtime.processes import ParentWatch, become_subreaper
from flame.runtime.program import Readiness
from flame.runtime.tasks import Tasks
from flame.runtime.watchdog import Watchdog, on_stop_signals
from flame.wire import frames

log = logging.getLogger(__name__)

STOP_GRACE = 5.0  # seconds for executors when we are told to end
ORPHAN_GRACE = 1.0  # the same when our parent has died


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    identity: Identity
    limits: LimitOptions
    accounts: Accounts
    secrets: tuple[str, ...]  # files and directories that services in a sandbox must not see
    directory: str
    ready_fd: int | None
    parent: int | None  # end when this process does
    stuck_after: float
    package_timeout: float
    package_space: int
    volume_allow: tuple[Allowed, ...]


class Manager:
    """One executor manager, from its first registration to its end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        identity, accounts = options.identity, options.accounts
        user = accounts.default
        bubblewrap = find_bubblewrap(user.uid, user.gid) if user is not None else find_bubblewrap()
        self._sockets = socket_directory(options.directory)
        node = Node(
            name=identity.name,
            endpoints=identity.endpoints,
            ca_file=os.path.abspath(identity.ca_file) if identity.ca_file else None,
            directory=options.directory,
            socket_directory=self._sockets,
            accounts=accounts,
            bubblewrap=bubblewrap,
            hidden=(options.directory, self._sockets, *options.secrets),
            gpu_ids=identity.gpu_ids,
            volume_allow=options.volume_allow,
        )
        units = max(1, UNIT.count_in(identity.capacity))
        limits = Limits(options.limits, identity.capacity, options.directory)
        isolation = "; ".join(
            (limits.description, accounts.describe(), f"sandbox: {bubblewrap.description}")
        )
        log.info("isolation %s", isolation)
        self._supervisor = Supervisor(
            node,
            limits,
            self._on_exit,
            self._make_preparer,
            lambda key, seconds: self._agent.delayed(key, seconds),
            spares=min(MAX_SPARES, units),
        )
        self._agent = NodeAgent(identity, self._supervisor, self._on_registered, isolation)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks = Tasks("executor-manager", self._failed)
        self._grace: float | None = None
        self._ready = Readiness(options.ready_fd)

    def _make_preparer(self, run: Runs) -> Preparer:
        options = self._options
        identity, accounts = options.identity, options.accounts
        releases = Releases(
            Path(options.directory) / "packages", options.package_space, accounts.of
        )
        sources = Sources(
            lambda: self._supervisor.leader.endpoint, identity.token, identity.ca_file
        )

        def tell(report: Report) -> None:
            self._agent.package(report)

        return Preparer(sources, releases, run, tell, options.package_timeout)

    async def run(self) -> None:
        """Serve until a signal, the parent's death or a failure ends it.

        Raises:
            FlameError: The session manager refused this node.
        """
        on_stop_signals(self._on_signal)
        watchdog = Watchdog(self._options.stuck_after, self._options.parent)
        watch = None
        if self._options.parent is not None:
            watch = ParentWatch(lambda: self._stop(ORPHAN_GRACE), self._options.parent)
        become_subreaper()
        self._supervisor.start()
        self._tasks.start(self._agent.run(), "agent")
        try:
            await self._end
        finally:
            if watch is not None:
                watch.close()
            await self._supervisor.close(0.0)  # ends what a failure left; nothing after a stop
            await self._agent.leave()
            await self._tasks.close()
            watchdog.close()
            if not self._sockets.startswith(self._options.directory):
                shutil.rmtree(self._sockets, ignore_errors=True)

    def _on_signal(self, _number: signal.Signals) -> None:
        # The second one means: now.
        self._stop(STOP_GRACE if self._grace is None else 0.0)

    def _stop(self, grace: float) -> None:
        if self._grace is not None:
            if not self._end.done():
                self._end.set_result(None)
            return
        self._grace = grace
        log.info("stopping grace=%s", grace)
        self._tasks.start(self._stop_executors(grace), "stop")

    async def _stop_executors(self, grace: float) -> None:
        await self._supervisor.close(grace)
        if not self._end.done():
            self._end.set_result(None)

    def _failed(self, error: BaseException) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    def _on_exit(self, report: frames.ExecutorExited) -> None:
        self._agent.exited(report)

    def _on_registered(self) -> None:
        read = self._ready.tell({"node": self._options.identity.name})
        if not read and self._options.parent is not None:
            self._stop(ORPHAN_GRACE)
