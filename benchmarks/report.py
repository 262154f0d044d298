"""What a benchmark prints: a table for people, then one JSON line for programs."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flame.cli.tables import table

PACKAGES = ("flame", "grpcio", "protobuf", "apsw", "uvloop")


def environment() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _processor(),
        "options": sys.argv[1:],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def summary(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most of the rounds."""
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "min": ordered[0], "max": ordered[-1]}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(name: str, rows: Sequence[dict[str, Any]], note: str = "") -> None:
    """Print the rows as a table, rounded, and then whole as one line of JSON."""
    titles = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n{name}" + (f": {note}" if note else ""))
    print(
        table(
            dict.fromkeys(titles, 8), [[_shown(row.get(title)) for title in titles] for row in rows]
        )
    )
    print(json.dumps({"benchmark": name, "rows": list(rows), "environment": environment()}))
    sys.stdout.flush()


def _shown(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
