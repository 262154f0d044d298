"""One term of a session manager: from its open port to its stop, or to the loss of its leadership.

The only place that knows which store, policy and clock are used. Whoever may stand by goes through
several terms in one process; nothing is carried over from one to the next but the port's number.
"""

import asyncio
import contextlib
import gc
import logging
import socket
from pathlib import Path

import msgspec

from flame.core.state import Limits
from flame.model.errors import NotLeading, Unavailable
from flame.runtime.program import Readiness
from flame.runtime.tasks import Tasks
from flame.scheduling.policies import make_policy
from flame.session_manager.admin import Admin
from flame.session_manager.backend import backend_handler
from flame.session_manager.channel_calls import ChannelCalls
from flame.session_manager.configuration import Configuration
from flame.session_manager.defaults import register_default_applications
from flame.session_manager.framed_port import FramedPort
from flame.session_manager.frontend import Frontend
from flame.session_manager.frontend_v0 import FrontendV0
from flame.session_manager.listening import STOP_GRACE, Listener, TlsFiles
from flame.session_manager.package_store import PackageStore, package_directory
from flame.session_manager.packages import Packages
from flame.session_manager.replies import Watches
from flame.session_manager.retention import Retention
from flame.session_manager.shell import Shell
from flame.session_manager.standby import Duty, advertised, heartbeat_for
from flame.session_manager.stream import HEARTBEAT
from flame.storage.candidacy import Candidacy
from flame.storage.memory import MemoryStore
from flame.storage.open import open_store
from flame.storage.store import SharedStore, Store
from flame.wire.channels import FRAME_OVERHEAD, Endpoint

log = logging.getLogger("flame.session_manager")

#: Seconds before a lost leader stands again, which others may use.
PAUSE = 0.5


class Settings(msgspec.Struct, frozen=True):
    """What the command line and the configuration file say together."""

    configuration: Configuration
    token_file: Path
    anonymous: bool = False
    ready_fd: int | None = None
    parent: int | None = None  # end with this process


class Failed(Exception):
    """The session manager stopped because of a bug or a broken store."""


class Term:
    """Bind the port; :meth:`serve` does the rest.

    Args:
        where: What to listen on; of a later term, what the one before did.

    Attributes:
        endpoint: Where it listens.

    Raises:
        InvalidConfiguration: The port cannot be bound, or the storage makes no sense.
    """

    def __init__(self, settings: Settings, token: str, where: Endpoint, ready: Readiness) -> None:
        self._settings = settings
        self._ready = ready
        configuration = settings.configuration
        self._availability = configuration.high_availability
        # The port first: a second session manager by mistake must not touch the first one's store.
        self._listener = _open_listener(settings, where, token)
        self.endpoint = self._listener.endpoint
        address = advertised(self.endpoint, self._availability.advertise, socket.gethostname())
        candidacy = Candidacy(address, self._availability.lease, self._availability.standby)
        self._store = open_store(configuration.storage, candidacy)
        self._shared = self._store if isinstance(self._store, SharedStore) else None
        self._duty = Duty()
        self._shell = _make_shell(configuration, token, self._store, self._shared)
        self._places = contextlib.ExitStack()
        self._packages: Packages | None = None
        self._calls = Tasks("channel-calls")
        self._framed = FramedPort(
            self._listener.access.admit,
            self._shell.framed_channels(),
            configuration.max_input_bytes + FRAME_OVERHEAD,
        )
        if self._shared is not None:
            self._loop = asyncio.get_running_loop()
            self._shared.on_lost = self._on_lost
            self._shared.on_waiting = self._on_waiting

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until told to stop; returns before that if this one may lead no more.

        Raises:
            FlameError: It cannot start; the text says why and what to do.
            Failed: A bug, or a broken store.
        """
        shell, failed = self._shell, self._shell.failed
        stopped = asyncio.create_task(stop.wait(), name="session-manager:stop")
        work = asyncio.create_task(self._work(), name="session-manager:work")
        try:
            await asyncio.wait((work, stopped, failed), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        except Unavailable as error:
            if not self._availability.standby:
                raise
            shell.lose(str(error))  # the database went away while it was read
        finally:
            await self._end(stopped, work)
        cause = failed.exception() if failed.done() else None
        if cause is not None:
            if not (self._availability.standby and isinstance(cause, NotLeading)):
                raise Failed from cause
            log.info("standing-by-again endpoint=%s", self.endpoint)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE)

    async def _work(self) -> None:
        """Begin to lead, when that is possible."""
        listener, shell = self._listener, self._shell
        standby = self._availability.standby
        if standby:
            listener.serve([self._duty])
            await listener.start(standby=True)
        gc.set_threshold(50_000, 20, 100)  # before a million tasks are read: see below
        await shell.start()
        await register_default_applications(shell.calls)
        configuration = self._settings.configuration
        packages = self._packages = self._keep_packages()
        watches = Watches(configuration.max_watches)
        frontend = Frontend(
            shell.calls,
            default_resources=configuration.resources,
            max_input_bytes=configuration.max_input_bytes,
            watches=watches,
            now=shell.clock,
            check_package=packages.check,
        )
        shell.clients.calls = ChannelCalls(frontend.session_answers(), shell.lapsed, self._calls)
        packages.start()
        handlers = [
            frontend.handler(),
            FrontendV0(
                shell.calls, max_input_bytes=configuration.max_input_bytes, watches=watches
            ).handler(),
            Admin(shell.calls, shell.outputs, frontend.node_message).handler(),
            backend_handler(),
            packages.handler(),
            *shell.channel_handlers(),
        ]
        listener.access.find_token = shell.calls.token
        where = self.endpoint
        shell.framed = await self._framed.listen(where.host, where.port + 1, listener.tls_context())
        if standby and self._shared is not None:
            self._duty.lead(handlers, self._shared.leads)
            await listener.leads()
        else:
            listener.serve(handlers)
            await listener.start()
        _settle_garbage_collector()
        log.info(
            "serving endpoint=%s storage=%s settings=%r anonymous=%s epoch=%d",
            where,
            self._store.name,
            self._store.settings,
            self._settings.anonymous,
            shell.epoch,
        )
        self._ready.tell({"endpoint": str(where), "role": "leader"})

    def _keep_packages(self) -> Packages:
        configuration = self._settings.configuration
        settings = configuration.packages
        beside = self._settings.token_file.parent
        place = package_directory(settings.directory, configuration.storage, beside)
        store = PackageStore(
            self._places.enter_context(place),
            max_size=settings.max_size,
            max_total=settings.max_total,
        )
        return Packages(store, self._shell.calls.packages_in_use, settings.keep_hours * 3600.0)

    def _on_lost(self) -> None:
        self._loop.call_soon_threadsafe(self._shell.lose)

    def _on_waiting(self, leader: str) -> None:
        self._loop.call_soon_threadsafe(self._waits_for, leader)

    def _waits_for(self, leader: str) -> None:
        self._duty.leader = leader
        log.info("standing-by endpoint=%s leader=%r", self.endpoint, leader)
        if self._availability.standby:
            self._ready.tell({"endpoint": str(self.endpoint), "role": "standby"})

    async def _end(self, *tasks: asyncio.Task[object]) -> None:
        shell, shared = self._shell, self._shared
        leads = shared is None or shared.leads()
        if shared is not None and not leads:
            shared.abandon()  # it stands by, or has lost its lease: nothing is left to write
        for task in tasks:
            task.cancel()
        if leads:
            log.info("stopping")
        await self._listener.stop(STOP_GRACE if leads else 0.0)
        await self._framed.close()
        await self._calls.close()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        with self._places:
            if self._packages is not None:
                await self._packages.stop()
            await shell.stop()


def _make_shell(
    configuration: Configuration, token: str, store: Store, shared: SharedStore | None
) -> Shell:
    gc.unfreeze()  # what an earlier term left behind
    standby = configuration.high_availability.standby
    lease = configuration.high_availability.lease
    return Shell(
        store=store,
        token=token,
        limits=Limits(
            max_input_bytes=configuration.max_input_bytes,
            max_sessions=configuration.max_sessions,
            max_executors=configuration.max_executors,
            max_cluster_tasks=configuration.max_queued_tasks,
            max_cluster_bytes=configuration.max_queued_bytes,
            max_connections=configuration.max_connections,
            bind_attempts=configuration.retry_limits,
            preemption_rate=configuration.preemption.budget,
            preemption_burst=configuration.preemption.burst,
            memory_only=isinstance(store, MemoryStore),
        ),
        policies=make_policy(
            configuration.policies,
            spread=configuration.placement == "spread",
            grace=configuration.preemption.grace,
        ),
        tenants=configuration.tenants,
        retention=Retention(configuration.closed_session_hours, configuration.closed_sessions),
        leads=shared.leads if standby and shared is not None else None,
        heartbeat=heartbeat_for(lease) if standby else HEARTBEAT,
    )


def _open_listener(settings: Settings, where: Endpoint, token: str) -> Listener:
    configuration = settings.configuration
    tls = configuration.tls
    return Listener.open(
        where.host,
        where.port,
        token=token,
        anonymous=settings.anonymous,
        tls=None if tls is None else TlsFiles(tls.cert_file, tls.key_file),
        max_input_bytes=configuration.max_input_bytes,
    )


def _settle_garbage_collector() -> None:
    """Keep collections short beside a million queued tasks.

    With the default thresholds, building that many tasks costs several times its own work in
    collections that find nothing, and a full one stops everything for over 0.1 s.
    What is alive now lives as long as the process, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
