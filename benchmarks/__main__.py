"""All benchmarks, one after the other, each in a process of its own: ``python -m benchmarks``."""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.options import parse

ROOT = Path(__file__).resolve().parent.parent
ALL = (
    "throughput",
    "latency",
    "startup",
    "granularity",
    "sessions",
    "flatness",
    "memory",
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help=f"of {', '.join(ALL)}; default: all")
    chosen, _ = parse(options)
    unknown = sorted(set(chosen.names) - set(ALL))
    if unknown:
        options.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}")
    passed_on = ["--quick"] if chosen.quick else []
    if chosen.rounds:
        passed_on += ["--rounds", str(chosen.rounds)]
    failed = [
        name
        for name in chosen.names or ALL
        if subprocess.call([sys.executable, "-m", f"benchmarks.{name}", *passed_on], cwd=ROOT)
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
