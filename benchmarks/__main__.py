"""All benchmarks, one after the other, each in a process of its own: ``python -m benchmarks``."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.options import parse

ROOT = Path(__file__).resolve().parent.parent
ALL = (
    "throughput",
    "latency",
    "startup",
    "restart",
    "commands",
    "granularity",
    "sessions",
    "released_clients",
    "fleet",
    "faces",
    "host_service",
    "flatness",
    "memory",
    "scheduler",
    "fairness",
)
WITH_PEERS = ("throughput", "latency")


def run(command: list[str], results: Path | None) -> int:
    """Run one benchmark, show what it prints, and append its JSON lines to the results."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if results is not None and line.startswith("{"):
                with open(results, "a", encoding="utf-8") as file:
                    file.write(line)
    return process.returncode


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help=f"of {', '.join(ALL)}; default: all")
    options.add_argument("--peers", action="store_true", help="other systems too, where installed")
    options.add_argument("--append", type=Path, metavar="FILE", help="add the JSON lines to a file")
    chosen, _ = parse(options)
    unknown = sorted(set(chosen.names) - set(ALL))
    if unknown:
        options.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}")
    passed_on = ["--quick"] if chosen.quick else []
    if chosen.rounds:
        passed_on += ["--rounds", str(chosen.rounds)]
    results = chosen.append.absolute() if chosen.append else None
    failed = []
    for name in chosen.names or ALL:
        command = [sys.executable, "-m", f"benchmarks.{name}", *passed_on]
        if chosen.peers and name in WITH_PEERS:
            command.append("--peers")
        begin = time.monotonic()
        if run(command, results):
            failed.append(name)
        print(f"{name} took {time.monotonic() - begin:.0f} s", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
