"""``flame-session-manager``: reads the configuration, puts the parts together, runs until told to stop.

The only place that knows which store, policy and clock are used. What can go wrong before it serves
is one sentence on stderr and exit code 2; a bug that stops it later is exit code 1, and whoever
supervises it may start it again: nothing acknowledged is lost.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

import click
import msgspec
import uvloop

from flame.core.state import Limits
from flame.model.errors import FlameError, InvalidConfiguration
from flame.runtime.processes import ParentWatch
from flame.scheduling.policies import make_policy
from flame.session_manager.access import read_or_create_token
from flame.session_manager.backend import backend_handler
from flame.session_manager.configuration import DEFAULT_STORAGE, Configuration, Tls, load
from flame.session_manager.defaults import register_default_applications
from flame.session_manager.frontend import Frontend
from flame.session_manager.listening import Listener, TlsFiles
from flame.session_manager.retention import Retention
from flame.session_manager.shell import Shell
from flame.storage.memory import MemoryStore
from flame.storage.open import open_store
from flame.wire.channels import Endpoint

log = logging.getLogger("flame.session_manager")

USAGE_ERROR = 2
FAILED = 1


class Settings(msgspec.Struct, frozen=True):
    """What the command line and the configuration file say together."""

    configuration: Configuration
    token_file: Path
    anonymous: bool = False
    ready_fd: int | None = None
    parent: int | None = None  # end with this process


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="flame-cluster.yaml [default: the one in ~/.flame, if there is one]",
)
@click.option("--listen", metavar="HOST:PORT", help="[default: 127.0.0.1:8080; port 0 picks one]")
@click.option(
    "--storage",
    metavar="URL",
    help=f"sqlite:///abs/path.db, sqlite://relative.db, postgresql://... or memory [default: {DEFAULT_STORAGE}]",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="holds the cluster's token; made if missing [default: ~/.flame/token]",
)
@click.option("--anonymous", is_flag=True, help="Serve the Frontend without a token, on loopback.")
@click.option("--tls-cert", metavar="FILE", help="the server's certificate chain, PEM")
@click.option("--tls-key", metavar="FILE", help="its private key, PEM")
@click.option("--ready-fd", type=int, metavar="N", help="write a line of JSON here when serving")
@click.option(
    "--die-with-parent", is_flag=True, help="Stop when the process that started this ends."
)
def main(
    config: Path | None,
    listen: str | None,
    storage: str | None,
    token_file: Path | None,
    anonymous: bool,
    tls_cert: str | None,
    tls_key: str | None,
    ready_fd: int | None,
    die_with_parent: bool,
) -> None:
    """Run Flame's session manager."""
    parent = os.getppid() if die_with_parent else None
    logging.basicConfig(
        stream=sys.stderr,
        level=_log_level(os.environ.get("FLAME_LOG", "info")),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    directory = Path(os.environ.get("FLAME_CONFIG_DIR", "~/.flame")).expanduser()
    try:
        settings = Settings(
            configuration=_combine(
                _load_configuration(config, directory), listen, storage, tls_cert, tls_key
            ),
            token_file=token_file or directory / "token",
            anonymous=anonymous,
            ready_fd=ready_fd,
            parent=parent,
        )
        uvloop.run(run(settings))
    except FlameError as error:
        click.echo(f"flame-session-manager: {error}", err=True)
        sys.exit(USAGE_ERROR)
    except _Failed:
        sys.exit(FAILED)  # its cause is in the log already


def _log_level(text: str) -> int:
    # Released versions also take filters per module here; those count as info.
    level = logging.getLevelNamesMapping().get(text.upper())
    return logging.INFO if level is None else level


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
    return configuration


class _Failed(Exception):
    """The session manager stopped because of a bug or a broken store."""


async def run(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent.

    Raises:
        FlameError: It cannot start; the text says why and what to do.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch = ParentWatch(stop.set, settings.parent) if settings.parent is not None else None

    configuration = settings.configuration
    _say_what_is_not_enforced(configuration)
    token = read_or_create_token(settings.token_file)
    # The port first: a second session manager by mistake must not touch the first one's store.
    listener = _open_listener(settings, token)
    try:
        await _serve(settings, token, listener, stop)
    finally:
        if watch is not None:
            watch.close()


async def _serve(settings: Settings, token: str, listener: Listener, stop: asyncio.Event) -> None:
    configuration = settings.configuration
    store = open_store(configuration.storage)
    limits = Limits(
        max_input_bytes=configuration.max_input_bytes,
        max_sessions=configuration.max_sessions,
        bind_attempts=configuration.retry_limits,
        preemption_rate=configuration.preemption.budget,
        preemption_burst=configuration.preemption.burst,
        memory_only=isinstance(store, MemoryStore),
    )
    retention = Retention(configuration.closed_session_hours, configuration.closed_sessions)
    shell = Shell(
        store=store,
        token=token,
        limits=limits,
        policies=make_policy(
            configuration.policies,
            spread=configuration.placement == "spread",
            grace=configuration.preemption.grace,
        ),
        tenants=configuration.tenants,
        retention=retention,
    )
    try:
        await shell.start()
    except BaseException:
        store.close()
        raise
    try:
        await register_default_applications(shell)
        frontend = Frontend(
            shell,
            default_resources=configuration.resources,
            max_input_bytes=configuration.max_input_bytes,
            now=shell.clock,
        )
        listener.serve([frontend.handler(), backend_handler(), *shell.channel_handlers()])
        where = listener.endpoint
        await shell.executors_connected.listen(where.host, where.port + 1, listener.tls_context())
        await listener.start()
        _settle_garbage_collector()
        log.info(
            "serving endpoint=%s storage=%s settings=%r anonymous=%s epoch=%d",
            listener.endpoint,
            store.name,
            store.settings,
            settings.anonymous,
            shell.epoch,
        )
        if settings.ready_fd is not None:
            _tell_ready(settings.ready_fd, listener.endpoint)
        await _until_stopped(shell, stop)
        log.info("stopping")
    finally:
        await listener.stop()
        await shell.stop()


def _open_listener(settings: Settings, token: str) -> Listener:
    configuration = settings.configuration
    tls = configuration.tls
    return Listener.open(
        configuration.endpoint.host,
        configuration.endpoint.port,
        token=token,
        anonymous=settings.anonymous,
        tls=None if tls is None else TlsFiles(tls.cert_file, tls.key_file),
        max_input_bytes=configuration.max_input_bytes,
    )


async def _until_stopped(shell: Shell, stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait(), name="session-manager:stop")
    try:
        await asyncio.wait((stopped, shell.failed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if shell.failed.done() and shell.failed.exception() is not None:
        raise _Failed


def _settle_garbage_collector() -> None:
    """Keep collections short beside a million queued tasks.

    With the default thresholds, building that many tasks costs several times its own work in
    collections that find nothing, and a full one stops everything for over 0.1 s.
    What is alive now lives as long as the process, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _tell_ready(descriptor: int, endpoint: Endpoint) -> None:
    line = json.dumps({"endpoint": str(endpoint), "pid": os.getpid()}) + "\n"
    try:
        os.write(descriptor, line.encode())
        os.close(descriptor)
    except OSError as error:  # nobody waits for it any more
        log.warning("ready-line-not-written fd=%d error=%s", descriptor, error.strerror)


def _say_what_is_not_enforced(configuration: Configuration) -> None:
    usual = Configuration()
    for key, value, default in (
        ("cluster.limits.max_executors", configuration.max_executors, usual.max_executors),
    ):
        if value != default:
            log.warning("configuration-not-enforced-yet key=%s value=%s", key, value)
