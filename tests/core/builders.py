"""A small cluster by default, so that a test mentions only what matters to it."""

from collections.abc import Sequence
from typing import Any

from flame.core import effects, events
from flame.core.events import Tick
from flame.core.executor import Executor
from flame.core.session import Session
from flame.core.state import Limits
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, TaskId, Tenant
from flame.model.labels import Labels
from flame.model.resources import GIB, Resources
from flame.model.specs import ApplicationSpec, ExecutorState, Failure, SessionSpec, TaskLimits
from flame.storage.memory import MemoryStore
from flame.testing.recording import Recorder

SUBMITTER = b"a submitter's id"
PLENTY = 1_000_000


class Bench(Recorder):
    """A recorder that can speak for clients, nodes and executors in one line each."""

    nodes_are_silent = False

    def register(self, name: str = "app", **spec: Any) -> None:
        self.post(
            events.RegisterApplication(DEFAULT_TENANT, name, ApplicationSpec(**spec), "register")
        )

    def open(self, name: str = "s", application: str = "app", **spec: Any) -> Session:
        self.post(
            events.OpenSession(
                DEFAULT_TENANT, name, SessionSpec(application, **spec), f"open {name}"
            )
        )
        return self.session(name)

    def session(self, name: str = "s") -> Session:
        return self.state.names[(DEFAULT_TENANT, name)]

    def session_of(self, tenant: Tenant, name: str = "s") -> Session:
        return self.state.names[(tenant, name)]

    def attach(
        self,
        attachment: int = 1,
        name: str = "s",
        *,
        submitter: bytes = SUBMITTER,
        subscribe: bool = True,
        position: int = 0,
        credit: int = PLENTY,
        own: bool = True,
    ) -> None:
        self.post(
            events.Attach(
                attachment,
                DEFAULT_TENANT,
                name,
                submitter,
                subscribe,
                position,
                credit,
                f"attach {attachment}",
                own,
            )
        )

    def submit(self, *inputs: bytes | None, attachment: int = 1, first: int = 0) -> None:
        self.post(events.SubmitTasks(attachment, first, list(inputs)))

    def submit_limited(
        self, *limits: TaskLimits | None, attachment: int = 1, first: int = 0
    ) -> None:
        """Submit a task for each of these; None: without limits of its own."""
        own = {index: one for index, one in enumerate(limits) if one is not None}
        inputs = [b"in %d" % index for index in range(1, len(limits) + 1)]
        self.post(events.SubmitTasks(attachment, first, inputs, own))

    def close(self, name: str = "s", *, cancel_running: bool = False, reply: str = "close") -> None:
        self.post(events.CloseSession(DEFAULT_TENANT, name, cancel_running, reply))

    def node(
        self,
        name: str = "n",
        *,
        slots: int = 1,
        instance: bytes = b"1",
        executors: Sequence[tuple[ExecutorId, int]] = (),
        gpus: int = 0,
        labels: Labels = (),
    ) -> None:
        capacity = Resources(1000 * slots, GIB * slots, gpus)
        addresses = [("InternalIP", f"{name}.example")]
        self.post(
            events.NodeConnected(
                NodeName(name), instance, capacity, executors, addresses=addresses, labels=labels
            )
        )

    def executor(self, name: str = "e1") -> Executor:
        return self.state.executors[ExecutorId(name)]

    def hello(
        self,
        name: str = "e1",
        *,
        bound: bool = False,
        window: int = 2,
        held: Sequence[int] = (),
        attempts: Sequence[int] = (),
        running: int = 0,
        incarnation: int | None = None,
        gpu_ids: tuple[str, ...] = (),
        takes_early: bool = False,
    ) -> None:
        inc = self.executor(name).incarnation if incarnation is None else incarnation
        ids = [TaskId(i) for i in held]
        self.post(
            events.ExecutorConnected(
                ExecutorId(name),
                inc,
                bound,
                SessionNumber(0),
                window,
                ids,
                attempts or [1] * len(ids),
                TaskId(running),
                gpu_ids=gpu_ids,
                takes_early=takes_early,
            )
        )

    def bind(self, name: str = "e1", *, window: int = 2, code: int = 0) -> None:
        """The process says hello and its service enters."""
        self.hello(name, window=window)
        self.entered(name, code=code)

    def entered(self, name: str = "e1", *, code: int = 0) -> None:
        inc = self.executor(name).incarnation
        self.post(events.BindDone(ExecutorId(name), inc, code, "it raised" if code else ""))

    def started(self, task: int, name: str = "e1") -> None:
        inc = self.executor(name).incarnation
        self.post(events.TaskStarted(ExecutorId(name), inc, TaskId(task), 1))

    def finish(
        self,
        *tasks: int,
        name: str = "e1",
        sequence: int = 1,
        incarnation: int | None = None,
        attempts: Sequence[int] = (),
        failures: dict[int, Failure] | None = None,
        kinds: dict[int, Sequence[str]] | None = None,
        logs: dict[int, tuple[bytes, bytes]] | None = None,
    ) -> None:
        inc = self.executor(name).incarnation if incarnation is None else incarnation
        self.post(
            events.TasksFinished(
                ExecutorId(name),
                inc,
                sequence,
                [TaskId(t) for t in tasks],
                [b"out %d" % t for t in tasks],
                failures or {},
                attempts,
                kinds or {},
                logs or {},
            )
        )

    def take_back(self, *tasks: int, name: str = "e1") -> None:
        """The executor answers the last request with these."""
        executor = self.executor(name)
        ids = [TaskId(t) for t in tasks]
        self.post(events.TasksTakenBack(executor.id, executor.incarnation, executor.take_back, ids))

    def left(self, name: str = "e1") -> None:
        executor = self.executor(name)
        self.post(events.ExecutorUnbound(executor.id, executor.incarnation))

    def exited(self, name: str = "e1", *, task: int = 0, cause: str = "signal 9") -> None:
        executor = self.executor(name)
        self.post(
            events.ExecutorExited(
                executor.node, executor.id, executor.process, TaskId(task), 1, cause, ""
            )
        )

    def disconnected(self, name: str = "e1") -> None:
        executor = self.executor(name)
        self.post(events.ExecutorDisconnected(executor.id, executor.incarnation))

    def later(self, seconds: float) -> None:
        """Time passes; the nodes renew their leases."""
        end = self.now + seconds
        while self.now < end:
            for node in list(self.state.nodes.values()):
                if node.connected and not self.nodes_are_silent:
                    self.post(events.NodeRenewed(node.name))
            self.wait(min(5.0, end - self.now), Tick)

    def restart(self) -> "Bench":
        """The manager dies and another starts on the same store."""
        other = Bench(store=self.store, now=self.now + 1.0, first_id=100)
        self.store = MemoryStore()  # whatever this one still does counts for nothing
        return other

    # --- what happened ---------------------------------------------------------------------------

    def handed(self, name: str = "e1") -> list[int]:
        """The tasks handed to an executor since the last look."""
        found = [e for e in self.effects if isinstance(e, effects.SendTasks) and e.executor == name]
        self.effects = [e for e in self.effects if e not in found]
        return [i for e in found for i in e.task_ids]

    def told(self, attachment: int = 1) -> list[tuple[int, int]]:
        """The (position, task) of outcomes sent to an attachment since the last look."""
        found = [
            e
            for e in self.effects
            if isinstance(e, effects.SendOutcomes) and e.attachment == attachment
        ]
        self.effects = [e for e in self.effects if e not in found]
        return [(e.position + i, t) for e in found for i, t in enumerate(e.task_ids)]

    def states(self) -> dict[str, ExecutorState]:
        return {str(e.id): e.state for e in self.state.executors.values()}


def bench(**options: Any) -> Bench:
    """A cluster with an application and an open session, to which a client is attached."""
    made = Bench(**options)
    made.register()
    made.open()
    made.attach()
    return made


def running(tasks: int = 2, *, window: int = 2, limits: Limits | None = None, **spec: Any) -> Bench:
    """A cluster with one bound executor on a node of one slot, and tasks submitted."""
    made = Bench(limits=limits)
    made.register()
    made.open(**spec)
    made.attach()
    made.node()
    made.submit(*[b"in %d" % i for i in range(1, tasks + 1)])
    made.bind(window=window)
    return made
