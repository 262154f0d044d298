"""The JSON lines that benchmarks printed, read again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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

    def environment(self) -> dict[str, Any]:
        """Where the figures come from, by the last run; empty if there is none."""
        last: dict[str, Any] = next(reversed(self.runs.values()), {}).get("environment", {})
        return last
