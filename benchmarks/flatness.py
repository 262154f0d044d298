"""Does a long queue cost anything? Tasks per second with 1,000 and with 1,000,000 queued.

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
from benchmarks.report import report, summary
from benchmarks.work import Payloads, check


def measure(queued: int, rounds: Rounds) -> dict[str, Any]:
    payloads = Payloads(seed=4)
    waiting = deque(payloads.make(queued))
    with bench(executors=0) as cluster, cluster.session(min_instances=EXECUTORS) as session:
        run = session.run
        futures: deque[flame.Future] = deque(run(payload) for payload in waiting)
        rates = []
        with joined(cluster, EXECUTORS):
            cluster.wait_for_executors(session.info().name)
            for count in [1_000] + [rounds.many] * rounds.count:  # the first warms
                fresh = payloads.make(count)
                sent = [waiting.popleft() for _ in range(min(count, queued))]
                outputs = []
                begin = time.perf_counter()
                for payload in fresh:
                    outputs.append(futures.popleft().result())
                    futures.append(run(payload))
                rates.append(count / (time.perf_counter() - begin))
                waiting.extend(fresh)
                sent += [waiting.popleft() for _ in range(count - len(sent))]
                check(sent, outputs)
            labels = cluster.labels()
            session.close(cancel_running=True)
    return {**labels, "queued": queued, "unit": "tasks/s", **summary(rates[1:])}


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__.partition("\n")[0]))
    rows = [measure(queued, rounds) for queued in (1_000, rounds.scaled(1_000_000))]
    ratio = rows[1]["median"] / rows[0]["median"]
    rows.append({"queued": "ratio", "median": ratio})
    report("flatness", rows, "closed loop over a queue of constant length")


if __name__ == "__main__":
    main()
