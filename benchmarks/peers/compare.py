"""Measures the peers that are installed, each in a new process, and names the others."""

import argparse
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.options import Rounds, parse
from benchmarks.peers import PEERS, Entry, Peer
from benchmarks.report import labels, percentile, summary
from benchmarks.work import Payloads, check

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-bench"
ROUND_SECONDS = 1.0  # a round takes about this, however slow the peer
SETTLE = 0.1  # seconds in which it gives back what the round before left
FIRST_TASKS = 500
MOST_TASKS = 100_000
WARM_TASKS = 200  # before trips
LEAST_TRIPS = 50
TIMEOUT = 90.0  # seconds for one peer


def rows(what: str, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure ``throughput`` or ``latency`` of every installed peer."""
    found: list[dict[str, Any]] = []
    missing: list[str] = []
    for entry in PEERS.values():
        command = [interpreter(), "-m", "benchmarks.peers.compare", entry.name, what]
        command += ["--rounds", str(rounds.count), "--scale", str(rounds.scale)]
        try:
            measured = json.loads(_last_line(command))
        except (subprocess.SubprocessError, ValueError) as error:
            said = getattr(error, "stderr", None) or ""
            print(f"{entry.name} failed: {error}\n{said[-2000:]}", file=sys.stderr)
            continue
        if measured is None:
            missing.append(entry.name)
        else:
            found += measured
    if missing:
        print(
            f"not installed, so not measured: {', '.join(missing)} (`make bench-peers` installs"
            f" them in {ENVIRONMENT.name})",
            file=sys.stderr,
        )
    return found


def interpreter() -> str:
    """Where the peers are installed: their own environment, if it was made; else here."""
    own = ENVIRONMENT / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _last_line(command: list[str]) -> str:
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=TIMEOUT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started goes with it
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, output, errors)
    return output.splitlines()[-1] if output else ""


def throughput(peer: Peer, entry: Entry, rounds: Rounds) -> list[dict[str, Any]]:
    """Tasks per second, all at once."""
    payloads = _payloads(entry)
    found = []
    for size in (16, 1024):
        count = enough(peer, payloads, size, ROUND_SECONDS * rounds.scale)
        rates = [count / run(peer, payloads.make(count, size)) for _ in range(rounds.count)]
        found.append(
            {
                **_labels(peer, entry),
                "mode": "bulk",
                "bytes": size,
                "tasks": count,
                "unit": "tasks/s",
                **summary(rates),
            }
        )
    return found


def enough(peer: Peer, payloads: Payloads, size: int, seconds: float) -> int:
    """As many tasks as take so long; the peer is warm afterwards."""
    run(peer, payloads.make(FIRST_TASKS, size))
    count, taken = FIRST_TASKS, 0.0
    while (
        taken < seconds / 2 and count < MOST_TASKS
    ):  # the first few say little: there are fixed costs
        taken = run(peer, payloads.make(count, size))
        count = min(MOST_TASKS, max(count, int(count * seconds / taken)))
    return count


def latency(peer: Peer, entry: Entry, rounds: Rounds) -> list[dict[str, Any]]:
    """One task at a time, on an idle system."""
    payloads = _payloads(entry)
    run(peer, payloads.make(WARM_TASKS))
    probe = trips(peer, payloads.make(20))
    count = int(ROUND_SECONDS * 1000 * rounds.scale / percentile(probe, 50))
    count = min(rounds.scaled(1_000), max(LEAST_TRIPS, count))
    times = [trips(peer, payloads.make(count)) for _ in range(rounds.count)]
    return [
        {
            **_labels(peer, entry),
            "figure": name,
            "tasks": count,
            "unit": "ms",
            **summary(percentile(each, percent) for each in times),
        }
        for name, percent in (("p50", 50), ("p99", 99))
    ]


def run(peer: Peer, payloads: list[bytes]) -> float:
    """Submit all, take all; seconds from the first submit to the last result."""
    gc.collect()  # the futures of the round before are this round's cost otherwise
    time.sleep(SETTLE)
    begin = time.perf_counter()
    answers = peer.take(peer.submit(payloads))
    seconds = time.perf_counter() - begin
    check(payloads, list(answers))
    return seconds


def trips(peer: Peer, payloads: list[bytes]) -> list[float]:
    """One at a time; the sorted milliseconds."""
    times = []
    for payload in payloads:
        begin = time.perf_counter()
        [answer] = peer.take(peer.submit([payload]))
        times.append((time.perf_counter() - begin) * 1000)
        assert answer == payload[::-1]
    return sorted(times)


class Printable(Payloads):
    """Payloads of hexadecimal digits."""

    def make(self, count: int, size: int = 16, prefix: bytes = b"") -> list[bytes]:
        return [payload.hex().encode() for payload in super().make(count, size // 2, prefix)]


def _payloads(entry: Entry) -> Payloads:
    return (Printable if entry.printable else Payloads)(seed=7)


def _labels(peer: Peer, entry: Entry) -> dict[str, Any]:
    return {**labels(f"({entry.title})"), "setting": peer.setting}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("peer", choices=list(PEERS))
    options.add_argument("what", choices=["throughput", "latency"])
    options.add_argument("--scale", type=float, default=1.0)
    chosen, given = parse(options)
    rounds = Rounds(given.count, given.many, chosen.scale)
    entry = PEERS[chosen.peer]
    if not entry.is_installed:
        print("null")
        return
    peer = entry.start()
    try:
        measure = throughput if chosen.what == "throughput" else latency
        found = measure(peer, entry, rounds)
    finally:
        peer.close()
    print(json.dumps(found))  # the last line, whatever it said when it closed


if __name__ == "__main__":
    main()
