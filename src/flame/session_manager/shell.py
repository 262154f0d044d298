"""The thin shell around the engine: events in, effects performed, groups committed.

    rpc, frame, timer ──▶ post(event) ──▶ Engine ──▶ effects ──▶ outboxes of streams, replies
                                            │  ▲
                                     group  ▼  │ committed
                                  StoreWriter (a thread), or here if small

Everything here runs on one event loop; ``post`` never waits, so one event is applied and its effects
are performed before the next one is looked at.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from flame.core import effects, events
from flame.core.cluster import Cluster
from flame.core.effects import (
    ApplicationView,
    ExecutorView,
    NodeView,
    SessionView,
    TaskView,
    TenantView,
    TokenView,
)
from flame.core.records import StoredTask
from flame.core.session import Session
from flame.core.state import Limits
from flame.core.views import attempt_of, task_view
from flame.engine.engine import Engine
from flame.model.credentials import TokenId, TokenSpec
from flame.model.errors import (
    FlameError,
    NotFound,
    NotLeading,
    ResourceExhausted,
    Unavailable,
    WrongState,
)
from flame.model.ids import NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import TaskLog
from flame.model.packages import kept_package
from flame.model.tenants import TenantSpec
from flame.runtime.memory import Trimmer
from flame.runtime.tasks import Tasks
from flame.scheduling.policies import Policies
from flame.session_manager.executor_channel import ExecutorChannels
from flame.session_manager.framed_port import FramedChannel
from flame.session_manager.node_channel import NodeChannels
from flame.session_manager.package_states import PackageStates
from flame.session_manager.recent import RecentTasks
from flame.session_manager.replies import Answerable, CallReply, Watching
from flame.session_manager.retention import Retention
from flame.session_manager.stream import HEARTBEAT
from flame.session_manager.task_channel import TaskChannels
from flame.session_manager.writer import StoreWriter
from flame.storage.memory import MemoryStore
from flame.storage.store import Store
from flame.wire import frames, v1

log = logging.getLogger(__name__)

#: Seconds from a commit that found the store full to the next try.
FULL_STORE_RETRY = 1.0


class Clock:
    """Seconds since the epoch that never go back, whatever is done to the machine's clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


class Shell:
    """The session manager without its gRPC server.

    Args:
        store: Where durable sessions are kept; loaded by :meth:`start`.
        token: The cluster's; executors' credentials are derived from it.
        limits: What to refuse.
        policies: How sessions share the cluster.
        tenants: Who shares it; others have weight 1.
        clock: Seconds since the epoch, never going back.
        retention: How long closed sessions stay.
        leads: Whether this session manager certainly leads at this moment; None: nobody else can.
        heartbeat: Seconds, told to all peers: after three without a word they look for another one.
    """

    def __init__(
        self,
        *,
        store: Store,
        token: str,
        limits: Limits | None = None,
        policies: Policies | None = None,
        tenants: Iterable[TenantSpec] = (),
        clock: Callable[[], float] | None = None,
        volatile: Store | None = None,
        retention: Retention | None = None,
        leads: Callable[[], bool] | None = None,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self.heartbeat = heartbeat
        self._leads = leads
        self.limits = limits or Limits()
        self.clock = clock or Clock()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store = store
        self._volatile = volatile or MemoryStore()
        self._retention = retention or Retention()
        self._cluster = Cluster(
            policies or Policies(), lambda: str(uuid.uuid4()), self.limits, tenants=tenants
        )
        self._engine = Engine(self._cluster, self._commit_volatile)
        self._writer: StoreWriter | None = None
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-reader")
        self._recent = RecentTasks()
        self._pumping = False  # soon
        self._is_store_full = False  # as the last commit found it
        self._tasks = Tasks("session-manager")
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = float("inf")
        self._stopping = False
        self.package_states = PackageStates()
        #: Where channels may go on without gRPC; whoever listens there says so.
        self.framed = frames.FramedAddress()
        self.clients = TaskChannels(self)
        self.executors_connected = ExecutorChannels(self)
        self.nodes_connected = NodeChannels(self, token)
        self._perform_of: dict[type, Callable[[Any], None]] = {
            effects.Done: lambda e: e.reply.answer(None),
            effects.Refuse: lambda e: e.reply.refuse(e.error),
            effects.Answer: lambda e: e.reply.answer(e.view),
            effects.NotifyTask: lambda e: e.watcher.notify(e.view),
            effects.FinalTask: self._show_final,
            effects.FetchOutcomes: self._fetch,
            **self.clients.performs(),
            **self.executors_connected.performs(),
            **self.nodes_connected.performs(),
        }

    @property
    def epoch(self) -> int:
        """The number of this start."""
        return self._cluster.state.epoch

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the store and begin.

        Raises:
            FlameError: The store is in use, or was written by a newer version.
        """
        recovered = await self._loop.run_in_executor(self._readers, self._store.load)
        self._volatile.load()
        if not isinstance(self._store, MemoryStore):
            self._writer = StoreWriter(self._store, self._on_committed, self._on_store_failed)
        self._perform(self._engine.restore(recovered, self.clock()))
        self._pump()
        self._tasks.start(self._beat(), "heartbeats")
        self._tasks.start(self._maintain(), "store-maintenance")

    async def stop(self) -> None:
        """Commit what is on its way and let go of the store."""
        self._stopping = True
        await self._tasks.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._pumping and not self.failed.done():
            self._pump_now()
        if not (self._engine.is_idle or self._engine.is_full or self.failed.done()):
            await asyncio.wait((self._drained, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self._writer is not None:
            await self._loop.run_in_executor(None, self._writer.close)
        self._readers.shutdown()
        self._store.close()

    async def _beat(self) -> None:
        """Send heartbeats where nothing else was sent; end streams whose peer is silent."""
        while True:
            await asyncio.sleep(1.0)
            self._lapsed()
            now = self._loop.time()
            for channels in (self.clients, self.executors_connected, self.nodes_connected):
                channels.beat(now)

    async def _maintain(self) -> None:
        """Let old sessions go, and the store do what can wait, a little at a time."""
        more = False
        trimmer = Trimmer()
        while True:
            # Beside commits less often.
            await asyncio.sleep(1.0 if not more else 0.01 if self._engine.is_idle else 0.1)
            if not more and not self._is_store_full:
                sessions = self._cluster.state.sessions.values()
                trimmer.note(sum(len(session.live) for session in sessions))
                for session in self._retention.leaving(sessions, int(self.clock() * 1000)):
                    self.post(events.DeleteSession(session.tenant, session.name, CallReply()))
            try:
                more = await self._read(self._store, self._store.maintain)
            except ResourceExhausted as error:  # a full disk: nothing is lost by waiting
                log.warning("store-maintenance-failed error=%s", error)
                more = False

    # --- events and effects ----------------------------------------------------------------------

    def lose(self, text: str = "another session manager may lead by now") -> None:
        """Do nothing more: what is remembered here may be out of date."""
        if not self.failed.done():
            log.warning("leadership-lost epoch=%d reason=%r", self.epoch, text)
            self.failed.set_exception(NotLeading(text))

    def _lapsed(self) -> bool:
        if self._leads is None or self._leads():
            return False
        self.lose()
        return True

    def post(self, event: object, pump: Callable[[], None] | None = None) -> None:
        """Apply one event and perform what follows from it; nothing if this one leads no more."""
        if self._leads is not None and self._lapsed():
            return
        try:
            self._perform(self._engine.handle(event, self.clock()))
            (pump or self._pump)()
        except Exception as error:  # the core's state can no longer be trusted: stop, restart
            self._fail(error)
            raise

    async def call(self, event_of: Callable[[Any], Any]) -> Any:
        """Post the event made for a reply handle; return the answer.

        Raises:
            FlameError: The core refused.
        """
        if self._lapsed():
            raise NotLeading("this session manager leads no more")
        reply = CallReply()
        self.post(event_of(reply))
        return await reply.future

    def _perform(self, todo: list[effects.Effect]) -> None:
        perform_of = self._perform_of
        for effect in todo:
            perform_of[type(effect)](effect)

    def _pump(self) -> None:
        """Start the next commit if none is under way, and set the timer."""
        group = self._engine.take_group()
        while group is not None:
            # A small group without a sync is in the log in some 30 us, less than a thread's
            # hand-over takes; anything else must not hold up the loop.
            if self._writer is not None and not (self._store.is_quick and group.is_small()):
                self._writer.commit(group)
                break
            try:
                self._store.commit(group.records, sync=group.sync)
            except ResourceExhausted as error:
                self._store_full(error)
                return
            self._store_had_room()
            self._perform(self._engine.committed(self.clock()))
            group = self._engine.take_group()
        due = self._cluster.next_deadline()
        if due is not None and due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_later(max(0.0, due - self.clock()), self._tick)

    def _pump_soon(self) -> None:
        """Pump when all calls that have arrived by now are applied: one commit for all of them."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pumping = False
        try:
            self._pump()
        except Exception as error:
            self._fail(error)
            raise

    def _tick(self) -> None:
        self._timer = None
        self._timer_due = float("inf")
        if not self._stopping:
            self.post(events.Tick())

    def _store_full(self, error: ResourceExhausted) -> None:
        """Refuse what was to be stored, or keep it, and try again in a while."""
        if not self._is_store_full:
            self._is_store_full = True
            log.error("store-full error=%s", error)
        self._perform(self._engine.store_full(error, self.clock()))
        if self._stopping:
            self._settle_stop()
        else:
            self._loop.call_later(FULL_STORE_RETRY, self._retry_store)
        self._pump()

    def _store_had_room(self) -> None:
        if self._is_store_full:
            self._is_store_full = False
            log.warning("store-has-room")

    def _retry_store(self) -> None:
        if self._stopping or self.failed.done():
            return
        try:
            self._perform(self._engine.retry(self.clock()))
            self._pump()
        except Exception as error:
            self._fail(error)
            raise

    def _on_committed(self) -> None:
        if self._leads is not None and self._lapsed():
            return
        try:
            self._store_had_room()
            self._perform(self._engine.committed(self.clock()))
            self._pump()
        except Exception as error:
            self._fail(error)
            raise
        if self._engine.is_idle:
            self._settle_stop()

    def _settle_stop(self) -> None:
        """Nothing that waits can be stored any more: let ``stop`` go on."""
        if self._stopping and not self._drained.done():
            self._drained.set_result(None)

    def _on_store_failed(self, error: Exception) -> None:
        if self._leads is not None and isinstance(error, Unavailable | WrongState):
            self.lose(str(error))  # another one leads, or the database is away
            return
        if not isinstance(error, ResourceExhausted):
            self._fail(error)
            return
        try:
            self._store_full(error)
        except Exception as bug:
            self._fail(bug)
            raise

    def _fail(self, error: Exception) -> None:
        log.critical("engine-failed error=%r", error, exc_info=error)
        if not self.failed.done():
            self.failed.set_exception(error)

    def _commit_volatile(self, records: Any) -> None:
        self._volatile.commit(records, sync=False)

    # --- the store, read -------------------------------------------------------------------------

    def _store_of(self, session: Session) -> Store:
        return self._volatile if session.is_volatile else self._store

    def _fetch(self, effect: effects.FetchOutcomes) -> None:
        session = self._cluster.state.sessions[effect.session]
        store = self._store_of(session)
        self._tasks.start(self._fetch_from(store, effect), "fetch-outcomes")

    async def _fetch_from(self, store: Store, effect: effects.FetchOutcomes) -> None:
        def read() -> events.OutcomesFetched:
            batch = store.outcomes(effect.session, effect.position, effect.max_bytes)
            kept = 0 if batch is not None else store.first_kept(effect.session)
            return events.OutcomesFetched(effect.attachment, batch, kept)

        self.post(await self._read(store, read))

    async def _read(self, store: Store, read: Callable[[], Any]) -> Any:
        if isinstance(store, MemoryStore):
            return read()
        return await self._loop.run_in_executor(self._readers, read)

    async def task(self, tenant: Tenant, session_name: str, task_id: TaskId) -> TaskView:
        """Return one task.

        Raises:
            NotFound: There is no such session or task, or it is no longer kept.
        """
        view = self._cluster.task(tenant, session_name, task_id)
        if view is not None:
            return view
        session = self._cluster.state.session_named(tenant, session_name)
        return await self._stored_view(session, task_id)

    async def _stored_view(self, session: Session, task_id: TaskId) -> TaskView:
        store = self._store_of(session)
        stored: StoredTask | None = await self._read(
            store, lambda: store.task(session.number, task_id)
        )
        if stored is None:
            raise NotFound(
                f"task {task_id} of session {session.name!r} is no longer kept: finished tasks of "
                "a session with durability 'memory' are dropped"
            )
        return _view_of(session, stored)

    async def tasks(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> list[TaskView]:
        """Return up to ``limit`` tasks above ``after``, by rising id.

        Raises:
            NotFound: There is no such session.
        """
        session = self._cluster.state.session_named(tenant, session_name)
        store = self._store_of(session)
        page: list[StoredTask] = await self._read(
            store, lambda: store.tasks(session.number, after, limit)
        )
        views: list[TaskView] = []
        for stored in page:
            live = None if stored.state.is_final else session.live.get(stored.task_id)
            views.append(
                task_view(session, live) if live is not None else _view_of(session, stored)
            )
        return views

    async def logs(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> tuple[list[TaskLog], bool]:
        """Return up to ``limit`` logs of tasks above ``after``, and whether older ones were dropped.

        Raises:
            NotFound: There is no such session.
        """
        session = self._cluster.state.session_named(tenant, session_name)
        store = self._store_of(session)
        found: tuple[list[TaskLog], bool] = await self._read(
            store, lambda: store.logs(session.number, after, limit)
        )
        return found

    def create(
        self, tenant: Tenant, session_name: str, payload: bytes | None, reply: Answerable
    ) -> None:
        """Make a task that is likely to be watched; the reply gets its view, or an error."""
        event = events.CreateTask(tenant, session_name, payload, reply, self._recent)
        self.post(event, pump=self._pump_soon)

    def watch(
        self, tenant: Tenant, session_name: str, task_id: TaskId, watcher: Watching
    ) -> Callable[[], None]:
        """Tell the watcher of a task's changes from Pending on, last of its final state.

        It may be told during this call. What is returned ends the watch before that.
        """
        session = self._cluster.state.names.get((tenant, session_name))
        if session is not None:
            view = self._recent.take(session.number, task_id)
            if view is not None:
                watcher.notify(view)
                return _nothing
        self.post(events.WatchTask(tenant, session_name, task_id, watcher))
        if session is None:
            return _nothing
        number = session.number
        return lambda: self.post(events.UnwatchTask(number, task_id, watcher))

    def _show_final(self, effect: effects.FinalTask) -> None:
        session = self._cluster.state.sessions[effect.session]
        self._tasks.start(
            self._show_stored(session, effect.task_id, cast(Watching, effect.watcher)),
            "watch-final",
        )

    async def _show_stored(self, session: Session, task_id: TaskId, watcher: Watching) -> None:
        try:
            watcher.notify(await self._stored_view(session, task_id))
        except FlameError as error:
            watcher.refuse(error)
        except Exception as error:  # a bug of ours must not leave its client waiting
            watcher.refuse(FlameError(f"a bug in Flame: {error!r}"))
            raise

    # --- the cluster, read -----------------------------------------------------------------------

    def applications(self, tenant: Tenant) -> list[ApplicationView]:
        """Return the tenant's applications."""
        return self._cluster.applications(tenant)

    def application(self, tenant: Tenant, name: str) -> ApplicationView:
        """Return one of them, or raise NotFound."""
        return self._cluster.application(tenant, name)

    def packages_in_use(self) -> set[tuple[Tenant, str]]:
        """Return whose packages, and which, applications refer to."""
        found = set()
        for put in self._cluster.state.applications.values():
            package = kept_package(put.spec.url)
            if package is not None:
                found.add((put.tenant, package[0]))
        return found

    def packages_of(self, tenant: Tenant, application: str) -> list[v1.NodePackage]:
        """Return how far nodes are with an application's package."""
        return self.package_states.of(tenant, application)

    def application_changed(self, tenant: Tenant, application: str) -> None:
        """It was registered or updated: nodes may try again what failed."""
        self.nodes_connected.retry_package(tenant, application)

    def sessions(self, tenant: Tenant) -> list[SessionView]:
        """Return the tenant's sessions, closed ones too."""
        return self._cluster.sessions(tenant)

    def session_name(self, tenant: Tenant, number: SessionNumber) -> str:
        """Return the name of the tenant's session of this number, or raise NotFound."""
        return self._cluster.session_name(tenant, number)

    def session(self, tenant: Tenant, name: str) -> SessionView:
        """Return one of them, or raise NotFound."""
        return self._cluster.session(tenant, name)

    def executors(self) -> list[ExecutorView]:
        """Return all executors."""
        return self._cluster.executors()

    def nodes(self) -> list[NodeView]:
        """Return all nodes."""
        return self._cluster.nodes()

    def node(self, name: NodeName) -> NodeView:
        """Return one of them, or raise NotFound."""
        return self._cluster.node(name)

    def tenants(self) -> list[TenantView]:
        """Return all tenants, parents first."""
        return self._cluster.tenants()

    def tokens(self) -> list[TokenView]:
        """Return all tokens, without what is secret."""
        return self._cluster.tokens()

    def token(self, token: TokenId) -> TokenSpec | None:
        """Return what a token opens, or None."""
        return self._cluster.token(token)

    def channel_handlers(self) -> list[Any]:
        """Return the generic rpc handlers of the three channels."""
        return [
            self.clients.handler(),
            self.executors_connected.handler(),
            self.nodes_connected.handler(),
        ]

    def framed_channels(self) -> dict[str, FramedChannel]:
        """Return those channels whose streams may do without gRPC."""
        return {
            frames.TASK_CHANNEL: self.clients,
            frames.EXECUTOR_CHANNEL: self.executors_connected,
        }


def _nothing() -> None:
    """Ends a watch that has ended."""


def _view_of(session: Session, stored: StoredTask) -> TaskView:
    return TaskView(
        session.number,
        session.name,
        stored.task_id,
        stored.state,
        stored.input,
        stored.output,
        stored.created_ms,
        stored.finished_ms,
        stored.failure,
        attempt_of(stored.failure, stored.attempts),
        stored.history,
        stored.notes,
    )
