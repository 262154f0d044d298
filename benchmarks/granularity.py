"""How short may a task be? Busy time over elapsed time, against the length of the tasks.

Busy is what the services themselves measured inside ``on_task_invoke``.
"""

import argparse
import itertools
import math
from typing import Any

from benchmarks.clusters import bench
from benchmarks.options import parse
from benchmarks.report import report, summary
from benchmarks.work import Payloads, busy

LENGTHS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)  # microseconds
ROUND_SECONDS = 1.0  # a round takes about this, however short the tasks: a probe says how many
PROBE_TASKS = 200  # at most


def half_useful(points: list[tuple[int, float]]) -> float | None:
    """The length in microseconds at which half the time is useful, between measured ones."""
    for (shorter, low), (longer, high) in itertools.pairwise(points):
        if low < 0.5 <= high:
            part = (0.5 - low) / (high - low)
            return math.exp(math.log(shorter) + part * (math.log(longer) - math.log(shorter)))
    return None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="microseconds")
    chosen, rounds = parse(options)
    payloads = Payloads(seed=3)
    rows: list[dict[str, Any]] = []
    half: dict[str, float | None] = {}
    with bench() as cluster:
        for service in ("Sleep", "Spin"):
            points: list[tuple[int, float]] = []
            with cluster.warm_session(service) as session:
                for length in chosen.lengths:
                    seconds = length / 1e6
                    prefix = length.to_bytes(4, "little")
                    target = rounds.scaled(1000) / 1000 * ROUND_SECONDS
                    probe = max(1, min(PROBE_TASKS, int(target / seconds))) * cluster.executors
                    rate = probe / busy(session, payloads.make(probe, prefix=prefix))[1]
                    each = min(100_000, int(target * rate)) // cluster.executors
                    count = max(2, each) * cluster.executors
                    work = [payloads.make(count, prefix=prefix) for _ in range(rounds.count)]
                    runs = [busy(session, each) for each in work]
                    efficiency = summary(b / elapsed / cluster.executors for b, elapsed in runs)
                    points.append((length, efficiency["median"]))
                    rows.append(
                        {
                            **cluster.labels(),
                            "work": service.lower(),
                            "length us": length,
                            "tasks": count,
                            "figure": "efficiency",
                            **efficiency,
                        }
                    )
            half[service] = half_useful(points)
        labels = cluster.labels()
    rows += [
        {
            **labels,
            "work": service.lower(),
            "figure": "half useful",
            "length us": None if length is None else round(length),
        }
        for service, length in half.items()
    ]
    report("granularity", rows, f"{cluster.executors} executors, busy time over elapsed time")


if __name__ == "__main__":
    main()
