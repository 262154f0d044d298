"""The session manager's memory: per queued task, and when everything is finished.

Finished twice: after all were queued at once, and a hundred thousand at a time.
"""

import argparse
import time
from typing import Any

from benchmarks.clusters import EXECUTORS, bench
from benchmarks.nodes import joined
from benchmarks.options import parse
from benchmarks.report import report
from benchmarks.work import Payloads, bulk, check

ACCEPT_TIMEOUT = 120.0  # seconds
SIZE = 16
SETTLE = 5.0  # seconds after which what a peak took is given back; looked at before, too


def finished_in_turns(count: int, turn: int) -> int:
    """The manager's resident bytes after as many tasks, of which never more than a turn waited."""
    payloads = Payloads(seed=13)
    with bench() as cluster, cluster.warm_session() as session:
        for _ in range(count // turn):
            bulk(session, payloads.make(turn, SIZE))
        resident: int = cluster.manager().memory_info().rss
    return resident


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__.partition("\n")[0]))
    count = rounds.scaled(1_000_000)
    payloads = Payloads(seed=5).make(count, SIZE)
    with bench(executors=0) as cluster, cluster.session() as session:
        manager = cluster.manager()
        before = manager.memory_info().rss
        begin = time.perf_counter()
        futures = [session.run(payload) for payload in payloads]
        while session.info().pending < count:  # acknowledged means stored
            assert time.perf_counter() - begin < ACCEPT_TIMEOUT, session.info()
            time.sleep(0.05)
        submitted = time.perf_counter() - begin
        queued = manager.memory_info().rss
        with joined(cluster, EXECUTORS):
            begin = time.perf_counter()
            outputs = [future.result() for future in futures]
            drained = time.perf_counter() - begin
            check(payloads, outputs)
        at_once = manager.memory_info().rss
        time.sleep(SETTLE)
        after = manager.memory_info().rss
        labels = cluster.labels()
    in_turns = finished_in_turns(count, rounds.many)
    rows: list[dict[str, Any]] = [
        {"figure": "resident, idle", "value": before / 1e6, "unit": "MB"},
        {"figure": "resident, all queued", "value": queued / 1e6, "unit": "MB"},
        {"figure": "per queued task", "value": (queued - before) / count, "unit": "bytes"},
        {
            "figure": "the same without payload",
            "value": (queued - before) / count - SIZE,
            "unit": "bytes",
        },
        {"figure": "resident, just finished", "value": at_once / 1e6, "unit": "MB"},
        {"figure": "resident, all finished", "value": after / 1e6, "unit": "MB"},
        {"figure": "resident, finished in turns", "value": in_turns / 1e6, "unit": "MB"},
        {"figure": "submitted and stored", "value": count / submitted, "unit": "tasks/s"},
        {"figure": "drained", "value": count / drained, "unit": "tasks/s"},
    ]
    rows = [{**labels, "tasks": count, **row} for row in rows]
    report("memory", rows, f"{count:,} tasks of {SIZE} bytes, one run")


if __name__ == "__main__":
    main()
