"""One simulation of a trace: the production engine, core and scheduler on virtual time.

    arrivals ──▶ Run ──events──▶ Engine(Cluster) ──effects──▶ Run ──▶ processes

Messages take no time, commits neither; what takes time is to start executors and to run tasks. Nodes
do not fail. So what is seen is what the scheduler decides, and equal seeds give equal histories.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

from flame.core import effects, events
from flame.core.cluster import Cluster
from flame.core.effects import AttachedView, SessionView
from flame.core.reports import report
from flame.core.state import Limits
from flame.engine.engine import Engine
from flame.model.errors import FlameError, InvalidRequest
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.scheduling.deserved import fairness
from flame.testing.capacity.arrivals import Arrival, arrivals
from flame.testing.capacity.measures import Measures, Sample
from flame.testing.capacity.processes import Process
from flame.testing.capacity.sessions import Session, arrive
from flame.testing.capacity.trace import DONE, NEVER, NodeGroup, Trace
from flame.testing.witness import Broken
from flame.testing.world import START, World

#: Seconds between two renewals of a node: its lease must not end.
RENEW = 10.0
#: Seconds of virtual time in which nothing moves before a simulation without ``until`` ends.
QUIET = 120.0
MOST_SESSIONS = 1_000_000
MOST_TASKS = 50_000_000

#: Told the time now and then: seconds from the beginning, and ``until``, if there is one.
Progress = Callable[[float, float | None], None]


class Run:
    """Plays a trace once.

    Attributes:
        measures: What was written down.
        ended: When it was over, in seconds from the beginning.
        events: How many the cluster was told of.
    """

    def __init__(
        self,
        trace: Trace,
        seed: int,
        until: float | None,
        progress: Progress | None = None,
    ) -> None:
        self.trace, self.seed, self.until = trace, seed, until
        spec = trace.cluster
        self.world = World(seed)
        self.measures = Measures()
        self.events = 0
        self.ended = 0.0
        self._ids = count(1)
        self.cluster = Cluster(
            spec.made_policies(),
            lambda: f"e{next(self._ids):08}",
            Limits(
                memory_only=True,
                delay_release=spec.delay_release,
                standby=spec.standby,
                preemption_rate=spec.budget,
                preemption_burst=spec.burst,
            ),
            tenants=spec.tenants,
        )
        self._engine = Engine(self.cluster, lambda records: None)
        self._progress = progress
        self._pending: deque[object] = deque()
        self._posting = False
        self._timer = float("inf")
        self._processes: dict[ExecutorId, Process] = {}
        self._free: dict[NodeName, Resources] = {}
        self._sessions: dict[SessionNumber, Session] = {}
        self._attachments = count(1)
        self._arrivals: Iterator[Arrival] = iter(())
        self._expected = 1  # closes and arrivals that are still to come
        self._open = 0  # sessions that arrived and have not ended
        self._tasks = 0
        self._step = until / 240 if until is not None else 1.0
        self._moved = 0.0  # when something last began, ended or arrived

    def run(self) -> None:
        """Play it to its end."""
        world = self.world
        self.post(
            events.RegisterApplication(
                DEFAULT_TENANT,
                "simulated",
                ApplicationSpec(reusable=self.trace.cluster.reusable),
                _ignore,
            )
        )
        for group in self.trace.cluster.nodes:
            world.at(START + group.joins, self._join, group)
        self._arrivals = arrivals(self.trace, self.seed, self.until)
        self._next_arrival()
        world.after(0.0, self._sample)
        world.after(RENEW, self._renew)
        world.run(START + self.until if self.until is not None else float("inf"), self._is_over)
        self.ended = self.until if self.until is not None else self.now
        self._conclude()

    @property
    def now(self) -> float:
        """Seconds from the beginning."""
        return self.world.now - START

    # --- events in, effects out --------------------------------------------------------------------

    def post(self, event: object) -> None:
        """Tell the cluster, and do what follows from it, in order."""
        self._pending.append(event)
        if self._posting:
            return
        self._posting = True
        engine, pending, now = self._engine, self._pending, self.world.now
        while pending:
            self.events += 1
            for effect in engine.handle(pending.popleft(), now):
                self._perform(effect)
            while engine.take_group() is not None:
                for effect in engine.committed(now):
                    self._perform(effect)
        self._posting = False
        self.look()
        due = self.cluster.next_deadline()
        if due is not None and due < self._timer:
            self._timer = due
            self.world.at(max(due, now), self._tick, due)

    def look(self) -> None:
        """Everything that follows from an event has happened. Tests look around here."""

    def _tick(self, due: float) -> None:
        if due == self._timer:  # else an earlier one was set in the meantime, and this one again
            self._timer = float("inf")
            self.post(events.Tick())

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.SendTasks():
                self._processes[effect.executor].hand(effect)
            case effects.StartExecutor():
                self._start(effect)
            case effects.StopExecutor():
                process = self._processes.get(effect.executor)
                if process is not None:
                    process.stop()
            case effects.SendBind():
                session = self._sessions[effect.session]
                self._processes[effect.executor].bind(effect, session)
            case effects.SendTakeBack():
                self._processes[effect.executor].take_back(effect)
            case effects.SendUnbind():
                self._processes[effect.executor].unbind()
            case effects.SendCancel():
                self._processes[effect.executor].cancel(effect)
            case effects.Answer(reply, view):
                reply(view)  # type: ignore[operator]
            case effects.Refuse(reply, error):
                reply(error)  # type: ignore[operator]
            case effects.Done(reply):
                reply(None)  # type: ignore[operator]
            case effects.SubmitRefused() | effects.RefuseExecutor() | effects.RefuseNode():
                raise Broken(f"at {self.now:g} s the cluster answered {effect.error}")
            case _:
                pass  # for clients, who do not care here

    # --- nodes -------------------------------------------------------------------------------------

    def _join(self, group: NodeGroup) -> None:
        width = len(str(group.count))
        for index in range(1, group.count + 1):
            name = NodeName(f"{group.name}-{index:0{width}d}")
            self._free[name] = group.resources
            self.post(events.NodeConnected(name, b"", group.resources, (), labels=group.labels))
            if group.leaves is not None:
                self.world.at(START + group.leaves, self._leave, name, group.resources)
        self.measures.capacity.change(self.now, group.resources * group.count)
        self._moved = self.now

    def _leave(self, name: NodeName, resources: Resources) -> None:
        for process in [p for p in self._processes.values() if p.node == name]:
            process.stop()
        del self._free[name]
        self.measures.capacity.change(self.now, resources, -1)
        self.post(events.NodeLeft(name))

    def _renew(self) -> None:
        for name in list(self._free):
            self.post(events.NodeRenewed(name))
        self.world.after(RENEW, self._renew)

    # --- executors ---------------------------------------------------------------------------------

    def _start(self, order: effects.StartExecutor) -> None:
        process = Process(self, order)
        self._processes[process.executor] = process
        free = self._free[process.node] - process.resources
        if any(amount < 0 for _, amount in free.named()):
            raise Broken(f"at {self.now:g} s node {process.node} is over its capacity: {free}")
        self._free[process.node] = free
        self.measures.allocated.change(self.now, process.resources)
        self.world.after(self.trace.cluster.start, process.started)

    def gone(self, process: Process) -> None:
        """See :class:`~flame.testing.capacity.processes.Place`."""
        del self._processes[process.executor]
        self._free[process.node] = self._free[process.node] + process.resources
        self.measures.allocated.change(self.now, process.resources, -1)
        self._count_time(process)

    def _count_time(self, process: Process) -> None:
        seconds = self.measures.executor_seconds
        seconds[process.tenant] += self.world.now - process.since

    def is_bound(self, session: Session, change: int) -> None:
        """See :class:`~flame.testing.capacity.processes.Place`."""
        session.bound += change
        if session.whole is None and session.bound >= session.load.batch_size:
            session.whole = self.now

    def ran(self, session: Session, begins: list[float], ends: float) -> None:
        """See :class:`~flame.testing.capacity.processes.Place`."""
        measures, load = self.measures, session.load
        submitted = session.arrived + START
        measures.waits[(load.tenant, load.priority)].extend([at - submitted for at in begins])
        measures.busy.add(load.resources, ends - begins[0])
        measures.finished += len(begins)
        if session.began is None or begins[0] - START < session.began:
            session.began = begins[0] - START
        self._moved = measures.last_finished = session.last_finished = self.now
        session.finished += len(begins)
        if session.finished == session.tasks and load.closes == DONE:
            self._close(session)

    def lost(self, session: Session, tasks: int, seconds: float) -> None:
        """See :class:`~flame.testing.capacity.processes.Place`."""
        if not session.closing:
            self.measures.tasks_thrown_away += tasks
            self.measures.seconds_thrown_away += seconds
        self.measures.busy.add(session.load.resources, seconds)

    # --- sessions ----------------------------------------------------------------------------------

    def _next_arrival(self) -> None:
        """Put the next arrival on the calendar."""
        arrival = next(self._arrivals, None)
        if arrival is None:
            self._expected -= 1
        else:
            self.world.at(START + arrival[0], self._arrive, arrival)

    def _arrive(self, arrival: Arrival) -> None:
        at, _, load = arrival
        sessions = self.measures.sessions
        session = arrive(len(sessions) + 1, load, at, self.seed)
        sessions.append(session)
        self._tasks += session.tasks
        if len(sessions) > MOST_SESSIONS or self._tasks > MOST_TASKS:
            raise InvalidRequest(
                f"until {at:g} s {len(sessions):,} sessions with {self._tasks:,} tasks arrive; at "
                f"most {MOST_SESSIONS:,} with {MOST_TASKS:,} can be simulated: shorten until, or "
                "let less arrive"
            )
        self._moved = at
        self._open += 1
        self.post(
            events.CreateSession(
                load.tenant, session.name, session.spec, lambda view: self._created(session, view)
            )
        )
        self._next_arrival()

    def _created(self, session: Session, view: SessionView | FlameError) -> None:
        if isinstance(view, FlameError):
            session.refused = str(view)
            session.ended = self.now
            self._open -= 1
            return
        session.number = view.number
        self._sessions[view.number] = session
        load = session.load
        if session.tasks:
            attachment = next(self._attachments)
            submitter = session.index.to_bytes(16, "big")
            self.post(
                events.Attach(
                    attachment, load.tenant, session.name, submitter, False, 0, 0, _attached
                )
            )
            self.post(events.SubmitTasks(attachment, 0, [None] * session.tasks))
            self.post(events.Detach(attachment))
        if load.closes == NEVER:
            return
        if load.closes == DONE:
            if not session.tasks:
                self._close(session)
            return
        self._expected += 1
        self.world.at(START + session.arrived + float(load.closes), self._time_is_up, session)

    def _time_is_up(self, session: Session) -> None:
        self._expected -= 1
        self._close(session)

    def _close(self, session: Session) -> None:
        if session.closing:
            return
        session.closing = True
        self.post(
            events.CloseSession(
                session.load.tenant, session.name, True, lambda view: self._closed(session, view)
            )
        )

    def _closed(self, session: Session, view: SessionView | FlameError) -> None:
        if isinstance(view, FlameError):
            raise Broken(f"at {self.now:g} s session {session.name} is not closed: {view}")
        session.ended = self._moved = self.now
        self._open -= 1
        self.post(events.DeleteSession(session.load.tenant, session.name, _ignore))

    # --- looking on --------------------------------------------------------------------------------

    def _sample(self) -> None:
        state = self.cluster.state
        report(state, self.world.now)
        ledger = state.ledger
        tenants, _ = fairness(ledger)
        mine = {
            name: share
            for name, share in tenants.items()
            if ledger.branches[name].leaves or share.got
        }
        measures = self.measures
        waiting = sum(
            s.began is None and s.ended is None and s.bound == 0 for s in measures.sessions
        )
        sample = Sample(
            self.now,
            measures.capacity.now,
            measures.allocated.now,
            len(self._processes),
            waiting,
            mine,
        )
        if measures.sample(sample) and self.until is None:
            self._step *= 2
        if self._progress is not None:
            self._progress(self.now, self.until)
        self.world.after(self._step, self._sample)

    def _is_over(self) -> bool:
        if self.until is not None or self._expected:
            return False
        if not self._open:
            return True
        quiet = QUIET + self.trace.cluster.delay_release + self.trace.cluster.start
        if self.now - self._moved <= quiet:
            return False
        return not any(process.items for process in self._processes.values())

    def _conclude(self) -> None:
        measures = self.measures
        end = START + self.ended
        for process in self._processes.values():
            self._count_time(process)
            if process.items and process.session is not None:
                measures.busy.add(process.resources, max(0.0, end - process.began))
        measures.capacity.advance(self.ended)
        measures.allocated.advance(self.ended)


def _ignore(view: object) -> None:
    """Nobody waits for this answer."""


def _attached(view: AttachedView | FlameError) -> None:
    if isinstance(view, FlameError):
        raise Broken(f"a session cannot be attached to: {view}")
