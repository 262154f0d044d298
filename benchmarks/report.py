"""What a benchmark prints: a table for people, then one JSON line for programs."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from flame.cli.tables import table

PACKAGES = ("flame", "grpcio", "protobuf", "apsw", "uvloop")


def environment() -> dict[str, Any]:
    """Where the figures come from, and how many cores other programs took meanwhile."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "others": _others(),
        "cpu": _processor(),
        "options": sys.argv[1:],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


NO_FLAME = "(no Flame)"  # in place of a storage: what is compared with


def labels(storage: str, durability: str = "memory", journal: str = "-") -> dict[str, str]:
    """What a figure depends on, the same columns in every row; ``-`` where there is none.

    ``synchronous`` is what the store sets for commits of sessions with this durability.
    """
    level = {"durable": "NORMAL", "sync": "FULL"}.get(durability, "-")
    return {
        "storage": storage,
        "durability": durability,
        "journal": journal,
        "synchronous": level,
    }


def summary(values: Iterable[float]) -> dict[str, float]:
    """Median, least and most of the rounds, and how many they were."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "rounds": len(ordered),
    }


def over(row: Mapping[str, Any], other: Mapping[str, Any], **named: Any) -> dict[str, Any]:
    """A row that says how many times the median of another a row's is."""
    alike = {name: row[name] for name in ("rounds", *labels(""))}
    return {**alike, **named, "median": row["median"] / other["median"]}


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


def _cpu_seconds() -> tuple[float, float]:
    """Of all cores since the machine started; of our processes that have ended, and this one."""
    busy = psutil.cpu_times()
    ours = os.times()
    return (
        busy.user + busy.nice + busy.system,
        ours.user + ours.system + ours.children_user + ours.children_system,
    )


_BEGIN = time.monotonic(), *_cpu_seconds()


def _others() -> float:
    """Cores that others kept busy since this module was imported, as far as our own have ended."""
    now = time.monotonic(), *_cpu_seconds()
    seconds, busy, ours = (later - earlier for later, earlier in zip(now, _BEGIN, strict=True))
    return round(max(0.0, busy - ours) / max(seconds, 0.01), 2)


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
