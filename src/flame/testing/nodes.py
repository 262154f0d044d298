"""Simulated nodes and executor processes, as the channels' contract wants them to behave.

An executor keeps the truth about what it holds: tasks without a result and results that are not
confirmed as stored. A new stream starts with all of that; unconfirmed results follow under their old
sequence numbers.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from flame.core import effects, events
from flame.model.ids import ExecutorId, NodeName, SessionNumber, TaskId
from flame.model.resources import GIB, Resources
from flame.model.retries import kinds_of
from flame.model.specs import Failure
from flame.testing.manager import Manager
from flame.testing.service import expected, raised_by
from flame.testing.witness import Witness
from flame.testing.world import Stream, World

RENEWAL = 5.0
Item = tuple[TaskId, int, bytes | None]


class Node:
    """An executor manager: starts and stops processes, reports their ends until told to forget.

    Attributes:
        on_rebound: Called when a warm process begins to enter another session; tasks may be with it.
    """

    def __init__(
        self, world: World, manager: Manager, witness: Witness, name: str, slots: int
    ) -> None:
        self.world = world
        self.manager = manager
        self.witness = witness
        self.name = NodeName(name)
        self.processes: dict[tuple[str, int], Executor] = {}
        self.silent_until = 0.0
        self.on_rebound: Callable[[Executor], None] = lambda _: None
        self._capacity = Resources(1000 * slots, GIB * slots)
        self._exits: dict[tuple[str, int], events.ExecutorExited] = {}
        self._stream: Stream | None = None
        self._life = 0

    def start(self) -> None:
        """Become a new executor manager process."""
        self._life += 1
        self._exits.clear()
        self._instance = self._life.to_bytes(16, "big")
        self._connect(self._life)
        self.world.after(RENEWAL, self._renew, self._life)

    def die(self) -> None:
        """Lose the executor manager, and with it its executors (nothing outlives its owner)."""
        self.world.note("node dies", self.name)
        self._life += 1
        if self._stream is not None:
            self._stream.cut(at_once=self)
            self._stream = None
        for process in list(self.processes.values()):
            process.vanish()
        self.processes.clear()

    def disconnect(self) -> None:
        """Break its stream."""
        if self._stream is not None:
            self.world.note("node disconnected", self.name)
            self._stream.cut()

    def _connect(self, life: int) -> None:
        if life != self._life or self._stream is not None:
            return
        self._stream = Stream(self.world, self, self.manager)
        self.manager.accept(self._stream)
        known = list(dict.fromkeys((*self.processes, *self._exits)))
        self._stream.to_manager(
            events.NodeConnected(
                self.name, self._instance, self._capacity, [(ExecutorId(e), i) for e, i in known]
            )
        )
        for report in self._exits.values():
            self._stream.to_manager(report)

    def _renew(self, life: int) -> None:
        if life == self._life:
            if self._stream is not None and self.world.now >= self.silent_until:
                self._stream.to_manager(events.NodeRenewed(self.name))
            self.world.after(RENEWAL, self._renew, life)

    def ended(self, stream: Stream) -> None:
        """The stream is over: open another."""
        if stream is self._stream:
            self._stream = None
            self.world.after(self.world.random.uniform(0.01, 1.0), self._connect, self._life)

    def received(self, stream: Stream, message: Any) -> None:
        """Obey."""
        match message:
            case effects.StartExecutor():
                key = (str(message.executor), message.incarnation)
                if key not in self.processes and key not in self._exits:
                    self.processes[key] = Executor(self, key)
            case effects.StopExecutor():
                key = (str(message.executor), message.incarnation)
                self._exits.pop(key, None)
                process = self.processes.get(key)
                if process is not None:
                    process.stop(message.grace)

    def exited(self, process: "Executor", cause: str) -> None:
        """A process ended: report it, and keep the report."""
        self.processes.pop(process.key, None)
        running = process.running
        report = events.ExecutorExited(
            self.name,
            ExecutorId(process.key[0]),
            process.key[1],
            running[0] if running else TaskId(0),
            running[1] if running else 0,
            cause,
            "",
        )
        self._exits[process.key] = report
        if self._stream is not None:
            self._stream.to_manager(report)


class Executor:
    """One executor process."""

    def __init__(self, node: Node, key: tuple[str, int]) -> None:
        self.key = key
        self.running: Item | None = None
        self.alive = True
        self._node = node
        self._world = node.world
        self._witness = node.witness
        self._id = ExecutorId(key[0])
        self._incarnation = key[1]
        self._session = SessionNumber(0)
        self._bound = False
        self._binding = False
        self._leaving = False
        self._unstarted: deque[Item] = deque()
        self._results: dict[int, events.TasksFinished] = {}
        self._finished: list[tuple[Item, bytes | None, Failure | None]] = []
        self._sequence = 0
        self._window = 2
        self._takes_early = self._world.random.random() < 0.8  # others are of an older version
        self._running_since = 0.0
        self._stream: Stream | None = None
        self._away_until = 0.0
        self._world.after(self._world.random.uniform(0.01, 0.1), self._connect)

    # --- life ------------------------------------------------------------------------------------

    def kill(self, cause: str = "signal") -> None:
        """End the process at once; its node notices."""
        if self.alive:
            self._world.note("executor dies", self._id, cause)
            self.vanish()
            self._node.exited(self, cause)

    def vanish(self) -> None:
        """End the process together with its node."""
        self.alive = False
        if self._stream is not None:
            self._stream.cut(at_once=self)

    def stop(self, grace: float) -> None:
        """End it in a while."""
        dice = self._world.random
        takes = dice.uniform(0.0, 0.1 if dice.random() < 0.9 else grace)
        self._world.after(takes, self.kill, "stopped")

    def disconnect(self) -> None:
        """Break its stream."""
        if self._stream is not None:
            self._stream.cut()

    def stay_away(self, until: float) -> None:
        """Break its stream and open no other for a while; it goes on with what it has in hand."""
        self._away_until = until
        self.disconnect()

    def _connect(self) -> None:
        if not self.alive or self._stream is not None:
            return
        if self._world.now < self._away_until:
            self._world.at(self._away_until, self._connect)
            return
        self._pack()
        held = [
            (i, a)
            for r in self._results.values()
            for i, a in zip(r.task_ids, r.attempts, strict=True)
        ]
        if self.running is not None:
            held.append((self.running[0], self.running[1]))
        held.extend((i, a) for i, a, _ in self._unstarted)
        self._stream = Stream(self._world, self, self._node.manager)
        self._node.manager.accept(self._stream)
        self._stream.to_manager(
            events.ExecutorConnected(
                self._id,
                self._incarnation,
                self._bound,
                self._session if self._bound else SessionNumber(0),
                self._window,
                [i for i, _ in held],
                [a for _, a in held],
                self.running[0] if self.running is not None else TaskId(0),
                self._world.now - self._running_since if self.running is not None else 0.0,
                takes_early=self._takes_early,
            )
        )
        for results in self._results.values():
            self._stream.to_manager(results)

    def ended(self, stream: Stream) -> None:
        """The stream is over: open another."""
        if stream is self._stream:
            self._stream = None
            self._world.after(self._world.random.uniform(0.01, 1.0), self._connect)

    # --- obeying ---------------------------------------------------------------------------------

    def received(self, stream: Stream, message: Any) -> None:
        """Obey."""
        if not self.alive or stream is not self._stream:
            return
        match message:
            case effects.SendBind():
                self._on_bind(message)
            case effects.SendTasks():
                known = {i for i, _, _ in self._unstarted} | {
                    i for r in self._results.values() for i in r.task_ids
                }
                if self.running is not None:
                    known.add(self.running[0])
                attempts = message.attempts or [1] * len(message.task_ids)
                for item in zip(message.task_ids, attempts, message.inputs, strict=True):
                    if item[0] not in known:
                        self._unstarted.append(item)
                self._work()
            case effects.SendResultsStored():
                for sequence in [s for s in self._results if s <= message.sequence]:
                    del self._results[sequence]
                self._leave_if_done()
            case effects.SendTakeBack():
                self._take_back(message)
            case effects.SendCancel():
                if self.running is not None and self.running[0] in message.task_ids:
                    self._cancelled(self.running)
            case effects.SendUnbind():
                if self._bound or self._binding:
                    self._leaving = True
                    self._leave_if_done()
                else:
                    self._say(events.ExecutorUnbound(self._id, self._incarnation))
            case effects.RefuseExecutor():
                self.kill("refused")

    def _on_bind(self, message: effects.SendBind) -> None:
        if message.incarnation == self._incarnation and (self._binding or self._bound):
            if self._bound:
                self._say(events.BindDone(self._id, self._incarnation, 0, ""))
            return
        if message.incarnation != self.key[1]:
            self._node.on_rebound(self)
        self._incarnation = message.incarnation
        self._session = message.session
        self._binding, self._bound, self._leaving = True, False, False
        self._sequence = 0
        self._results.clear()
        self._witness.bound(self._id)
        dice = self._world.random
        takes = dice.uniform(0.0, 0.02 if dice.random() < 0.9 else 1.0)
        self._world.after(takes, self._entered, message.incarnation, message)

    def _entered(self, incarnation: int, message: effects.SendBind) -> None:
        if not self.alive or incarnation != self._incarnation or not self._binding:
            return
        self._binding = False
        broken = message.common_data == b"broken"
        flaky = message.common_data == b"flaky" and self._world.random.random() < 0.5
        self._bound = not (broken or flaky)
        code = 0 if self._bound else 12
        if code:
            self._unstarted.clear()
        self._say(events.BindDone(self._id, incarnation, code, "it cannot enter" if code else ""))
        if code and self._leaving:
            self._leaving = False
            self._say(events.ExecutorUnbound(self._id, incarnation))
        self._work()
        self._leave_if_done()

    def _take_back(self, message: effects.SendTakeBack) -> None:
        if message.task_ids:
            wanted = set(message.task_ids)
            taken = [i for i, _, _ in self._unstarted if i in wanted]
        else:
            taken = [i for i, _, _ in list(self._unstarted)[::-1][: message.count]]
        gone = set(taken)
        self._unstarted = deque(t for t in self._unstarted if t[0] not in gone)
        self._say(events.TasksTakenBack(self._id, self._incarnation, message.request, taken))
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        busy = self.running or self._unstarted or self._results or self._finished
        if self._leaving and self._bound and not busy:
            self._leaving = self._bound = False
            self._session = SessionNumber(0)
            self._say(events.ExecutorUnbound(self._id, self._incarnation))

    # --- working ---------------------------------------------------------------------------------

    def _work(self) -> None:
        if self.running is not None or not self._unstarted or not self._bound or not self.alive:
            return
        item = self._unstarted.popleft()
        self.running = item
        task_id, attempt, value = item
        self._world.note("run", self._session, task_id, attempt, self._id, self._incarnation)
        self._witness.started(self._session, task_id, value, attempt, self._incarnation)
        self._running_since = self._world.now
        kind = (value or b"ok:").split(b":")[0]
        dice = self._world.random
        if kind == b"stuck":
            self._world.after(0.01, self._report_start, item)
            return
        length = dice.uniform(0.05, 1.5) if kind == b"slow" else dice.uniform(0.0001, 0.004)
        if kind == b"poison":
            self._world.after(length, self._poisoned, item)
            return
        if length > 0.01:
            self._world.after(0.01, self._report_start, item)
        self._world.after(length, self._done, item)

    def _poisoned(self, item: Item) -> None:
        if self.alive and self.running is item:
            self.kill("segmentation fault")

    def _cancelled(self, item: Item) -> None:
        """The service learns that nobody wants its result; some never look."""
        if self._world.random.random() < 0.5:
            self._world.after(self._world.random.uniform(0.0, 0.3), self._done, item)

    def _report_start(self, item: Item) -> None:
        if self.alive and self.running is item:
            self._say(events.TaskStarted(self._id, self._incarnation, item[0], item[1]))

    def _done(self, item: Item) -> None:
        if not self.alive or self.running is not item:
            return
        made = expected(item[2])
        self.running = None
        if isinstance(made, tuple):
            self._finished.append((item, None, made))
        else:
            self._finished.append((item, made, None))
        if len(self._finished) == 1:
            self._world.after(self._world.random.uniform(0.0, 0.002), self._flush)
        wanted = self._world.random.choice((0, 1, 2, 4, 8))
        if self._world.random.random() < 0.05 and wanted != self._window:
            self._announce(wanted)
            if wanted == 0:  # too much unstored; a moment later there is room again
                self._world.after(0.05, self._announce, 2)
        self._work()

    def _announce(self, window: int) -> None:
        self._window = window
        self._say(events.WindowChanged(self._id, self._incarnation, window))

    def _flush(self) -> None:
        if self.alive:
            results = self._pack()
            if results is not None:
                self._say(results)

    def _pack(self) -> events.TasksFinished | None:
        if not self._finished:
            return None
        self._sequence += 1
        finished, self._finished = self._finished, []
        results = events.TasksFinished(
            self._id,
            self._incarnation,
            self._sequence,
            [item[0] for item, _, _ in finished],
            [output for _, output, _ in finished],
            {i: f for i, (_, _, f) in enumerate(finished) if f is not None},
            [item[1] for item, _, _ in finished],
            {
                i: kinds_of(error)
                for i, (item, _, _) in enumerate(finished)
                if (error := raised_by(item[2])) is not None
            },
        )
        self._results[self._sequence] = results
        self._witness.results_sent(self._id, self._sequence, self._session, results.task_ids)
        return results

    def _say(self, message: object) -> None:
        if self._stream is not None:
            self._stream.to_manager(message)
