"""Many sessions at once against one: the same number of tasks, spread over sessions."""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flame
from benchmarks.clusters import Bench, CpuSeconds, bench
from benchmarks.options import parse
from benchmarks.report import over, report, summary
from benchmarks.work import Payloads, check

TASKS_EACH = 100


class Seconds(NamedTuple):
    """Of opening all sessions, of all their tasks, of closing them; and of CPU for the tasks."""

    opening: float
    working: float
    closing: float
    cpu: CpuSeconds


def run(cluster: Bench, service: str, sessions: int, each: int, payloads: Payloads) -> Seconds:
    """Open all, submit all, take all, close all."""
    work = [payloads.make(each) for _ in range(sessions)]
    begin = time.perf_counter()
    sessions_open = [cluster.session(service) for _ in range(sessions)]
    opened = time.perf_counter() - begin
    before = cluster.cpu_seconds()
    begin = time.perf_counter()
    futures: list[list[flame.Future]] = [
        [session.run(payload) for payload in batch]
        for session, batch in zip(sessions_open, work, strict=True)
    ]
    outputs = [[future.result() for future in batch] for batch in futures]
    worked = time.perf_counter() - begin
    cpu = cluster.cpu_seconds().since(before)
    begin = time.perf_counter()
    for session in sessions_open:
        session.close()
    closed = time.perf_counter() - begin
    for batch, answers in zip(work, outputs, strict=True):
        check(batch, answers)
    return Seconds(opened, worked, closed, cpu)


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    many = rounds.scaled(1_000)
    few = max(1, many // 10)  # fresh processes: each costs a start
    payloads = Payloads(seed=6)
    rows: list[dict[str, Any]] = []
    with bench() as cluster:
        for service, sessions, each in (
            ("Reusable", 1, many * TASKS_EACH),
            ("Reusable", many, TASKS_EACH),
            ("Reverse", few, TASKS_EACH),
        ):
            run(cluster, service, 1, 100, payloads)  # warm
            count = rounds.count if service == "Reusable" else 1
            runs = [run(cluster, service, sessions, each, payloads) for _ in range(count)]
            rows.append(
                {
                    **cluster.labels(),
                    "processes": "reused" if service == "Reusable" else "fresh",
                    "sessions": sessions,
                    "tasks each": each,
                    "unit": "tasks/s",
                    **summary(sessions * each / seconds.working for seconds in runs),
                    "open ms each": summary(s.opening for s in runs)["median"] / sessions * 1000,
                    "close ms each": summary(s.closing for s in runs)["median"] / sessions * 1000,
                    **(_cpu(runs, sessions * each) if service == "Reusable" else {}),
                }
            )
    rows.append(over(rows[1], rows[0], sessions="many over one"))
    report("sessions", rows, f"first submit to last result; CPU in us for {TASKS_EACH} tasks")


def _cpu(runs: Sequence[Seconds], tasks: int) -> dict[str, float]:
    """What TASKS_EACH tasks cost each part, in microseconds. Of executors that stay, not of fresh ones."""
    return {
        f"{part} CPU": statistics.median(getattr(run.cpu, part) for run in runs)
        * (1e6 * TASKS_EACH / tasks)
        for part in CpuSeconds._fields
    }


if __name__ == "__main__":
    main()
