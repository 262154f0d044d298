"""The benchmarks run and say what their figures depend on; what the figures are is no test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 110.0  # seconds


def rows_of(*arguments: str) -> list[dict[str, object]]:
    result = subprocess.run(
        [sys.executable, "-m", *arguments, "--quick", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    [line] = [line for line in result.stdout.splitlines() if line.startswith("{")]
    answer = json.loads(line)
    assert answer["environment"]["cores"] >= 1
    rows: list[dict[str, object]] = answer["rows"]
    return rows


def test_a_benchmark_names_its_storage_and_journal() -> None:
    rows = rows_of("benchmarks", "latency")
    assert {row["storage"] for row in rows} == {"sqlite", "memory"}
    durable = next(row for row in rows if row["storage"] == "sqlite")
    assert (durable["journal"], durable["synchronous"]) == ("wal", "NORMAL")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["throughput", "startup", "sessions", "memory", "flatness"])
def test_every_benchmark_runs_and_checks_its_results(name: str) -> None:
    assert rows_of(f"benchmarks.{name}")
