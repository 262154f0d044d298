"""Does a long queue cost anything? Tasks per second with 1,000 to 1,000,000 queued.

The queue is filled while there is no executor; then executors join, and each task that is taken is
replaced by a new one, so the queue keeps its length while it is measured.
"""

import argparse
import time
from collections import deque
from typing import Any

import flame
from benchmarks.clusters import EXECUTORS, bench
from benchmarks.nodes import joined
from benchmarks.options import Rounds, parse
from benchmarks.report import over, report, summary
from benchmarks.work import Payloads, check


def measure(queued: int, rounds: Rounds) -> dict[str, Any]:
    payloads = Payloads(seed=4)
    first = payloads.make(queued)
    fresh = [payloads.make(rounds.many) for _ in range(rounds.count)]
    sent = deque(first)
    outputs: list[bytes | None] = []
    rates = []
    with bench(executors=0) as cluster, cluster.session(min_instances=EXECUTORS) as session:
        run = session.run
        futures: deque[flame.Future] = deque(run(payload) for payload in first)
        session.flush()
        with joined(cluster, EXECUTORS):
            cluster.wait_for_executors(session.name)
            # Take what was done before we looked; from then on each result is waited for.
            while futures[0].done():
                outputs.append(futures.popleft().result())
                [payload] = payloads.make(1)
                futures.append(run(payload))
                sent.append(payload)
            for batch in fresh:
                begin = time.perf_counter()
                for payload in batch:
                    outputs.append(futures.popleft().result())
                    futures.append(run(payload))
                rates.append(len(batch) / (time.perf_counter() - begin))
                sent.extend(batch)
            labels = cluster.labels()
            session.close(cancel_running=True)
    check([sent.popleft() for _ in outputs], outputs)
    return {**labels, "queued": queued, "unit": "tasks/s", **summary(rates)}


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__.partition("\n")[0]))
    lengths = (1_000, 10_000, 100_000, rounds.scaled(1_000_000))
    rows = [measure(queued, rounds) for queued in lengths]
    rows.append(over(rows[-1], rows[0], queued="last over first"))
    report("flatness", rows, "closed loop over a queue of constant length")


if __name__ == "__main__":
    main()
