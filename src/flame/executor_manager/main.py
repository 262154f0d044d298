"""``flame-executor-manager``: from its options, environment and file to an executor manager."""

import asyncio
import fcntl
import os
import shutil
import tempfile
from typing import TextIO

import click
import uvloop

from flame.executor_manager.accounts import Accounts
from flame.executor_manager.agent import Identity, default_name
from flame.executor_manager.capacity import gpu_ids, node_labels, offered
from flame.executor_manager.configuration import (
    find_access,
    find_offer,
    find_volumes,
)
from flame.executor_manager.limits import (
    DEFAULT_OPEN_FILES,
    DEFAULT_PROCESSES,
    LEVELS,
    LimitOptions,
)
from flame.executor_manager.manager import Manager, Options
from flame.executor_manager.packages.preparer import DEFAULT_TIMEOUT as PACKAGE_TIMEOUT
from flame.executor_manager.packages.releases import DEFAULT_SPACE as PACKAGE_SPACE
from flame.executor_manager.volumes import parse_allowed
from flame.model.errors import FlameError, InvalidConfiguration
from flame.model.resource_text import parse_bytes
from flame.runtime.directory import configuration_directory
from flame.runtime.logs import log_to_stderr
from flame.runtime.program import SETTINGS, options_of_its_starter

EXAMPLES = """
\b
Examples:
  flame-executor-manager --endpoint http://manager:8080 --token-file token
  flame-executor-manager --label zone=a --label disk=ssd --resource fpga=1,license/x=3
  flame-executor-manager --volume-allow /srv/data --volume-allow /srv/scratch:rw
  flame-executor-manager --config flame-cluster.yaml --cpus 8 --memory 32g --gpus 2
"""


@click.command(context_settings=SETTINGS, epilog=EXAMPLES)
@click.version_option(package_name="flame", prog_name="flame", message="%(prog)s %(version)s")
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
@options_of_its_starter
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
    stuck_after: float,
    parent: int | None,
) -> None:
    """Offer this machine to a Flame cluster and run executors on it."""
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
            identity=identity,
            limits=enforced,
            accounts=accounts,
            secrets=secrets,
            directory=directory,
            ready_fd=ready_fd,
            parent=parent,
            stuck_after=stuck_after,
            package_timeout=package_timeout,
            package_space=package_space,
            volume_allow=parse_allowed(find_volumes(volumes, config)),
        )
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
