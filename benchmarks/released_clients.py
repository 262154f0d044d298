"""Tasks per second for clients of the v1 API: for each task one call that creates it and one stream
that watches it, as released clients work.

Two clients: our own load client (:mod:`benchmarks.v1_load`, with nothing but the two calls), and
``flamepy``, the released SDK, in an environment of its own (``make test`` makes it;
FLAME_TEST_FLAMEPY_PYTHON names its interpreter). On two cores the clients are half of what there is to do, so the CPU time that each side
spends on a task stands beside the rate.
"""

import argparse
import json
import os
import resource
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from benchmarks.clusters import ROOT, Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import report, summary
from benchmarks.v1_load import LoadClient
from benchmarks.work import Payloads

TASKS = 6_000
RELEASED_TASKS = 1_000
LOOPS = (8, 64, 512)  # tasks outstanding
PATIENCE = 120.0  # seconds

#: Prints the seconds from the first submit to the last result, and its own CPU seconds.
RELEASED = """
import json, os, random, resource, sys, time, flamepy
from concurrent.futures import wait
name, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
session = flamepy.open_session(name)
draw = random.Random(seed)
payloads = [draw.randbytes(16) for _ in range(count)]
session.invoke(b"warm")
used = resource.getrusage(resource.RUSAGE_SELF)
begin = time.perf_counter()
futures = [session.run(payload) for payload in payloads]
outputs = [future.result(timeout=120) for future in futures]
seconds = time.perf_counter() - begin
now = resource.getrusage(resource.RUSAGE_SELF)
assert outputs == [payload[::-1] for payload in payloads]
cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
print(json.dumps([seconds, cpu]), flush=True)
os._exit(0)  # its thread pool is done; nothing is left to wait for
"""


class Cpu:
    """CPU seconds of the cluster's processes since this was made."""

    def __init__(self, cluster: Bench) -> None:
        manager = cluster.manager()
        others = psutil.Process(cluster.cluster.pids["executor-manager"])
        self._manager = manager.pid
        self._executors = [others.pid, *(child.pid for child in others.children(recursive=True))]
        self._before = self._now()

    def spent(self) -> tuple[float, float]:
        """Of the session manager; of the executors and their manager."""
        manager, executors = self._now()
        return manager - self._before[0], executors - self._before[1]

    def _now(self) -> tuple[float, float]:
        return _seconds(self._manager), sum(_seconds(pid) for pid in self._executors)


def _seconds(pid: int) -> float:
    """Read from the scheduler, in nanoseconds: the usual figures come in ticks of 10 ms."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            nanoseconds += int(path.read_bytes().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # that thread has ended
            continue
    return nanoseconds / 1e9


def released_python() -> str | None:
    """The interpreter that has flamepy, if there is one."""
    named = os.environ.get("FLAME_TEST_FLAMEPY_PYTHON") or str(ROOT / ".venv-flamepy/bin/python")
    return named if Path(named).exists() else None


def released(python: str, cluster: Bench, session: str, count: int, seed: int) -> tuple[float, ...]:
    """Run flamepy's own client; seconds for all tasks, and its CPU seconds."""
    done = subprocess.run(
        [python, "-c", RELEASED, session, str(count), str(seed)],
        env={"PATH": os.environ["PATH"], "FLAME_ENDPOINT": cluster.cluster.endpoint},
        check=True,
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
    )
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def measure(cluster: Bench, rounds: Rounds) -> list[dict[str, Any]]:
    """The rows of one storage."""
    payloads = Payloads(seed=9)
    target = cluster.cluster.endpoint.partition("//")[2]
    python = released_python()
    found: dict[tuple[str, int | None, int], list[tuple[float, ...]]] = {}
    with cluster.warm_session() as session, closing(LoadClient(target, session.name)) as load:
        load.run(payloads.make(500), 64)
        for number in range(rounds.count):
            for outstanding in LOOPS:
                count = rounds.scaled(TASKS if outstanding == max(LOOPS) else TASKS // 4)
                work = payloads.make(count)
                cpu, own = Cpu(cluster), _own()
                seconds = load.run(work, outstanding)
                found.setdefault(("load client", outstanding, count), []).append(
                    (seconds, _own() - own, *cpu.spent())
                )
            if python is not None:
                count = rounds.scaled(RELEASED_TASKS)
                cpu = Cpu(cluster)
                seconds, own = released(python, cluster, session.name, count, number)
                found.setdefault(("flamepy 0.6.0", None, count), []).append(
                    (seconds, own, *cpu.spent())
                )
    return [
        {
            **cluster.labels(),
            "client": client,
            "outstanding": outstanding if outstanding is not None else "all",
            "tasks": count,
            "unit": "tasks/s",
            **summary(count / run[0] for run in runs),
            **{
                f"{who} us": summary(run[place] / count * 1e6 for run in runs)["median"]
                for place, who in enumerate(("client", "manager", "executors"), 1)
            },
        }
        for (client, outstanding, count), runs in found.items()
    ]


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__.partition("\n\n")[0]))
    rows: list[dict[str, Any]] = []
    for storage in ("sqlite", "memory"):
        with bench(storage, anonymous=True) as cluster:
            rows += measure(cluster, rounds)
    report("released clients", rows, "a create and a watch per task; CPU per task beside the rate")


if __name__ == "__main__":
    main()
