"""Tasks per second: all at once, and with a bounded number outstanding; and as a part of what the
same frames reach with no Flame in between, in the same run.
"""

import argparse
from typing import Any

import uvloop

from benchmarks import raw_transport
from benchmarks.clusters import STORAGES, Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import report, summary
from benchmarks.work import Payloads, bulk, closed_loop


def measure(cluster: Bench, rounds: Rounds) -> list[dict[str, Any]]:
    payloads = Payloads(seed=1)
    rates: dict[tuple[str, int, int], list[float]] = {}
    bulks = [(size, count) for size in (16, 1024) for count in (10_000, rounds.many)]
    with cluster.warm_session() as session:
        for _ in range(rounds.count):
            for size, count in bulks:
                work = payloads.make(count, size)
                rates.setdefault(("bulk", size, count), []).append(count / bulk(session, work))
            for outstanding, count in raw_transport.LOOPS:
                work = payloads.make(rounds.scaled(count))
                rate = len(work) / closed_loop(session, work, outstanding)
                rates.setdefault((f"{outstanding} outstanding", 16, len(work)), []).append(rate)
    return [
        {
            **cluster.labels(),
            "mode": mode,
            "bytes": size,
            "tasks": count,
            "unit": "tasks/s",
            **summary(values),
            "ms": count / summary(values)["median"] * 1000,
        }
        for (mode, size, count), values in rates.items()
    ]


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__.partition("\n")[0]))
    rows: list[dict[str, Any]] = []
    for storage in STORAGES:
        with bench(storage) as cluster:
            rows += measure(cluster, rounds)
    with raw_transport.processes() as port:
        raw = uvloop.run(raw_transport.measure(port, rounds))
    rates = {(row["mode"], row["bytes"], row["tasks"]): row["median"] for row in raw}
    for row in rows:
        row["of raw"] = row["median"] / rates[row["mode"], row["bytes"], row["tasks"]]
    rows += [{"storage": "(no Flame)", **row} for row in raw if row["unit"] == "tasks/s"]
    report("throughput", rows, "first submit to last result, session warm, 2 executors")


if __name__ == "__main__":
    main()
