"""Measures the peers that are installed, each in a new process, and names the others."""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.options import Rounds, parse
from benchmarks.peers import PEERS, Entry, Peer
from benchmarks.report import percentile, summary
from benchmarks.work import Payloads, check

ROOT = Path(__file__).resolve().parents[2]
ROUND_SECONDS = 1.0  # a round takes about this, however slow the peer
PROBE_TASKS = 200
LEAST_TASKS = 100
TIMEOUT = 180.0  # seconds for one peer


def rows(what: str, rounds: Rounds) -> list[dict[str, Any]]:
    """Measure ``throughput`` or ``latency`` of every installed peer."""
    found: list[dict[str, Any]] = []
    for entry in PEERS.values():
        if not entry.is_installed:
            print(
                f"{entry.name} is not installed, so not measured; in an environment of its own: "
                "pip install -r requirements/bench.txt && pip install --no-deps -e .",
                file=sys.stderr,
            )
            continue
        command = [sys.executable, "-m", "benchmarks.peers.compare", entry.name, what]
        command += ["--rounds", str(rounds.count), "--scale", str(rounds.scale)]
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
        try:
            result = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=TIMEOUT,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = error.stderr or b""
            text = said if isinstance(said, str) else said.decode(errors="replace")
            print(f"{entry.name} failed: {error}\n{text[-2000:]}", file=sys.stderr)
            continue
        lines = [line for line in result.stdout.splitlines() if line.startswith("[")]
        found += json.loads(lines[-1])
    return found


def throughput(peer: Peer, entry: Entry, rounds: Rounds) -> list[dict[str, Any]]:
    """Tasks per second, all at once."""
    payloads = _payloads(entry)
    found = []
    for size in (16, 1024):
        run(peer, payloads.make(PROBE_TASKS, size))  # warm
        probe = PROBE_TASKS / run(peer, payloads.make(PROBE_TASKS, size))
        count = max(LEAST_TASKS, int(probe * ROUND_SECONDS * rounds.scale))
        count = min(100_000, count)
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


def latency(peer: Peer, entry: Entry, rounds: Rounds) -> list[dict[str, Any]]:
    """One task at a time, on an idle system."""
    payloads = _payloads(entry)
    run(peer, payloads.make(PROBE_TASKS))  # warm
    probe = trips(peer, payloads.make(10))
    count = int(ROUND_SECONDS * 1000 * rounds.scale / percentile(probe, 50))
    count = min(rounds.scaled(2_000), max(LEAST_TASKS, count))
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
    return {"storage": f"({entry.title})", "durability": "memory", "setting": peer.setting}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("peer", choices=list(PEERS))
    options.add_argument("what", choices=["throughput", "latency"])
    options.add_argument("--scale", type=float, default=1.0)
    chosen, given = parse(options)
    rounds = Rounds(given.count, given.many, chosen.scale)
    entry = PEERS[chosen.peer]
    peer = entry.start()
    try:
        measure = throughput if chosen.what == "throughput" else latency
        print(json.dumps(measure(peer, entry, rounds)))
    finally:
        peer.close()


if __name__ == "__main__":
    main()
