"""The other ways to wait: ``as_completed``, ``wait`` and the asyncio face, beside the fast face.

The last row is ``asyncio.gather`` with no Flame: as many plain futures, made, completed by the loop and
gathered. What a gathered task takes beyond an awaited one is that.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any

import flame
from benchmarks.clusters import Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import NO_FLAME, labels, report, summary
from benchmarks.work import Payloads, bulk, check
from flame.wire.frames import FRAME_TASKS

FAST = "run, result"
ALONE = "asyncio: gather alone"


def completed(session: flame.Session, payloads: list[bytes]) -> float:
    """As ``concurrent.futures.as_completed``: each result when it comes, and whose it is."""
    begin = time.perf_counter()
    futures = {session.run(payload): payload for payload in payloads}
    answers = [(futures[future], future.result()) for future in flame.as_completed(futures)]
    seconds = time.perf_counter() - begin
    check([payload for payload, _ in answers], [output for _, output in answers])
    return seconds


def waited(session: flame.Session, payloads: list[bytes]) -> float:
    """As ``concurrent.futures.wait``: all, then the results."""
    begin = time.perf_counter()
    futures = [session.run(payload) for payload in payloads]
    done, not_done = flame.wait(futures)
    assert (len(done), len(not_done)) == (len(payloads), 0)
    outputs = [future.result() for future in futures]
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


async def awaited(session: flame.aio.AsyncSession, payloads: list[bytes]) -> float:
    """Submit all, await each."""
    begin = time.perf_counter()
    futures = [session.run(payload) for payload in payloads]
    outputs = [await future for future in futures]
    seconds = time.perf_counter() - begin
    check(payloads, outputs)
    return seconds


async def gathered(session: flame.aio.AsyncSession, payloads: list[bytes]) -> float:
    """Submit all, ``asyncio.gather``."""
    begin = time.perf_counter()
    outputs = await asyncio.gather(*[session.run(payload) for payload in payloads])
    seconds = time.perf_counter() - begin
    check(payloads, list(outputs))
    return seconds


async def gathered_alone(payloads: list[bytes]) -> float:
    """``asyncio.gather`` of futures that the loop itself completes, a frame's worth a turn."""
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    futures: list[asyncio.Future[bytes]] = [loop.create_future() for _ in payloads]

    def complete(first: int) -> None:
        last = min(first + FRAME_TASKS, len(futures))
        for index in range(first, last):
            futures[index].set_result(payloads[index][::-1])
        if last < len(futures):
            loop.call_soon(complete, last)

    loop.call_soon(complete, 0)
    outputs = await asyncio.gather(*futures)
    seconds = time.perf_counter() - begin
    check(payloads, list(outputs))
    return seconds


SYNC: dict[str, Callable[[flame.Session, list[bytes]], float]] = {
    FAST: bulk,
    "as_completed": completed,
    "wait": waited,
}
ASYNC = {"asyncio: await each": awaited, "asyncio: gather": gathered}


async def measure(cluster: Bench, session: flame.Session, rounds: Rounds) -> dict[str, list[float]]:
    """Tasks per second by face; all in turn in each round, on the executors of one session."""
    payloads = Payloads(seed=8)
    rates: dict[str, list[float]] = {}
    client = await flame.aio.connect(
        cluster.cluster.endpoint, token_file=cluster.cluster.token_file
    )
    async with client:
        same = await client.get_session(session.name)
        await awaited(same, payloads.make(1_000))  # warm
        for _ in range(rounds.count):
            for name, run in SYNC.items():
                work = payloads.make(rounds.many)
                seconds = await asyncio.to_thread(run, session, work)
                rates.setdefault(name, []).append(len(work) / seconds)
            for name, arun in ASYNC.items():
                work = payloads.make(rounds.many)
                rates.setdefault(name, []).append(len(work) / await arun(same, work))
            work = payloads.make(rounds.many)
            rates.setdefault(ALONE, []).append(len(work) / await gathered_alone(work))
    return rates


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    with bench() as cluster, cluster.warm_session() as session:
        rates = asyncio.run(measure(cluster, session, rounds))
        ours = cluster.labels()
    rows: list[dict[str, Any]] = []
    for name, values in rates.items():
        ratios = [rate / fast for rate, fast in zip(values, rates[FAST], strict=True)]
        rows.append(
            {
                **(labels(NO_FLAME, "-") if name == ALONE else ours),
                "face": name,
                "tasks": rounds.many,
                "unit": "tasks/s",
                **summary(values),
                "of the fast face": summary(ratios)["median"],
            }
        )
    report("faces", rows, "first submit to last result, all at once, 16 bytes")


if __name__ == "__main__":
    main()
