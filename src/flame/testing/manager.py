"""A session manager in virtual time: the real engine, core, policy and store behind simulated streams.

It does what the shell does, no more: events in, effects performed, one group at a time on its way to
the store. A crash drops everything but the store.
"""

from collections.abc import Callable, Sequence
from math import inf, nextafter
from typing import Any

from flame.core import effects, events
from flame.core.cluster import Cluster
from flame.core.effects import TaskView
from flame.core.records import Record
from flame.core.state import Limits
from flame.engine.engine import Engine, Group
from flame.model.errors import FlameError, ResourceExhausted, Unavailable
from flame.model.ids import DEFAULT_TENANT, SessionNumber, TaskId
from flame.scheduling.policies import Policies
from flame.storage.memory import MemoryStore
from flame.storage.store import Store
from flame.testing.witness import Witness
from flame.testing.world import Stream, World

#: Seconds that a running task gets when its executor is owed to another: short, so that some
#: tasks are thrown away.
GRACE = 0.1
#: Seconds from a commit that found the store full to the next try.
FULL_STORE_RETRY = 1.0

#: Makes the engine of one life of the manager; planted bugs come in here.
EngineOf = Callable[[Cluster, Callable[[Sequence[Record]], None]], Engine]


class Call:
    """One unary call's reply handle. An answer crosses the network; a crash loses it."""

    def __init__(self, manager: "Manager", done: Callable[[Any], None]) -> None:
        self._manager = manager
        self._done = done
        self._over = False
        manager.calls[self] = None

    def finish(self, answer: Any) -> None:
        """Let the caller have a view, None, or the error."""
        if not self._over:
            self._over = True
            self._manager.calls.pop(self, None)
            world = self._manager.world
            world.after(world.latency(), self._done, answer)


class Watch:
    """A watcher's handle: the views it is sent, in order, until the final one."""

    def __init__(self, manager: "Manager", seen: Callable[[TaskView | FlameError], None]) -> None:
        self._manager = manager
        self._seen = seen
        self._free_at = 0.0

    def finish(self, view: TaskView | FlameError) -> None:
        """Send the watcher a view, behind those that are on their way."""
        world = self._manager.world
        self._free_at = max(self._free_at, world.now + world.latency())
        world.at(self._free_at, self._seen, view)


class Manager:
    """The one session manager of a simulation.

    Args:
        open_store: Opens what survives crashes; called at every start.
    """

    def __init__(
        self,
        world: World,
        open_store: Callable[[], Store],
        witness: Witness,
        limits: Limits,
        engine_of: EngineOf = Engine,
    ) -> None:
        self.world = world
        self.calls: dict[Call, None] = {}
        self.up = False
        self.is_full = False  # its disk
        self.ahead = 0.0  # of the world's time
        self.starts = 0
        self.cluster: Cluster
        self._open_store = open_store
        self._store: Store
        self._witness = witness
        self._limits = limits
        self._engine_of = engine_of
        self._engine: Engine
        self._volatile = MemoryStore()
        self._life = 0
        self._ids = 0
        self._attachments = 0
        self._clients: dict[int, Stream] = {}
        self._attached: dict[Stream, int] = {}
        self._executors: dict[str, tuple[Stream, int]] = {}
        self._nodes: dict[str, tuple[Stream, bytes]] = {}
        self._streams: dict[Stream, None] = {}
        self._watches: dict[Watch, tuple[SessionNumber, TaskId]] = {}
        self._timer = float("inf")

    @property
    def now(self) -> float:
        """What its clock says."""
        return self.world.now + self.ahead

    def jump(self, seconds: float) -> None:
        """Have its clock go forward at once; it never goes back. What is due by now is done."""
        self.ahead += seconds
        if self.up:
            self.post(events.Tick())

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the store and serve."""
        self.is_full = False  # it could not have started
        self._life += 1
        self.starts += 1
        self.up = True
        self._timer = float("inf")
        self._volatile = MemoryStore()
        self._volatile.load()
        self._witness.restarted()
        self.cluster = Cluster(Policies(grace=GRACE), self._new_id, self._limits)
        self._engine = self._engine_of(self.cluster, self._commit_volatile)
        self.world.note("manager starts", self.starts)
        self._store = self._open_store()
        recovered = self._store.load()
        self._after(self._engine.restore(recovered, self.now))

    def crash(self) -> None:
        """Lose everything but the store. A commit under way may or may not have happened."""
        self.world.note("manager dies")
        self._life += 1
        self.up = False
        self._store.close()
        for stream in list(self._streams):
            stream.cut(at_once=self)
        for table in (self._streams, self._clients, self._attached, self._executors, self._nodes):
            table.clear()
        self._watches.clear()
        for call in list(self.calls):
            call.finish(Unavailable("the session manager went away"))

    def _new_id(self) -> str:
        self._ids += 1
        return f"e{self._ids}"

    # --- events and effects ----------------------------------------------------------------------

    def post(self, event: object) -> None:
        """Apply one event, perform what follows, check everything."""
        self._after(self._engine.handle(event, self.now))

    def _after(self, todo: list[effects.Effect]) -> None:
        self.cluster.check()
        for effect in todo:
            self._perform(effect)
        group = self._engine.take_group()
        if group is not None:
            world = self.world
            world.after(world.random.uniform(0.0, 0.003), self._commit, self._life, group)
        due = self.cluster.next_deadline()
        if due is not None and due < self._timer:
            self._timer = due
            when = max(due - self.ahead, self.world.now)
            while when + self.ahead < due:
                when = nextafter(when, inf)  # a sum of two clocks is rounded
            self.world.at(when, self._tick, self._life)

    def _tick(self, life: int) -> None:
        if life == self._life:
            self._timer = float("inf")
            self.post(events.Tick())

    def _commit(self, life: int, group: Group) -> None:
        # A crash may come before this (nothing is stored) or after it (nobody is told).
        if life == self._life:
            try:
                if self.is_full:
                    raise ResourceExhausted("the simulated disk is full")
                self._store.commit(group.records, sync=group.sync)
            except ResourceExhausted as error:
                self._after(self._engine.store_full(error, self.now))
                self.world.after(FULL_STORE_RETRY, self._retry, life)
                return
            self._witness.committed(group.records)
            self.world.after(self.world.random.uniform(0.0, 0.002), self._committed, life)

    def _retry(self, life: int) -> None:
        if life == self._life:
            self._after(self._engine.retry(self.now))

    def _committed(self, life: int) -> None:
        if life == self._life:
            self._after(self._engine.committed(self.now))

    def _commit_volatile(self, records: Sequence[Record]) -> None:
        self._volatile.commit(records, sync=False)
        self._witness.committed(records, volatile=True)

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Done(reply):
                reply.finish(None)  # type: ignore[attr-defined]
            case effects.Refuse(reply, error):
                reply.finish(error)  # type: ignore[attr-defined]
            case effects.Answer(reply, view) | effects.NotifyTask(reply, view):
                reply.finish(view)  # type: ignore[attr-defined]
            case effects.FinalTask(watcher, session, task_id):
                watcher.finish(self._view(session, task_id))  # type: ignore[attr-defined]
            case effects.FetchOutcomes():
                self.world.after(self.world.latency(), self._fetch, self._life, effect)
            case (
                effects.Accepted()
                | effects.SubmitRefused()
                | effects.GrantSubmits()
                | effects.SendOutcomes()
                | effects.SendSessionClosed()
            ):
                client = self._clients.get(effect.attachment)
                if client is not None:
                    client.to_peer(effect)
            case effects.StartExecutor() | effects.StopExecutor():
                node = self._nodes.get(effect.node)
                if node is not None:
                    node[0].to_peer(effect)
            case effects.RefuseNode(name, instance):
                for stream in list(self._streams):
                    if getattr(stream, "node", None) == (name, instance):
                        self._forget(stream)
                        stream.to_peer(effect)
                        stream.close()
            case effects.RefuseExecutor(executor, incarnation):
                known = self._executors.get(executor)
                if known is not None and known[1] == incarnation:
                    self._forget(known[0])
                    known[0].to_peer(effect)
                    known[0].close()
            case _:
                known = self._executors.get(effect.executor)  # type: ignore[union-attr]
                if known is not None:
                    if isinstance(effect, effects.SendBind):
                        self._executors[effect.executor] = (known[0], effect.incarnation)
                    elif isinstance(effect, effects.SendResultsStored):
                        self._witness.results_confirmed(effect.executor, effect.sequence)
                    known[0].to_peer(effect)

    def _fetch(self, life: int, effect: effects.FetchOutcomes) -> None:
        if life == self._life:
            store = self._store_of(effect.session)
            batch = store.outcomes(effect.session, effect.position, effect.max_bytes)
            kept = 0 if batch is not None else store.first_kept(effect.session)
            self.post(events.OutcomesFetched(effect.attachment, batch, kept))

    def _store_of(self, number: SessionNumber) -> Store:
        session = self.cluster.state.sessions.get(number)
        return self._volatile if session is not None and session.is_volatile else self._store

    def _view(self, number: SessionNumber, task_id: TaskId) -> Any:
        stored = self._store_of(number).task(number, task_id)
        return stored if stored is not None else Unavailable("no longer kept")

    # --- calls -----------------------------------------------------------------------------------

    def call(self, event_of: Callable[[Any], object], done: Callable[[Any], None]) -> None:
        """Make a unary call: the event travels here, the answer back; Unavailable if it is lost."""
        self.world.after(self.world.latency(), self._called, event_of, done)

    def _called(self, event_of: Callable[[Any], object], done: Callable[[Any], None]) -> None:
        if self.up:
            self.post(event_of(Call(self, done)))
        else:
            done(Unavailable("nobody answers"))

    def watch(self, name: str, task_id: TaskId, seen: Callable[[Any], None]) -> None:
        """Watch a task; a crash ends the watch with Unavailable."""
        if not self.up:
            self.world.after(self.world.latency(), seen, Unavailable("nobody answers"))
            return
        watch = Watch(self, seen)
        self.post(events.WatchTask(DEFAULT_TENANT, name, task_id, watch))

    # --- streams ---------------------------------------------------------------------------------

    def accept(self, stream: Stream) -> None:
        """A peer opened a stream."""
        self._streams[stream] = None
        if not self.up:
            stream.cut(at_once=self)

    def received(self, stream: Stream, message: Any) -> None:
        """Turn a peer's message into an event. Clients do not know their attachment's number."""
        match message:
            case events.Attach():
                self._attachments += 1
                message.attachment = self._attachments
                message.reply = _AttachReply(self, stream)
                self._clients[message.attachment] = stream
                self._attached[stream] = message.attachment
            case events.SubmitTasks() | events.GrantOutcomes() | events.CancelTasks():
                if stream not in self._attached:
                    return
                message.attachment = self._attached[stream]
                if isinstance(message, events.CancelTasks):
                    message.reply = _Nobody()
            case events.NodeConnected():
                stream.node = (message.node, message.instance)  # type: ignore[attr-defined]
                older = self._nodes.get(message.node)
                if older is None or older[1] == message.instance:
                    if older is not None:
                        self._drop(older[0])
                    self._nodes[message.node] = (stream, message.instance)
            case events.ExecutorConnected():
                known = self._executors.get(message.executor)
                if known is not None:
                    self._drop(known[0])
                self._executors[message.executor] = (stream, message.incarnation)
        self.post(message)

    def ended(self, stream: Stream) -> None:
        """A stream is over: say so to the core, unless a newer one has taken its place."""
        if not self.up:
            return
        self._streams.pop(stream, None)
        attachment = self._attached.pop(stream, None)
        if attachment is not None:
            del self._clients[attachment]
            self.post(events.Detach(attachment))
        for name, (known, instance) in list(self._nodes.items()):
            if known is stream:
                del self._nodes[name]
                self.post(events.NodeDisconnected(name, instance))  # type: ignore[arg-type]
        for executor, (known, incarnation) in list(self._executors.items()):
            if known is stream:
                del self._executors[executor]
                self.post(events.ExecutorDisconnected(executor, incarnation))  # type: ignore[arg-type]

    def _drop(self, stream: Stream) -> None:
        """A newer stream of the same peer is here: nothing of the older one counts any more."""
        self._streams.pop(stream, None)
        stream.cut(at_once=self)

    def _forget(self, stream: Stream) -> None:
        self.world.after(0.0, self.ended, stream)


class _AttachReply:
    def __init__(self, manager: Manager, stream: Stream) -> None:
        self._manager = manager
        self._stream = stream

    def finish(self, answer: Any) -> None:
        if isinstance(answer, FlameError):
            attachment = self._manager._attached.pop(self._stream, None)
            if attachment is not None:
                del self._manager._clients[attachment]
        self._stream.to_peer(answer)


class _Nobody:
    def finish(self, answer: Any) -> None:
        """Cancels are sent and forgotten; what counts is the outcome."""
