"""A thousand commands: ``flmexec -t 1000 -c true`` beside ``xargs -P2``, start of the program included.

Both run as many at a time. The cluster runs already, as it would; the last line says what starting
one for the run adds.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.clusters import EXECUTORS, bench
from benchmarks.options import parse
from benchmarks.report import NO_FLAME, labels, over, report, summary

TASKS = 1_000
FLMEXEC = [sys.executable, "-m", "flame.cli.flmexec", "-t", str(TASKS), "-c", "true"]


def seconds_of(command: list[str], environment: dict[str, str], stdin: str = "") -> float:
    """How long a command takes, which must succeed."""
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, input=stdin, text=True, capture_output=True)
    took = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with code {done.returncode}: {done.stderr}")
    return took


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLAME_")}
    items = "".join(f"{n}\n" for n in range(1, TASKS + 1))
    with bench() as running:
        cluster = running.cluster
        connected = {
            **own,
            "FLAME_ENDPOINT": cluster.endpoint,
            "FLAME_TOKEN_FILE": str(cluster.token_file),
        }
        xargs = ["xargs", f"-P{EXECUTORS}"]
        commands: dict[str, Callable[[], float]] = {
            "xargs -P2 -I{} sh -c true": lambda: seconds_of(
                [*xargs, "-I{}", "sh", "-c", "true"], own, items
            ),
            "xargs -P2 -n1 true": lambda: seconds_of([*xargs, "-n1", "true"], own, items),
            "flmexec -c true": lambda: seconds_of(FLMEXEC, connected),
            "flmexec --executors 2 -c true": lambda: seconds_of(
                [*FLMEXEC, "--executors", str(EXECUTORS)], own
            ),
        }
        seconds_of(FLMEXEC, connected)  # the first time, executors start
        # Turn by turn, so that what else the machine does meets all of them.
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds.count):
            for name, run in commands.items():
                taken[name].append(run() * 1000)
        rows: list[dict[str, Any]] = [
            {
                **(labels(NO_FLAME, "-") if name.startswith("xargs") else running.labels()),
                "commands": f"{TASKS:,} x {name}",
                "unit": "ms",
                **summary(times),
            }
            for name, times in taken.items()
        ]
        fastest = min(rows[:2], key=lambda row: float(row["median"]))
        rows.append(over(rows[2], fastest, commands="flmexec over xargs"))
        report("commands", rows, f"{EXECUTORS} at a time, start of the program included")


if __name__ == "__main__":
    main()
