"""How short may a task be? Busy time over elapsed time, against the length of the tasks.

Busy is what the services themselves measured inside ``on_task_invoke``. A service that has to wait
for a core while Flame's processes use it counts that as busy too, so beside it stands ``of alone``: the
time that as many tasks take alone on the idle machine, over elapsed time. The task length at which
half the time is useful is found by the latter, for spinning tasks: a sleep of a microsecond takes
sixty.
"""

import argparse
import itertools
import math
import statistics
import time
from typing import Any

import flame
from benchmarks.clusters import EXECUTORS, Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import report, summary
from benchmarks.work import Payloads, Sleep, Spin, busy
from flame.model.ids import TaskId

LENGTHS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)  # microseconds
SHORTER = (1, 3)  # of spinning tasks only
ROUND_SECONDS = 0.6  # a round takes about this, however short the tasks: a probe says how many
#: Of the lengths whose efficiency has a target: a round's start and end, 5 ms or so, are no part of it.
LONG_ROUNDS = {1_000: 2.0, 10_000: 2.5}
PROBE_TASKS = 200  # at most
ALONE_SECONDS = 0.2  # of tasks alone, or one task
SERVICES: dict[str, flame.FlameService] = {"Sleep": Sleep(), "Spin": Spin()}


def half_useful(points: list[tuple[int, float]]) -> float | None:
    """The length in microseconds at which half the time is useful, between measured ones."""
    for (shorter, low), (longer, high) in itertools.pairwise(points):
        if low < 0.5 <= high:
            part = (0.5 - low) / (high - low)
            return math.exp(math.log(shorter) + part * (math.log(longer) - math.log(shorter)))
    return None


def alone(service: str, length: int) -> float:
    """Seconds that one such task takes in this process, with nothing beside it."""
    host, payloads = SERVICES[service], Payloads(seed=12)
    times: list[float] = []
    until = time.perf_counter() + ALONE_SECONDS
    while not times or time.perf_counter() < until:
        [data] = payloads.make(1, prefix=length.to_bytes(4, "little"))
        context = flame.TaskContext(TaskId(1), "alone", data)
        begin = time.perf_counter()
        host.on_task_invoke(context)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def measure(
    cluster: Bench, session: flame.Session, length: int, each_alone: float, rounds: Rounds
) -> dict[str, Any]:
    """One length of tasks."""
    payloads = Payloads(seed=length)
    prefix = length.to_bytes(4, "little")
    executors = cluster.executors
    target = rounds.scaled(1000) / 1000 * LONG_ROUNDS.get(length, ROUND_SECONDS)
    probe = max(1, min(PROBE_TASKS, int(target / each_alone))) * executors
    rate = probe / busy(session, payloads.make(probe, prefix=prefix))[1]
    each = min(100_000, int(target * rate)) // executors
    count = max(1, each) * executors
    work = [payloads.make(count, prefix=prefix) for _ in range(rounds.count)]
    runs = [busy(session, each) for each in work]
    return {
        "length us": length,
        "alone us": each_alone * 1e6,
        "busy us": summary(spent / count for spent, _ in runs)["median"] * 1e6,
        "tasks": count,
        "figure": "efficiency",
        **summary(spent / elapsed / executors for spent, elapsed in runs),
        "of alone": summary(each_alone * count / elapsed / executors for _, elapsed in runs)[
            "median"
        ],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--lengths", type=int, nargs="+", help="microseconds")
    chosen, rounds = parse(options)
    lengths = {
        "Sleep": chosen.lengths or LENGTHS,
        "Spin": chosen.lengths or (*SHORTER, *LENGTHS),
    }
    by_itself = {
        (service, length): alone(service, length)
        for service in lengths
        for length in lengths[service]
    }
    rows: list[dict[str, Any]] = []
    with bench() as cluster:
        for service in lengths:
            with cluster.warm_session(service) as session:
                for length in lengths[service]:
                    row = measure(cluster, session, length, by_itself[service, length], rounds)
                    rows.append({**cluster.labels(), "work": service.lower(), **row})
        labels = cluster.labels()
    half = half_useful(
        [(row["length us"], row["of alone"]) for row in rows if row["work"] == "spin"]
    )
    rows.append(
        {
            **labels,
            "work": "spin",
            "figure": "half useful",
            "length us": None if half is None else round(half, 1),
        }
    )
    report("granularity", rows, f"{EXECUTORS} executors, busy time over elapsed time")


if __name__ == "__main__":
    main()
