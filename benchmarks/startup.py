"""From ``flame.connect()`` to the first result, each time in a new process."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.options import parse
from benchmarks.report import report, summary

ROOT = Path(__file__).resolve().parent.parent


def once() -> dict[str, float]:
    """Milliseconds of: import, connect to first result, next session to its first result, close."""
    begin = time.perf_counter()
    import flame
    from benchmarks.work import Reverse

    imported = time.perf_counter()
    with flame.connect() as client:
        with client.create_session(Reverse) as session:
            assert session.invoke(b"first") == b"tsrif"
            first = time.perf_counter()
            session.close()
        again = time.perf_counter()
        with client.create_session(Reverse) as session:
            assert session.invoke(b"next") == b"txen"
            following = time.perf_counter()
        ending = time.perf_counter()
    closed = time.perf_counter()
    return {
        "import flame": (imported - begin) * 1000,
        "connect to first result": (first - imported) * 1000,
        "next session to its first result": (following - again) * 1000,
        "close": (closed - ending) * 1000,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    chosen, rounds = parse(options)
    if chosen.once:
        print(json.dumps(once()))
        return
    command = [sys.executable, "-m", "benchmarks.startup", "--once"]
    results = [
        json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        for _ in range(rounds.count)
    ]
    rows: list[dict[str, Any]] = [
        {"figure": name, "unit": "ms", **summary(result[name] for result in results)}
        for name in results[0]
    ]
    report("startup", rows, "embedded cluster, a new process each time")


if __name__ == "__main__":
    main()
