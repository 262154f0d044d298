"""The table of other systems: Flame and what was measured beside it, the fastest first."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report import NO_FLAME
from benchmarks.results import Results, Row

HEAD = [
    "| System | 16 B, tasks/s | 1 KiB, tasks/s | round trip p50, ms | p99, ms | Setting |",
    "|---|---|---|---|---|---|",
]
FLAME_SETTING = {
    "durable": "as it comes: every task in SQLite",
    "sync": "every commit waits for the disk",
    "memory": "nothing is stored",
}


def system(row: Row) -> str:
    """What a row is about, in a table or a drawing."""
    if row["storage"] == NO_FLAME:
        return "raw gRPC, no Flame"
    if row["storage"].startswith("("):
        return str(row["storage"])[1:-1]
    return f"Flame, {row['durability']}"


def fastest(results: Results, size: int) -> dict[str, Row]:
    """Of each system its largest run of all tasks at once."""
    largest: dict[str, Row] = {}
    for row in results.rows("throughput", mode="bulk", bytes=size):
        name = system(row)
        if name not in largest or row["tasks"] > largest[name]["tasks"]:
            largest[name] = row
    return largest


def markdown(results: Results) -> str:
    """The table; empty if only Flame was measured."""
    small, large = fastest(results, 16), fastest(results, 1024)
    if not any("setting" in row for row in small.values()):
        return ""
    trips: dict[str, dict[str, float]] = {}
    for row in results.rows("latency"):
        trips.setdefault(system(row), {})[row["figure"]] = row["median"]
    lines = [*HEAD]
    for name, row in sorted(small.items(), key=lambda pair: -pair[1]["median"]):
        if row["storage"] == NO_FLAME:
            continue
        p50, p99 = (_milliseconds(trips.get(name, {}), figure) for figure in ("p50", "p99"))
        rates = f"{row['median']:,.0f} | {large[name]['median']:,.0f}"
        lines.append(f"| {name} | {rates} | {p50} | {p99} | {_setting(row)} |")
    return "\n".join([*lines, *results.company("throughput", "latency")])


def _milliseconds(trips: Mapping[str, float], figure: str) -> str:
    return f"{trips[figure]:.2f}" if figure in trips else "not measured"


def _setting(row: Mapping[str, Any]) -> str:
    return str(row.get("setting") or FLAME_SETTING[row["durability"]])
