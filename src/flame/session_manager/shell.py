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
from typing import Any

from flame.core import effects, events
from flame.core.cluster import Cluster
from flame.core.state import Limits
from flame.engine.engine import Engine
from flame.model.errors import (
    NotLeading,
    ResourceExhausted,
    Unavailable,
    WrongState,
)
from flame.model.tenants import TenantSpec
from flame.runtime.memory import Trimmer
from flame.runtime.tasks import Tasks
from flame.scheduling.policies import Policies
from flame.session_manager.calls import Calls
from flame.session_manager.executor_channel import ExecutorChannels
from flame.session_manager.framed_port import FramedChannel
from flame.session_manager.node_channel import NodeChannels
from flame.session_manager.outputs import Outputs
from flame.session_manager.package_states import PackageStates
from flame.session_manager.replies import CallReply
from flame.session_manager.retention import Retention
from flame.session_manager.store_reader import StoreReader
from flame.session_manager.stream import HEARTBEAT
from flame.session_manager.task_channel import TaskChannels
from flame.session_manager.writer import StoreWriter
from flame.storage.memory import MemoryStore
from flame.storage.store import Store
from flame.wire import frames

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
        self._reader = StoreReader(self._store, self._volatile)
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
        self.calls = Calls(self, self._cluster, self._reader, self._tasks)
        self.clients = TaskChannels(self)
        self.executors_connected = ExecutorChannels(self)
        self.nodes_connected = NodeChannels(self, token)
        #: What executors write.
        self.outputs = Outputs(
            self._cluster.state, self.nodes_connected.put, self.nodes_connected.names
        )
        self._perform_of: dict[type, Callable[[Any], None]] = {
            effects.FetchOutcomes: self._fetch,
            **self.calls.performs(),
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
        recovered = await self._reader.run(self._store.load)
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
        self._reader.close()
        self._store.close()

    async def _beat(self) -> None:
        """Send heartbeats where nothing else was sent; end streams whose peer is silent."""
        while True:
            await asyncio.sleep(1.0)
            self.lapsed()
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
                more = await self._reader.read(self._store, self._store.maintain)
            except ResourceExhausted as error:  # a full disk: nothing is lost by waiting
                log.warning("store-maintenance-failed error=%s", error)
                more = False

    # --- events and effects ----------------------------------------------------------------------

    def lose(self, text: str = "another session manager may lead by now") -> None:
        """Do nothing more: what is remembered here may be out of date."""
        if not self.failed.done():
            log.warning("leadership-lost epoch=%d reason=%r", self.epoch, text)
            self.failed.set_exception(NotLeading(text))

    def lapsed(self) -> bool:
        """Whether this session manager leads no more; it then does nothing more."""
        if self._leads is None or self._leads():
            return False
        self.lose()
        return True

    def post(self, event: object, pump: Callable[[], None] | None = None) -> None:
        """Apply one event and perform what follows from it; nothing if this one leads no more."""
        if self._leads is not None and self.lapsed():
            return
        try:
            self._perform(self._engine.handle(event, self.clock()))
            (pump or self._pump)()
        except Exception as error:  # the core's state can no longer be trusted: stop, restart
            self._fail(error)
            raise

    def _perform(self, todo: list[effects.Effect]) -> None:
        perform_of = self._perform_of
        for effect in todo:
            perform_of[type(effect)](effect)

    def _pump(self) -> None:
        """Start the next commit if none is under way, and set the timer."""
        group = self._engine.take_group()
        while group is not None:
            # A small group without a sync is in the log in 30 to 100 us, less than a thread's
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

    def pump_soon(self) -> None:
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
        if self._leads is not None and self.lapsed():
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

    # --- channels --------------------------------------------------------------------------------

    def _fetch(self, effect: effects.FetchOutcomes) -> None:
        session = self._cluster.state.sessions[effect.session]
        store = self._reader.store_of(session)
        self._tasks.start(self._fetch_from(store, effect), "fetch-outcomes")

    async def _fetch_from(self, store: Store, effect: effects.FetchOutcomes) -> None:
        def read() -> events.OutcomesFetched:
            batch = store.outcomes(effect.session, effect.position, effect.max_bytes)
            kept = 0 if batch is not None else store.first_kept(effect.session)
            return events.OutcomesFetched(effect.attachment, batch, kept)

        try:
            fetched = await self._reader.read(store, read)
        except Exception as error:
            log.exception("outcomes-unread session=%d position=%d", effect.session, effect.position)
            self.clients.cut_off(effect.attachment, error)
        else:
            self.post(fetched)

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
