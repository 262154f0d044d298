"""Two hundred connected executors against two: what do connections cost the session manager?

The executors are simulated: one process holds all their connections and speaks their channel to the
letter, each executor answering its tasks (bytes reversed) as soon as they come. Two such executors are
the measure, so that both rows have the same processes on the same cores.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.clusters import Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import over, report, summary
from benchmarks.work import Payloads, bulk
from flame.executor_manager.agent import Identity, NodeAgent
from flame.executor_manager.node import Leader
from flame.executor_manager.packages.preparation import Key
from flame.executor_manager.supervisor import Supervisor
from flame.model.resources import UNIT
from flame.runtime.framed import FramedProtocol
from flame.wire import frames
from flame.wire.channels import Endpoint, bearer
from flame.wire.framed import framed_hello

FEW, MANY = 2, 200
WINDOW = 1024  # tasks in an executor's hands; a real one announces about as many for a no-op
HEARTBEAT = 5.0  # seconds
MOST_BYTES = 16 * 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent


class SimulatedExecutor:
    """One connection. Without a task that takes time there is nothing to take back."""

    def __init__(self, start: frames.StartExecutor) -> None:
        self._id = start.executor
        self._incarnation = start.incarnation
        self._credential = start.credential
        self._sequence = 0
        self._protocol = FramedProtocol(
            self._received, lambda _reason: None, lambda: None, MOST_BYTES
        )

    async def connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._protocol, host, port)  # as from other machines
        hello = framed_hello(frames.EXECUTOR_CHANNEL, bearer(self._credential))
        self._protocol.send((hello.SerializeToString(),))
        self.send(
            hello=frames.ExecutorHello(
                executor=self._id,
                incarnation=self._incarnation,
                window=WINDOW,
            )
        )

    def send(self, **frame: Any) -> None:
        self._protocol.send((frames.ExecutorFrame(**frame).SerializeToString(),))

    def close(self) -> None:
        self._protocol.abort("stopped")

    def _received(self, message: bytes) -> None:
        order = frames.ExecutorOrder.FromString(message)
        match order.WhichOneof("frame"):
            case "tasks":
                tasks = order.tasks
                self._sequence += 1
                self.send(
                    results=frames.Results(
                        sequence=self._sequence,
                        task_ids=tasks.task_ids,
                        outputs=[payload[::-1] for payload in tasks.inputs],
                        attempts=tasks.attempts,
                    )
                )
            case "bind":
                self._incarnation = order.bind.incarnation
                self._sequence = 0
                self.send(bind_result=frames.BindResult(incarnation=self._incarnation))
            case "take_back":
                self.send(taken_back=frames.TakenBack(request=order.take_back.request))
            case "unbind":
                self.send(left=frames.Left(incarnation=self._incarnation))
            case "refusal":
                raise RuntimeError(f"{self._id} was refused: {order.refusal.message}")


class NoPackages:
    """The packages of a node that never has any."""

    timeout = 0.0

    def reports(self) -> list[Any]:
        return []


class SimulatedProcesses:
    """What a node's agent wants of its supervisor, with connections for processes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.leader = Leader(endpoint)
        self.preparing: dict[Key, str] = {}
        self.packages = NoPackages()
        self.unconfirmed: dict[Key, frames.ExecutorExited] = {}
        self.agent: NodeAgent | None = None
        self._endpoint = endpoint
        self._alive: dict[Key, SimulatedExecutor] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    def known(self) -> list[Key]:
        return [*self._alive, *self.unconfirmed]

    def start_executor(self, start: frames.StartExecutor) -> None:
        key = (start.executor, start.incarnation)
        if key in self._alive or key in self.unconfirmed:
            return
        executor = self._alive[key] = SimulatedExecutor(start)
        connecting = asyncio.create_task(
            executor.connect(self._endpoint.host, self.leader.framed.port)
        )
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    def stop_executor(self, executor: str, incarnation: int, grace: float) -> None:
        key = (executor, incarnation)
        alive = self._alive.pop(key, None)
        if alive is None:
            self.unconfirmed.pop(key, None)
            return
        alive.close()
        report = frames.ExecutorExited(executor=executor, incarnation=incarnation, cause="stopped")
        self.unconfirmed[key] = report
        if self.agent is not None:
            self.agent.exited(report)

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            for executor in self._alive.values():
                executor.send(heartbeat=frames.Heartbeat())


async def run_node(endpoint: Endpoint, token: str, executors: int, ready_fd: int) -> None:
    """Be a node with so many simulated executors, until killed."""

    def registered() -> None:
        with contextlib.suppress(OSError):
            os.write(ready_fd, b"ready\n")

    processes = SimulatedProcesses(endpoint)
    identity = Identity("fleet", UNIT * executors, (endpoint,), token, None)
    processes.agent = NodeAgent(identity, cast(Supervisor, processes), registered, "simulated")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(processes.beat())
        tasks.create_task(processes.agent.run())


@contextlib.contextmanager
def joined_fleet(cluster: Bench, executors: int) -> Iterator[None]:
    """Add a node of simulated executors to a cluster; ready when it is registered."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.fleet", "--role", "node"),
            *("--endpoint", cluster.cluster.endpoint),
            *("--token-file", str(cluster.cluster.token_file)),
            *("--executors", str(executors)),
            *("--ready-fd", str(writing)),
        ],
        pass_fds=[writing],
        cwd=ROOT,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as ready:
            assert ready.readline(), "the simulated node did not start"
        cluster.executors += executors
        yield
    finally:
        process.kill()
        process.wait(timeout=30)


def measure(executors: int, rounds: Rounds) -> dict[str, Any]:
    payloads = Payloads(seed=11)
    with bench(executors=0) as cluster, joined_fleet(cluster, executors):
        with cluster.warm_session() as session:
            bulk(session, payloads.make(rounds.many))  # warm
            work = [payloads.make(rounds.many) for _ in range(rounds.count)]
            rates = [len(each) / bulk(session, each) for each in work]
        labels = cluster.labels()
    return {
        **labels,
        "simulated executors": executors,
        "tasks": rounds.many,
        "unit": "tasks/s",
        **summary(rates),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--role", choices=["client", "node"], default="client")
    options.add_argument("--endpoint", default="")
    options.add_argument("--token-file", default="")
    options.add_argument("--executors", type=int, default=MANY)
    options.add_argument("--ready-fd", type=int, default=-1)
    chosen, rounds = parse(options)
    if chosen.role == "node":
        token = Path(chosen.token_file).read_text(encoding="ascii").strip()
        endpoint = Endpoint.parse(chosen.endpoint)
        uvloop.run(run_node(endpoint, token, chosen.executors, chosen.ready_fd))
        return
    rows = [measure(executors, rounds) for executors in (FEW, MANY)]
    rows.append(over(rows[1], rows[0], **{"simulated executors": f"{MANY} over {FEW}"}))
    report("fleet", rows, "one session, all at once, 16 bytes")


if __name__ == "__main__":
    main()
