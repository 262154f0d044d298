"""``flame-session-manager``: reads the configuration and serves, term after term, until told to stop.

What can go wrong before it serves is one sentence on stderr and exit code 2; a bug that stops it later
is exit code 1, and whoever supervises it may start it again: nothing acknowledged is lost.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import click
import msgspec
import uvloop

from flame.model.errors import FlameError, InvalidConfiguration
from flame.runtime.directory import configuration_directory
from flame.runtime.logs import log_to_stderr
from flame.runtime.processes import ParentWatch
from flame.runtime.program import SETTINGS, Readiness, options_of_its_starter
from flame.runtime.watchdog import STUCK_AFTER, Watchdog, on_stop_signals
from flame.session_manager.access import read_or_create_token
from flame.session_manager.configuration import Configuration, load
from flame.session_manager.configuration_file import DEFAULT_STORAGE, Tls
from flame.session_manager.term import Failed, Settings, Term
from flame.wire.channels import Endpoint

log = logging.getLogger("flame.session_manager")

USAGE_ERROR = 2
FAILED = 1

EXAMPLES = """
\b
Examples:
  flame-session-manager --storage sqlite:///var/lib/flame/flame.db
  flame-session-manager --storage postgresql://flame@db/flame --standby
\b
The second, on each of two machines, leads on one of them; see docs/high-availability.md.
"""


@click.command(context_settings=SETTINGS, epilog=EXAMPLES)
@click.version_option(package_name="flame", prog_name="flame", message="%(prog)s %(version)s")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A flame-cluster.yaml [default: the one in ~/.flame, if there is one]",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Takes the port after it as well, for streams without gRPC, or any free one if that is taken "
    "[default: 127.0.0.1:8080; port 0 picks one]",
)
@click.option(
    "--storage",
    metavar="URL",
    help=f"sqlite:///abs/path.db, sqlite://relative.db, postgresql://... or memory [default: {DEFAULT_STORAGE}]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Holds the cluster's token; made if missing [default: ~/.flame/token]",
)
@click.option("--anonymous", is_flag=True, help="Serve the Frontend without a token, on loopback.")
@click.option("--tls-cert", metavar="FILE", help="The server's certificate chain, PEM.")
@click.option("--tls-key", metavar="FILE", help="Its private key, PEM.")
@click.option(
    "--standby",
    is_flag=True,
    help="Wait while another session manager leads the same postgresql:// storage, and take over when "
    "it stops, dies or is cut off.",
)
@click.option(
    "--lease",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    help="How long a leader that is not heard of still leads [default: 3]",
)
@click.option(
    "--advertise",
    metavar="URL",
    help="The address that standbys name to clients [default: the one it listens on]",
)
@options_of_its_starter
def main(
    config: Path | None,
    listen: str | None,
    storage: str | None,
    token_file: Path | None,
    anonymous: bool,
    tls_cert: str | None,
    tls_key: str | None,
    standby: bool,
    lease: float | None,
    advertise: str | None,
    ready_fd: int | None,
    stuck_after: float,
    parent: int | None,
) -> None:
    """Run Flame's session manager."""
    log_to_stderr("info")
    directory = configuration_directory()
    try:
        settings = Settings(
            configuration=_available(
                _combine(
                    _load_configuration(config, directory), listen, storage, tls_cert, tls_key
                ),
                standby=standby,
                lease=lease,
                advertise=advertise,
            ),
            token_file=token_file or directory / "token",
            anonymous=anonymous,
            ready_fd=ready_fd,
            parent=parent,
        )
        uvloop.run(run(settings, stuck_after))
    except FlameError as error:
        click.echo(f"flame-session-manager: {error}", err=True)
        sys.exit(USAGE_ERROR)
    except Failed:
        sys.exit(FAILED)  # its cause is in the log already


def _load_configuration(config: Path | None, directory: Path) -> Configuration:
    if config is not None:
        return load(config)
    usual = directory / "flame-cluster.yaml"
    return load(usual) if usual.exists() else Configuration()


def _combine(
    configuration: Configuration,
    listen: str | None,
    storage: str | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> Configuration:
    """Let the command line win over the file."""
    if (tls_cert is None) != (tls_key is None):
        raise InvalidConfiguration("--tls-cert and --tls-key go together; give both or neither")
    if tls_cert is not None and tls_key is not None:
        tls = Tls(cert_file=tls_cert, key_file=tls_key)
        configuration = msgspec.structs.replace(configuration, tls=tls)
    if storage is not None:
        configuration = msgspec.structs.replace(configuration, storage=storage)
    if listen is not None:
        try:
            endpoint = Endpoint.parse(listen)
        except InvalidConfiguration:
            raise InvalidConfiguration(
                f"--listen {listen}: must be HOST:PORT, for example 127.0.0.1:8080"
            ) from None
        configuration = msgspec.structs.replace(configuration, endpoint=endpoint)
    elif configuration.is_one_of_several:
        raise InvalidConfiguration(
            "cluster.endpoint names several session managers; say with --listen HOST:PORT which this is"
        )
    return configuration


def _available(
    configuration: Configuration, *, standby: bool, lease: float | None, advertise: str | None
) -> Configuration:
    """Let the command line win over the file's ``high_availability``."""
    block = configuration.high_availability
    if standby:
        block = msgspec.structs.replace(block, standby=True)
    if lease is not None:
        block = msgspec.structs.replace(block, lease=lease)
    if advertise is not None:
        block = msgspec.structs.replace(block, advertise=advertise)
    if block.advertise is not None:
        Endpoint.parse(block.advertise)
    return msgspec.structs.replace(configuration, high_availability=block)


async def run(settings: Settings, stuck_after: float = STUCK_AFTER) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent; a second signal ends it at once.

    Raises:
        FlameError: It cannot start; the text says why and what to do.
        Failed: It stopped because of a bug or a broken store.
    """
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():  # nothing acknowledged is lost by this
            log.warning("stopped-at-once signal=%s", number.name)
            os._exit(128 + number)
        stop.set()

    on_stop_signals(on_signal)
    watchdog = Watchdog(stuck_after, settings.parent)
    watch = ParentWatch(stop.set, settings.parent) if settings.parent is not None else None
    token = read_or_create_token(settings.token_file)
    where = settings.configuration.endpoint
    ready = Readiness(settings.ready_fd)
    try:
        while not stop.is_set():
            term = Term(settings, token, where, ready)
            await term.serve(stop)
            where = term.endpoint
    finally:
        watchdog.close()
        if watch is not None:
            watch.close()
