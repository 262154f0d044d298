"""A whole cluster in virtual time, from a seed: clients, nodes, executors, faults, and a checker.

    python -m flame.testing.simulation SEED            replays one run and prints its story
    python -m flame.testing.simulation SEED --machine  with the SQLite store on a simulated machine

The engine, core, policy and store are the real ones; everything around them is simulated: streams
that delay and break, executors that die in a task, nodes that fall silent or are lost, a manager that
is killed and starts again; with a :class:`~flame.testing.machine.Machine` also losses of power and jumps
of the clock. Within a stream messages neither overtake each other nor come twice, as on TCP; streams
overtake each other, and whoever opens a new one sends again what was not confirmed. After every event ``Cluster.check`` derives all indexes again, and the
:class:`~flame.testing.witness.Witness` compares what was promised with what happened. Equal seeds
give equal histories.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random

from flame.core import events
from flame.core.state import Limits
from flame.engine.engine import Engine
from flame.model.errors import ResourceExhausted, Unavailable
from flame.model.ids import DEFAULT_TENANT
from flame.model.specs import ApplicationSpec, Durability, SessionSpec
from flame.storage.memory import MemoryStore
from flame.storage.store import Store
from flame.testing.clients import Client
from flame.testing.machine import Machine, machine_of
from flame.testing.manager import EngineOf, Manager
from flame.testing.nodes import Executor, Node
from flame.testing.service import expected
from flame.testing.witness import Broken, Witness
from flame.testing.world import START, World

#: Seconds in which every task of an open session must end after the last fault, if it is an easy one.
PATIENCE = 60.0
#: Seconds that one which is slow, never ends or kills its executors may take that executor beside.
HARD = 2.0
#: Timeout and deadline that a task has of its own, in milliseconds; 0: its session's.
LIMITS = ((0, 300), (0, 10_000), (50, 0), (800, 0), (400, 1_500))
#: What sessions have tried again.
RETRY_ON = (("ValueError",), ("OSError",), ("Exception",), ("Transient", "ValueError"))


@dataclass(frozen=True, slots=True)
class Ran:
    """How a simulation went: a hash of its history, and how much happened."""

    seed: int
    digest: str
    events: int
    tasks: int
    executions: int
    restarts: int


class Simulation:
    """One run.

    Args:
        open_store: Opens the durable store, at every start of the manager; one that keeps everything
            in memory, across restarts, unless another is given.
        engine_of: Makes the engine; tests plant bugs here.
        machine: Has the durable store on its disk, and loses power now and then.
    """

    def __init__(
        self,
        seed: int,
        *,
        open_store: Callable[[], Store] | None = None,
        engine_of: EngineOf = Engine,
        machine: Machine | None = None,
    ) -> None:
        self.seed = seed
        self.world = World(seed)
        self.witness = Witness(expected)
        # What was added later is drawn elsewhere: older seeds keep their stories.
        self._extra = Random(~seed)
        self._of_gangs = Random(f"gangs {seed}")
        #: Whether many small sessions share warm executors, which go straight from one to the next.
        self._crowded = Random(f"direct {seed}").random() < 0.25
        self._of_disks = Random(f"disks {seed}")
        #: Whether tasks may have limits of their own, and sessions name the failures to try again.
        self._particular = seed % 3 == 0
        self._of_limits = Random(f"limits {seed}")
        dice = self.world.random
        idle = Random(f"idle {seed}")
        stands_by = idle.random() < 0.25
        limits = Limits(
            submit_credit=dice.choice((2_000, 64_000)),
            max_queued_tasks=dice.choice((5, 40, 1_000_000)),
            delay_release=dice.choice((0.1, 3.0, 30.0)),
            standby=idle.choice((1.0, 5.0, 60.0)) if stands_by else 0.0,
            cancel_grace=self._extra.choice((0.2, 0.5)),
        )
        self._machine = machine
        self._of_power = Random(f"power {seed}")
        memory = MemoryStore()
        in_memory: Callable[[], Store] = lambda: memory  # noqa: E731
        opens = open_store or (machine.open if machine is not None else in_memory)
        self.manager = Manager(self.world, opens, self.witness, limits, engine_of)
        slots = [dice.randint(1, 4) for _ in range(dice.randint(1, 3))]
        self._slots = sum(slots)
        self.nodes = [
            Node(self.world, self.manager, self.witness, f"n{index}", count)
            for index, count in enumerate(slots)
        ]
        #: How often somebody is still to be hit who enters, and may have got tasks with the binding.
        self._entering_faults = 0
        self._of_entering = Random(f"entering {seed}")
        for node in self.nodes:
            node.on_rebound = self._perhaps_hit_entering
        self.clients = self._make_clients()
        self._faults_end = START + dice.choice((dice.uniform(3.0, 15.0), dice.uniform(15.0, 60.0)))

    def run(self) -> Ran:
        """Play it to its end.

        Raises:
            AssertionError: A promise was broken; a line that replays the run is printed.
        """
        try:
            return self._run()
        except Exception:  # whatever it is, the seed must be known
            flags = " --machine" if self._machine is not None else ""
            print(
                f"\nseed {self.seed} failed; "
                f"replay: python -m flame.testing.simulation {self.seed}{flags}"
            )
            raise
        finally:
            if self.manager.up:
                self.manager.crash()

    def _run(self) -> Ran:
        world = self.world
        self._plan()
        world.run(self._faults_end, lambda: False)
        self._heal()
        patience = PATIENCE + self._hard_work() / self._slots
        world.run(world.now + patience, self._is_over)
        self._conclude(patience)
        return Ran(
            self.seed,
            world.digest(),
            world.events,
            sum(len(kept.tasks) for kept in self.witness.sessions.values()),
            sum(
                len(runs)
                for kept in self.witness.sessions.values()
                for runs in kept.executions.values()
            ),
            self.manager.starts - 1,
        )

    # --- what will happen ------------------------------------------------------------------------

    def _make_clients(self) -> list[Client]:
        dice = self.world.random
        clients: list[Client] = []
        for index in range(dice.randint(1, 3) + 5 * self._crowded):
            spec = SessionSpec(
                dice.choice(("app", "app", "warm")),
                common_data=dice.choice((None, None, None, None, b"flaky", b"broken")),
                # Each of up to three sessions may keep one executor: there must be a fourth slot.
                min_instances=dice.choice((0, 0, 1)) if self._slots > 3 else 0,
                max_instances=dice.choice((None, None, 1, 2)),
                priority=dice.choice((0, 0, 1)),
                durability=dice.choice((Durability.DURABLE, Durability.SYNC, Durability.MEMORY)),
                max_attempts=dice.choice((1, 2, 3)),
            )
            spec = self._perhaps_a_gang(self._with_limits(spec))
            if self._crowded:
                spec = replace(spec, application="warm", min_instances=0)
            for _ in range(dice.choice((1, 1, 2))):
                name = f"c{len(clients)}"
                clients.append(
                    Client(self.world, self.manager, self.witness, name, f"s{index}", spec)
                )
        return clients

    def _perhaps_a_gang(self, spec: SessionSpec) -> SessionSpec:
        if self._slots < 2 or self._of_gangs.random() > 0.25:
            return spec
        return replace(
            spec, batch_size=2, min_instances=0, max_instances=2 if spec.max_instances else None
        )

    def _with_limits(self, spec: SessionSpec) -> SessionSpec:
        dice = self._extra
        return replace(
            spec,
            task_timeout_ms=dice.choice((0, 0, 100, 400)),
            deadline_ms=dice.choice((0, 0, 0, 1_000, 8_000)),
            retry_on_failure=dice.choice((0, 0, 1, 3)),
            client_lost_ms=dice.choice((None, None, None, 0, 500, 5_000)),
            retry_on=self._of_limits.choice(((), *RETRY_ON)) if self._particular else (),
        )

    def _plan(self) -> None:
        """Put the load and the faults on the calendar."""
        world, dice = self.world, self.world.random
        self.manager.start()
        for name, reusable in (("app", False), ("warm", True)):
            spec = ApplicationSpec(reusable=reusable)
            self._register(name, spec)
        for node in self.nodes:
            world.after(dice.uniform(0.0, 2.0), node.start)
        length = self._faults_end - world.now
        for client in self.clients:
            world.after(0.05, client.start)
            for _ in range(dice.randint(1, 6)):
                world.after(dice.uniform(0.1, length), client.submit, self._tasks(client))
            for _ in range(dice.choice((0, 0, 2))):
                world.after(dice.uniform(0.1, length), client.cancel, dice.randint(1, 5))
            for _ in range(dice.choice((0, 2, 4))):
                world.after(dice.uniform(0.1, length), client.watch)
            if dice.random() < 0.3:
                when = dice.uniform(0.5, length)
                world.after(when, client.close, dice.random() < 0.5)
        for _ in range(dice.choice((0, 3, 8, 15, 30))):
            world.after(dice.uniform(0.3, length), self._fault)

    def _register(self, name: str, spec: ApplicationSpec) -> None:
        self.manager.call(
            lambda reply: events.RegisterApplication(DEFAULT_TENANT, name, spec, reply),
            lambda answer: self._registered(name, spec, answer),
        )

    def _registered(self, name: str, spec: ApplicationSpec, answer: object) -> None:
        if isinstance(answer, Unavailable | ResourceExhausted):
            self.world.after(0.2, self._register, name, spec)

    def _tasks(self, client: Client) -> list[bytes]:
        dice = self.world.random
        count = dice.choice((1, 2, 5, 20, 40))
        kinds = dice.choice((["ok"], ["ok"], ["ok", "slow"], ["ok", "fail", "slow", "poison"]))
        if client.spec.task_timeout_ms or client.spec.deadline_ms:
            kinds = [*kinds, "stuck"]
        weights = [12 if kind == "ok" else 1 if kind == "stuck" else 2 for kind in kinds]
        return [
            self._perhaps_limited(kind, f"{client.name}:{dice.getrandbits(32):x}").encode()
            for kind in dice.choices(kinds, weights, k=count)
        ]

    def _perhaps_limited(self, kind: str, rest: str) -> str:
        dice = self._of_limits
        if self._particular and kind == "fail" and dice.random() < 0.5:
            kind = "break"
        if not self._particular or dice.random() < 0.6:
            return f"{kind}:{rest}"
        timeout, deadline = dice.choice(LIMITS)
        return f"{dice.choice((kind, kind, kind, 'slow', 'stuck'))}:{rest}:{timeout}:{deadline}"

    # --- faults ----------------------------------------------------------------------------------

    def _fault(self) -> None:
        """Do something bad to somebody."""
        dice = self.world.random
        fault = dice.choice(
            (
                self._restart_manager,
                self._kill_executor,
                self._kill_executor,
                self._cut_executor,
                self._cut_executor,
                self._lose_sight_of_executor,
                self._cut_client,
                self._cut_client,
                self._cut_node,
                self._silence_node,
                self._kill_node,
            )
        )
        fault()
        if self._of_disks.random() < 0.2:
            self._fill_disk()
        self._entering_faults += self._of_entering.choice((0, 2, 5))
        if self._machine is not None and self._of_power.random() < 0.1:
            self.world.note("clock jumps")
            self.manager.jump(self._of_power.uniform(1.0, 300.0))

    def _restart_manager(self) -> None:
        if self.manager.up:
            if self._machine is not None and self._of_power.random() < 0.5:
                self.world.note("power lost")
                self._machine.power_off()
            self.manager.crash()
            for client in self.clients:
                client.manager_died()
            self.world.after(self.world.random.uniform(0.05, 3.0), self._start_manager)

    def _start_manager(self) -> None:
        if self.manager.up:
            return
        self.manager.start()
        if self._machine is not None and (lost := self._machine.lost()):
            self.world.note("groups lost", len(lost))
            taken = self.witness.power_lost(self._machine.groups, lost)
            for client in self.clients:
                client.power_lost(taken)

    def _executors(self) -> list[Executor]:
        return [process for node in self.nodes for process in node.processes.values()]

    def _kill_executor(self) -> None:
        processes = self._executors()
        if processes:
            self.world.random.choice(processes).kill()

    def _cut_executor(self) -> None:
        processes = self._executors()
        if processes:
            self.world.random.choice(processes).disconnect()

    def _lose_sight_of_executor(self) -> None:
        processes = self._executors()
        if processes:
            until = self.world.now + self.world.random.uniform(5.0, 45.0)
            self.world.random.choice(processes).stay_away(until)

    def _perhaps_hit_entering(self, process: Executor) -> None:
        """The moment is too short for the other faults to meet it."""
        if not self._entering_faults:
            return
        self._entering_faults -= 1
        dice = self._of_entering
        self.world.note("fault while entering", process.key)
        if dice.random() < 0.6:  # what was sent with the order, never arrives
            process.stay_away(self.world.now + dice.choice((0.0, dice.uniform(0.0, 8.0))))
        else:
            fault = dice.choice((process.disconnect, process.kill, self._restart_manager))
            self.world.after(dice.uniform(0.0, 0.03), fault)

    def _cut_client(self) -> None:
        self.world.random.choice(self.clients).disconnect()

    def _cut_node(self) -> None:
        self.world.random.choice(self.nodes).disconnect()

    def _silence_node(self) -> None:
        node = self.world.random.choice(self.nodes)
        node.silent_until = self.world.now + self.world.random.uniform(5.0, 20.0)

    def _kill_node(self) -> None:
        node = self.world.random.choice(self.nodes)
        node.die()
        self.world.after(self.world.random.uniform(0.1, 8.0), node.start)

    def _fill_disk(self) -> None:
        self.world.note("disk full")
        self.manager.is_full = True
        self.world.after(self._of_disks.uniform(0.1, 6.0), self._empty_disk)

    def _empty_disk(self) -> None:
        self.manager.is_full = False

    def _heal(self) -> None:
        """The last fault has happened."""
        self._entering_faults = 0
        self._empty_disk()
        self._start_manager()
        for node in self.nodes:
            node.silent_until = min(node.silent_until, self.world.now)
        for process in self._executors():
            process.stay_away(0.0)

    # --- the end ---------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        return (
            self.manager.up
            and all(client.done for client in self.clients)
            and not self.witness.unfinished()
        )

    def _hard_work(self) -> float:
        """Return the seconds that one executor needs for what is left to time out, fail or be slow."""
        left = self.witness.unfinished()
        inputs = [self.witness.sessions[number].tasks[task_id] or b"" for number, task_id in left]
        return HARD * sum(value.startswith((b"stuck", b"slow", b"poison")) for value in inputs)

    def _conclude(self, patience: float) -> None:
        late = self.witness.unfinished()
        if late:
            raise Broken(
                f"{len(late)} tasks are not final {patience:.0f} s after the last fault; "
                f"(session, task): {late[:9]}"
            )
        for client in self.clients:
            if not client.done:
                missing = [i for i in range(len(client.inputs)) if i not in client.results]
                raise Broken(
                    f"{client.name} waits for ever: futures {missing[:9]}, watches "
                    f"{list(client.watching)[:9]}, close {client.close_wanted} {client.closed}"
                )
        for session in self.manager.cluster.sessions(DEFAULT_TENANT):
            kept = self.witness.sessions[session.number]
            total = (
                session.pending
                + session.running
                + session.succeeded
                + session.failed
                + session.cancelled
            )
            if session.number not in self.witness.forgotten and total != len(kept.tasks):
                raise Broken(
                    f"session {session.number} accepted {len(kept.tasks)} tasks and shows {total}"
                )


def main() -> None:
    """Replay one seed and print its story."""
    with ExitStack() as stack:
        machine = (
            stack.enter_context(machine_of(int(sys.argv[1]))) if "--machine" in sys.argv else None
        )
        simulation = Simulation(int(sys.argv[1]), machine=machine)
        try:
            print(simulation.run())
        finally:
            print(simulation.world.story(None if "--all" in sys.argv else 60))


if __name__ == "__main__":
    main()
