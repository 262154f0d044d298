"""``flame-executor-manager``: one process per node that starts executors as it is told.

task                      started by   ends                    if it fails
agent (node channel)      Manager      at the end              the process ends, with the reason
stop (after a signal)     Manager      when all is stopped     the same
watch, spares, start...   Supervisor   with the supervisor     logged; ends are reported
"""

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
import uvloop

from flame.executor_manager.accounts import Accounts
from flame.executor_manager.agent import Identity, NodeAgent, default_name
from flame.executor_manager.capacity import gpu_ids, node_labels, offered
from flame.executor_manager.configuration import (
    configuration_directory,
    find_access,
    find_offer,
    find_volumes,
)
from flame.executor_manager.limits import (
    DEFAULT_OPEN_FILES,
    DEFAULT_PROCESSES,
    LEVELS,
    LimitOptions,
    Limits,
)
from flame.executor_manager.logs import log_to_stderr
from flame.executor_manager.node import Node
from flame.executor_manager.packages.preparer import DEFAULT_TIMEOUT as PACKAGE_TIMEOUT
from flame.executor_manager.packages.preparer import Preparer, Report, Runs
from flame.executor_manager.packages.releases import DEFAULT_SPACE as PACKAGE_SPACE
from flame.executor_manager.packages.releases import Releases
from flame.executor_manager.packages.sources import Sources
from flame.executor_manager.sandbox import find_bubblewrap
from flame.executor_manager.spares import MAX_SPARES
from flame.executor_manager.supervisor import Supervisor
from flame.executor_manager.volumes import Allowed, parse_allowed
from flame.executor_manager.workplace import socket_directory
from flame.model.errors import FlameError, InvalidConfiguration
from flame.model.resource_text import parse_bytes
from flame.model.resources import UNIT
from flame.runtime.processes import ParentWatch, become_subreaper
from flame.runtime.tasks import Tasks
from flame.runtime.watchdog import STUCK_AFTER, Watchdog, on_stop_signals
from flame.wire import frames

log = logging.getLogger(__name__)

STOP_GRACE = 5.0  # seconds for executors when we are told to end
ORPHAN_GRACE = 1.0  # the same when our parent has died


@dataclass(frozen=True, slots=True)
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
    """The executor manager's life: register, serve, stop everything, leave."""

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
        self._ready_fd = options.ready_fd

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
        fd = self._ready_fd
        if fd is None:
            return
        self._ready_fd = None
        line = {"node": self._options.identity.name, "pid": os.getpid()}
        try:
            with os.fdopen(fd, "w") as file:
                file.write(json.dumps(line) + "\n")
        except BrokenPipeError:  # who wanted to know is gone
            log.warning("ready-unread fd=%s", fd)
            if self._options.parent is not None:
                self._stop(ORPHAN_GRACE)


EXAMPLES = """
\b
Examples:
  flame-executor-manager --endpoint http://manager:8080 --token-file token
  flame-executor-manager --label zone=a --label disk=ssd --resource fpga=1,license/x=3
  flame-executor-manager --volume-allow /srv/data --volume-allow /srv/scratch:rw
  flame-executor-manager --config flame-cluster.yaml --cpus 8 --memory 32g --gpus 2
"""


@click.command(epilog=EXAMPLES)
@click.option("--config", type=click.Path(dir_okay=False), help="A flame-cluster.yaml.")
@click.option(
    "--endpoint",
    help="The session manager, for example http://127.0.0.1:8080; several with commas if they stand "
    "by for one another.",
)
@click.option(
    "--token-file", type=click.Path(dir_okay=False), help="File with the cluster's token."
)
@click.option("--ca-file", type=click.Path(dir_okay=False), help="Authority of https endpoints.")
@click.option("--node", "name", help="The node's name; by default this machine's and a number.")
@click.option(
    "--executors",
    type=click.IntRange(min=0),
    help="Offer room for so many unit executors (1 CPU, 1 GiB) whatever the machine has.",
)
@click.option("--cpus", type=click.IntRange(min=0), help="CPUs to offer.")
@click.option("--memory", metavar="SIZE", help="Memory to offer: bytes, or as in 512m, 16g.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs to offer.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=AMOUNT",
    help="What else to offer, as in fpga=1 or license/x=3.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label of this node; arch, os, hostname and node it has by itself.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False),
    help="Where executors work and their output is kept; by default a temporary directory.",
)
@click.option(
    "--limits",
    type=click.Choice(LEVELS),
    default="auto",
    show_default=True,
    envvar="FLAME_LIMITS",
    help="How executors are kept to what their sessions ask for: by control groups, by watching "
    "them, not at all, or (auto) by control groups where this user may make them.",
)
@click.option(
    "--max-processes",
    type=click.IntRange(min=16),
    default=DEFAULT_PROCESSES,
    show_default=True,
    help="Processes and threads of an executor, where control groups are.",
)
@click.option(
    "--max-open-files",
    type=click.IntRange(min=64),
    default=DEFAULT_OPEN_FILES,
    show_default=True,
    help="Open files of each process of an executor.",
)
@click.option(
    "--max-disk", help="What the files of an executor may take, like 10g; by default no limit."
)
@click.option(
    "--user",
    envvar="FLAME_EXECUTOR_USER",
    help="Run executors as this user; needs root. By default they run as the executor manager does.",
)
@click.option(
    "--tenant-user",
    "tenant_users",
    multiple=True,
    metavar="TENANT=USER",
    help="Run this tenant's executors as this user. May be there several times.",
)
@click.option(
    "--package-timeout",
    type=click.FloatRange(min=1.0),
    default=PACKAGE_TIMEOUT,
    show_default=True,
    help="Seconds that fetching, installing and checking a package may take.",
)
@click.option(
    "--package-space",
    type=click.IntRange(min=0),
    default=PACKAGE_SPACE,
    show_default=True,
    help="Bytes that packages may take; what no executor uses is removed above that.",
)
@click.option(
    "--volume-allow",
    "volumes",
    multiple=True,
    metavar="PATH[:ro|:rw]",
    help="Let applications name this directory, or one in it, as a volume: to read (ro, the default) "
    "or to write, too. By default none. May be there several times.",
)
@click.option("--ready-fd", type=int, help="Write a line of JSON to this file when registered.")
@click.option(
    "--stuck-after",
    type=click.FloatRange(min=0.0),
    default=STUCK_AFTER,
    show_default=True,
    metavar="SECONDS",
    help="End, with all stacks in the log, when the event loop hangs for so long; 0: never.",
)
@click.option(
    "--die-with-parent",
    "parent",
    is_flag=False,
    flag_value="0",
    type=click.IntRange(min=0),
    metavar="[PID]",
    help="End when the process that started us does. With its PID also if it has ended already.",
)
def main(
    config: str | None,
    endpoint: str | None,
    token_file: str | None,
    ca_file: str | None,
    name: str | None,
    executors: int | None,
    cpus: int | None,
    memory: str | None,
    gpus: int | None,
    resources: tuple[str, ...],
    labels: tuple[str, ...],
    directory: str | None,
    limits: str,
    max_processes: int,
    max_open_files: int,
    max_disk: str | None,
    user: str | None,
    tenant_users: tuple[str, ...],
    package_timeout: float,
    package_space: int,
    volumes: tuple[str, ...],
    ready_fd: int | None,
    parent: int | None,
    stuck_after: float,
) -> None:
    """Offer this machine to a Flame cluster and run executors on it."""
    parent = os.getppid() if parent == 0 else parent
    log_to_stderr("info")
    temporary = None
    try:
        access = find_access(endpoint, token_file, ca_file, config)
        options = (("cpu", cpus), ("mem", memory), ("gpu", gpus))
        amounts = [f"{key}={value}" for key, value in options if value is not None]
        said, amount_of = find_offer(labels, [*amounts, *resources], config)
        name = name or default_name()
        capacity = offered(executors, amount_of)
        if directory is None:
            directory = temporary = tempfile.mkdtemp(prefix="flame-")
        directory = os.path.abspath(directory)
        lock = _claim(directory)
        identity = Identity(
            name,
            capacity,
            access.endpoints,
            access.token,
            access.ca_file,
            node_labels(said, name),
            gpu_ids(capacity.gpus, os.environ),
        )
        disk = parse_bytes(max_disk) if max_disk is not None else None
        enforced = LimitOptions(limits, max_processes, max_open_files, disk)
        accounts = Accounts.parse(user, tenant_users)
        if accounts.any:
            os.chmod(directory, 0o711)  # noqa: S103 - to enter, not to list
            accounts.check(directory)
        secrets = tuple(
            os.path.abspath(path) for path in (configuration_directory(), token_file or "") if path
        )
        chosen = Options(
            identity, enforced, accounts, secrets, directory, ready_fd, parent, stuck_after,
            package_timeout, package_space, parse_allowed(find_volumes(volumes, config)),
        )  # fmt: skip
        with lock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(chosen))
    except FlameError as error:
        raise SystemExit(f"flame-executor-manager: {error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


async def _run(options: Options) -> None:
    await Manager(options).run()


def _claim(directory: str) -> TextIO:
    """Make the directory ours until the file that is returned closes.

    Raises:
        InvalidConfiguration: It cannot be made, or another executor manager works in it.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = open(os.path.join(directory, "lock"), "a")  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise InvalidConfiguration(f"directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InvalidConfiguration(
            f"directory {directory} is in use by another executor manager; give each its own"
        ) from None
    return lock
