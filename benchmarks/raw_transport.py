"""The wall: the same frames through the same gRPC streams, with no Flame in between.

    client ──Submit──▶ relay ──Tasks──▶ 2 echo processes
           ◀─Outcomes─       ◀─Results─

Four processes as in a cluster of two executors. The relay keeps nothing, checks nothing and stores
nothing: it splits what arrives between the echoes and sends their answers back. What Flame reaches
is judged against this: ``benchmarks.throughput`` measures both and prints the ratio.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import uvloop

from benchmarks.options import QUICK, Rounds, parse
from benchmarks.report import NO_FLAME, labels, percentile, report, summary
from benchmarks.work import check
from flame.wire.channels import channel_options
from flame.wire.frames import (
    EXECUTOR_CHANNEL,
    FRAME_BYTES,
    FRAME_TASKS,
    TASK_CHANNEL,
    ClientFrame,
    ExecutorFrame,
    ExecutorHello,
    ExecutorOrder,
    ManagerFrame,
    Outcomes,
    Results,
    Submit,
    Tasks,
)

ECHOES = 2
LOOPS = ((8, 5_000), (64, 20_000), (512, 50_000))  # outstanding, tasks
ROOT = Path(__file__).resolve().parent.parent


class Figure(NamedTuple):
    """What was measured: what was done, with payloads of so many bytes, with how many tasks."""

    mode: str
    bytes: int
    tasks: int


class Outbox:
    """Tasks that piled up while the previous frame was being sent."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, bytes]] = deque()
        self._news = asyncio.Event()

    def add(self, task: tuple[int, bytes]) -> None:
        self.waiting.append(task)
        if len(self.waiting) == 1:
            self._news.set()

    def extend(self, tasks: Any) -> None:
        self.waiting.extend(tasks)
        self._news.set()

    async def batch(self, most: int = FRAME_TASKS) -> tuple[list[int], list[bytes]]:
        while not self.waiting:
            self._news.clear()
            await self._news.wait()
        ids: list[int] = []
        payloads: list[bytes] = []
        size = 0
        while self.waiting and len(ids) < most and size < FRAME_BYTES:
            task_id, payload = self.waiting.popleft()
            ids.append(task_id)
            payloads.append(payload)
            size += len(payload)
        return ids, payloads


# --- Relay -------------------------------------------------------------------------------------


class Relay:
    """The middle process: one client stream, one stream per echo."""

    WINDOW = 4096  # tasks in an echo's hands, the most that an executor of Flame announces
    WHOLE = 32  # a smaller frame is not split: halves would cost more messages than they gain

    def __init__(self) -> None:
        self.echoes: list[Outbox] = []
        self.outcomes = Outbox()
        self._turn = 0
        self._complete = asyncio.Event()

    async def client(self, requests: Any, context: Any) -> None:
        await self._complete.wait()
        sending = asyncio.create_task(self._send_outcomes(context), name="outcomes")
        try:
            async for frame in requests:
                self._distribute(
                    list(enumerate(frame.submit.inputs, start=frame.submit.first_number))
                )
        finally:
            sending.cancel()

    def _distribute(self, tasks: list[tuple[int, bytes]]) -> None:
        parts = 1 if len(tasks) < self.WHOLE else len(self.echoes)
        size = -(-len(tasks) // parts)
        for start in range(0, len(tasks), size):
            self._turn = (self._turn + 1) % len(self.echoes)
            self.echoes[self._turn].extend(tasks[start : start + size])

    async def _send_outcomes(self, context: Any) -> None:
        position = 0
        while True:
            ids, outputs = await self.outcomes.batch()
            outcomes = Outcomes(alias=1, position=position, task_ids=ids, outputs=outputs)
            await context.write(ManagerFrame(outcomes=outcomes))
            position += len(ids)

    async def echo(self, requests: Any, context: Any) -> None:
        in_hand = 0
        freed = asyncio.Event()
        tasks = Outbox()

        async def send() -> None:
            nonlocal in_hand
            while True:
                while in_hand >= self.WINDOW:
                    freed.clear()
                    await freed.wait()
                ids, inputs = await tasks.batch(min(FRAME_TASKS, self.WINDOW - in_hand))
                in_hand += len(ids)
                await context.write(ExecutorOrder(tasks=Tasks(task_ids=ids, inputs=inputs)))

        sending = asyncio.create_task(send(), name="tasks")
        try:
            async for frame in requests:
                if frame.HasField("hello"):
                    self.echoes.append(tasks)
                    if len(self.echoes) == ECHOES:
                        self._complete.set()
                    continue
                results = frame.results
                in_hand -= len(results.task_ids)
                freed.set()
                self.outcomes.extend(zip(results.task_ids, results.outputs, strict=True))
        finally:
            sending.cancel()


def _service(path: str, behaviour: Any, request: Any, response: Any) -> grpc.GenericRpcHandler:
    _, service, method = path.split("/")
    handler = grpc.stream_stream_rpc_method_handler(
        behaviour, request.FromString, response.SerializeToString
    )
    return grpc.method_handlers_generic_handler(service, {method: handler})


async def run_relay() -> None:
    """Serve until stdin is closed; the port goes to stdout."""
    relay = Relay()
    server = grpc.aio.server(options=channel_options())
    server.add_generic_rpc_handlers(
        (
            _service(TASK_CHANNEL, relay.client, ClientFrame, ManagerFrame),
            _service(EXECUTOR_CHANNEL, relay.echo, ExecutorFrame, ExecutorOrder),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


# --- Echo --------------------------------------------------------------------------------------


async def run_echo(port: int) -> None:
    """Answer every task with its input reversed."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_options()) as channel:
        stream = channel.stream_stream(
            EXECUTOR_CHANNEL, ExecutorFrame.SerializeToString, ExecutorOrder.FromString
        )()
        await stream.write(ExecutorFrame(hello=ExecutorHello(executor="echo")))
        print("ready", flush=True)
        sequence = 0
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for order in stream:
                sequence += 1
                tasks = order.tasks
                outputs = [payload[::-1] for payload in tasks.inputs]
                results = Results(sequence=sequence, task_ids=tasks.task_ids, outputs=outputs)
                await stream.write(ExecutorFrame(results=results))


# --- Client ------------------------------------------------------------------------------------


class Future:
    """One task's outcome. As lean as it gets: only one that is waited for costs an asyncio future."""

    __slots__ = ("output", "waiter")

    def __init__(self) -> None:
        self.output: bytes | None = None
        self.waiter: asyncio.Future[None] | None = None

    async def result(self) -> bytes:
        if self.output is None:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        assert self.output is not None
        return self.output


class Client:
    """Submits tasks, each with its own future."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._outbox = Outbox()
        self._futures: dict[int, Future] = {}
        self._next = 1
        self._tasks = [
            asyncio.create_task(self._send(), name="submits"),
            asyncio.create_task(self._receive(), name="outcomes"),
        ]

    def submit(self, payload: bytes) -> Future:
        number = self._next
        self._next += 1
        future = self._futures[number] = Future()
        self._outbox.add((number, payload))
        return future

    async def _send(self) -> None:
        while True:
            ids, inputs = await self._outbox.batch()
            submit = Submit(alias=1, first_number=ids[0], inputs=inputs)
            await self._stream.write(ClientFrame(submit=submit))

    async def _receive(self) -> None:
        take = self._futures.pop
        async for frame in self._stream:
            outcomes = frame.outcomes
            for task_id, output in zip(outcomes.task_ids, outcomes.outputs, strict=True):
                future = take(task_id)
                future.output = output
                if future.waiter is not None:
                    future.waiter.set_result(None)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._stream.cancel()


async def bulk(client: Client, payloads: list[bytes]) -> float:
    """Submit all, take all; seconds from the first submit to the last result."""
    begin = time.perf_counter()
    futures: list[Future] = []
    for start in range(0, len(payloads), FRAME_TASKS):
        futures += [client.submit(payload) for payload in payloads[start : start + FRAME_TASKS]]
        await asyncio.sleep(0)  # a full frame may go: a sixth faster than all submits first
    outputs: list[bytes | None] = [await future.result() for future in futures]
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


async def closed_loop(client: Client, payloads: list[bytes], outstanding: int) -> float:
    """Keep so many outstanding; seconds from the first submit to the last result."""
    outputs: list[bytes | None] = []
    window: deque[Future] = deque()
    begin = time.perf_counter()
    for payload in payloads:
        if len(window) == outstanding:
            outputs.append(await window.popleft().result())
        window.append(client.submit(payload))
    outputs += [await future.result() for future in window]
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


async def round_trips(client: Client, payloads: list[bytes]) -> list[float]:
    """One at a time; the sorted milliseconds."""
    times: list[float] = []
    outputs: list[bytes | None] = []
    for payload in payloads:
        begin = time.perf_counter()
        outputs.append(await client.submit(payload).result())
        times.append((time.perf_counter() - begin) * 1000)
    check(payloads, outputs)
    return sorted(times)


async def measure(port: int, rounds: Rounds, *, in_turn: bool) -> list[dict[str, Any]]:
    """All figures, interleaved by round so that a slow minute hurts every row alike.

    ``in_turn``: each round waits for a line of stdin, and says on one of stdout what it measured.
    """
    source = random.Random(1)
    bulks = [(size, count) for size in (16, 1024) for count in (10_000, rounds.many)]
    rates: dict[Figure, list[float]] = {}
    trips: list[list[float]] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_options()) as channel:
        stream = channel.stream_stream(
            TASK_CHANNEL, ClientFrame.SerializeToString, ManagerFrame.FromString
        )()
        client = Client(stream)
        await bulk(client, [source.randbytes(16) for _ in range(5_000)])  # warm
        for _ in range(rounds.count):
            if in_turn:
                await asyncio.to_thread(sys.stdin.readline)
            for size, count in bulks:
                payloads = [source.randbytes(size) for _ in range(count)]
                rates.setdefault(Figure("bulk", size, count), []).append(
                    count / await bulk(client, payloads)
                )
            for outstanding, count in LOOPS:
                payloads = [source.randbytes(16) for _ in range(rounds.scaled(count))]
                rates.setdefault(
                    Figure(f"{outstanding} outstanding", 16, len(payloads)), []
                ).append(len(payloads) / await closed_loop(client, payloads, outstanding))
            trips.append(
                await round_trips(
                    client, [source.randbytes(16) for _ in range(rounds.scaled(1000))]
                )
            )
            if in_turn:
                print(
                    json.dumps([[*figure, values[-1]] for figure, values in rates.items()]),
                    flush=True,
                )
        client.close()
    rows: list[dict[str, Any]] = [
        {
            **labels(NO_FLAME, "-"),
            **figure._asdict(),
            "unit": "tasks/s",
            **summary(values),
        }
        for figure, values in rates.items()
    ]
    for name, percent in (("round trip p50", 50), ("round trip p99", 99)):
        values = [percentile(times, percent) for times in trips]
        rows.append(
            {
                **labels(NO_FLAME, "-"),
                "mode": name,
                "bytes": 16,
                "tasks": len(trips[0]),
                "unit": "ms",
                **summary(values),
            }
        )
    return rows


@contextlib.contextmanager
def processes() -> Iterator[int]:
    """A relay and its echoes; yields the relay's port."""
    command = [sys.executable, "-m", "benchmarks.raw_transport", "--role"]
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(
            subprocess.Popen(
                [*command, "relay"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        )
        stack.callback(relay.kill)
        assert relay.stdout is not None
        port = int(relay.stdout.readline())
        for _ in range(ECHOES):
            echo = subprocess.Popen(
                [*command, "echo", "--port", str(port)], stdout=subprocess.PIPE, cwd=ROOT
            )
            stack.enter_context(echo)
            stack.callback(echo.kill)
            assert echo.stdout is not None
            echo.stdout.readline()
        yield port


class InTurn:
    """Rounds of this, each when it is asked for, so that another's may be measured in between.

    In a process of its own: no other part's threads and event loops are in the way.
    """

    def __init__(self, rounds: Rounds) -> None:
        command = [sys.executable, "-m", "benchmarks.raw_transport", "--in-turn"]
        command += ["--rounds", str(rounds.count)]
        if rounds.many == QUICK.many:
            command.append("--quick")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def __enter__(self) -> "InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def round(self) -> dict[Figure, float]:
        """Measure one round; return the rates."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        return {Figure(*figure): rate for *figure, rate in found}

    def rows(self) -> list[dict[str, Any]]:
        """Return the figures of all rounds, once all are measured."""
        printed, _ = self._process.communicate()
        rows: list[dict[str, Any]] = json.loads(printed.splitlines()[-1])["rows"]
        return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--role", choices=["client", "relay", "echo"], default="client")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--in-turn", action="store_true", help="a round for each line of stdin")
    chosen, rounds = parse(options)
    gc.set_threshold(50_000, 20, 100)  # what Flame's own processes do
    if chosen.role == "relay":
        uvloop.run(run_relay())
    elif chosen.role == "echo":
        uvloop.run(run_echo(chosen.port))
    else:
        with processes() as port:
            rows = uvloop.run(measure(port, rounds, in_turn=chosen.in_turn))
        report("raw_transport", rows, f"no Flame, {ECHOES} echo processes, nothing stored")


if __name__ == "__main__":
    main()
