"""Services behind the host shim against a bare loop of ``OnTaskInvoke`` calls.

    executor ──┐
               ├──OnTaskInvoke──▶ <socket> ── the program with the service
    bare loop ─┘

The bare loop calls the very programs that the executors started, on their sockets, while the session
is idle: what it reaches is all that gRPC over a Unix socket gives. One loop a program, each in a
process of its own, as each program has its own executor.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import psutil

import flame
from benchmarks.clusters import Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.report import NO_FLAME, labels, report, summary
from benchmarks.work import Payloads, Reverse, bulk
from flame.sdk.service import ENDPOINT
from flame.wire import v1
from flame.wire.channels import channel_options

TASKS = 2_000  # a program and round
WARM_CALLS = 300
ROOT = Path(__file__).resolve().parent.parent


def loop(path: str, count: int) -> None:
    """The bare loop: says when it is ready, waits for a line, says how many seconds it took."""
    payloads = Payloads(seed=9).make(count)
    options = [*channel_options(), ("grpc.enable_retries", 0)]  # as Flame's own calls
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        method: Any = v1.INSTANCE["OnTaskInvoke"]
        invoke = method.on(channel)
        for number, payload in enumerate(payloads[:WARM_CALLS]):
            invoke(v1.TaskContext(task_id=str(number), session_id="bare", input=payload))
        print("ready", flush=True)
        sys.stdin.readline()
        begin = time.perf_counter()
        outputs = [
            invoke(v1.TaskContext(task_id=str(number), session_id="bare", input=payload)).output
            for number, payload in enumerate(payloads)
        ]
        seconds = time.perf_counter() - begin
    assert outputs == [payload[::-1] for payload in payloads]
    print(seconds, flush=True)


def bare(paths: list[str], count: int) -> float:
    """Calls per second of one bare loop a socket, all at the same time."""
    with contextlib.ExitStack() as stack:
        loops = []
        for path in paths:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.host_service", "--role", "loop"),
                    *("--socket", path, "--tasks", str(count)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            loops.append(process)
        for process in loops:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in loops:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        # The slowest ends the run, as the last result ends Flame's.
        seconds = max(float(process.stdout.readline()) for process in loops if process.stdout)
    return len(paths) * count / seconds


def sockets() -> list[str]:
    """Where the services of our executors listen."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "benchmarks.host_service" in process.cmdline():
                found.add(process.environ()[ENDPOINT])
    return sorted(found)


def measure(cluster: Bench, rounds: Rounds) -> list[dict[str, Any]]:
    payloads = Payloads(seed=10)
    count = rounds.scaled(TASKS)
    ours: list[float] = []
    theirs: list[float] = []
    with cluster.session("Host", min_instances=cluster.executors) as session:
        cluster.wait_for_executors(session.name)
        paths = sockets()
        assert len(paths) == cluster.executors, paths
        bulk(session, payloads.make(WARM_CALLS))
        for _ in range(rounds.count):  # in turn, so that a slow minute hurts both
            work = payloads.make(count * len(paths))
            ours.append(len(work) / bulk(session, work))
            theirs.append(bare(paths, count))
    same = {"executors": cluster.executors, "tasks": count * len(paths), "unit": "tasks/s"}
    ratio = summary(our / their for our, their in zip(ours, theirs, strict=True))["median"]
    return [
        {**cluster.labels(), "calls": "Flame", **same, **summary(ours), "of bare": ratio},
        {**labels(NO_FLAME, "-"), "calls": "bare loop", **same, **summary(theirs)},
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--role", choices=["client", "service", "loop"], default="client")
    options.add_argument("--socket", default="")
    options.add_argument("--tasks", type=int, default=TASKS)
    chosen, rounds = parse(options)
    if chosen.role == "service":
        flame.run_service(Reverse())
    elif chosen.role == "loop":
        loop(chosen.socket, chosen.tasks)
    else:
        rows: list[dict[str, Any]] = []
        for executors in (1, 2):
            with bench(executors=executors) as cluster:
                rows += measure(cluster, rounds)
        report("host_service", rows, "16 bytes; bare loops on the same sockets and services")


if __name__ == "__main__":
    main()
