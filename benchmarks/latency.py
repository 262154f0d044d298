"""Round trips: sequential ``invoke`` on an idle cluster."""

import argparse
from typing import Any

from benchmarks.clusters import bench
from benchmarks.options import parse
from benchmarks.peers import compare
from benchmarks.report import percentile, report, summary
from benchmarks.work import Payloads, round_trips


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peers", action="store_true", help="other systems too, where installed")
    chosen, rounds = parse(options)
    rows: list[dict[str, Any]] = []
    payloads = Payloads(seed=2)
    count = rounds.scaled(1_000)
    for durability in ("durable", "sync", "memory"):
        storage = "memory" if durability == "memory" else "sqlite"
        with bench(storage) as started:
            cluster = started.with_durability(durability)
            with cluster.warm_session() as session:
                round_trips(session, payloads.make(100))
                trips = [round_trips(session, payloads.make(count)) for _ in range(rounds.count)]
                labels = cluster.labels()
        for name, percent in (("p50", 50), ("p99", 99)):
            values = [percentile(times, percent) for times in trips]
            rows.append({**labels, "figure": name, "tasks": count, "unit": "ms", **summary(values)})
    if chosen.peers:
        rows += compare.rows("latency", rounds)
    report("latency", rows, "one invoke at a time, 16 bytes")


if __name__ == "__main__":
    main()
