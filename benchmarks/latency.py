"""Round trips: sequential ``invoke`` on an idle cluster."""

import argparse
from typing import Any

from benchmarks.clusters import STORAGES, bench
from benchmarks.options import parse
from benchmarks.report import percentile, report, summary
from benchmarks.work import Payloads, round_trips


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    rows: list[dict[str, Any]] = []
    payloads = Payloads(seed=2)
    count = rounds.scaled(2_000)
    for storage in STORAGES:
        with bench(storage) as cluster, cluster.warm_session() as session:
            round_trips(session, payloads.make(100))
            trips = [round_trips(session, payloads.make(count)) for _ in range(rounds.count)]
            labels = cluster.labels()
        for name, percent in (("p50", 50), ("p99", 99)):
            values = [percentile(times, percent) for times in trips]
            rows.append({**labels, "figure": name, "tasks": count, "unit": "ms", **summary(values)})
    report("latency", rows, "one invoke at a time, 16 bytes")


if __name__ == "__main__":
    main()
