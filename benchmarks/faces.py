"""The other ways to wait: ``as_completed``, ``wait`` and the asyncio face, beside the fast face."""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any

import flame
from benchmarks.clusters import Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import report, summary
from benchmarks.work import Payloads, bulk, check

FAST = "run, result"


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
    return rates


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    with bench() as cluster, cluster.warm_session() as session:
        rates = asyncio.run(measure(cluster, session, rounds))
        labels = cluster.labels()
    rows: list[dict[str, Any]] = []
    for name, values in rates.items():
        ratios = [rate / fast for rate, fast in zip(values, rates[FAST], strict=True)]
        rows.append(
            {
                **labels,
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
