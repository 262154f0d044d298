"""The JSON lines that benchmarks printed, read again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MUCH = 0.1  # cores that other programs may take before it is said

Row = Mapping[str, Any]


class Results:
    """The last line of each benchmark.

    Args:
        lines: Of a results file, or of what a benchmark printed: other lines are passed over.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        for line in lines:
            if line.startswith('{"benchmark"'):
                run = json.loads(line)
                self.runs[run["benchmark"]] = run

    @classmethod
    def of(cls, path: Path) -> "Results":
        with open(path, encoding="utf-8") as file:
            return cls(file)

    def rows(self, benchmark: str, **wanted: Any) -> list[Row]:
        """The rows that have these values; underscores in names stand for blanks."""
        pairs = [(key.replace("_", " "), value) for key, value in wanted.items()]
        rows: list[Row] = self.runs.get(benchmark, {}).get("rows", [])
        return [row for row in rows if all(row.get(key) == value for key, value in pairs)]

    @property
    def is_quick(self) -> bool:
        """Whether any of the runs did less than a full one."""
        return any("--quick" in run["environment"]["options"] for run in self.runs.values())

    def company(self, *benchmarks: str) -> list[str]:
        """Lines that say in which of the runs (default: all) other programs took much of the machine."""
        busy = {
            name: others
            for name, run in self.runs.items()
            if (others := run["environment"].get("others", 0.0)) > MUCH
            and name in (benchmarks or self.runs)
        }
        named = ", ".join(f"{name} ({others:.1f})" for name, others in busy.items())
        return [
            "",
            f"Not alone on the machine, with the cores that others took: {named}.",
        ] * bool(busy)

    def environment(self) -> dict[str, Any]:
        """Where the figures come from, by the last run; empty if there is none."""
        last: dict[str, Any] = next(reversed(self.runs.values()), {}).get("environment", {})
        return last
