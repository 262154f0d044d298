"""The benchmarks run and say what their figures depend on; what the figures are is no test's business."""

import json
import subprocess
import sys
import xml.dom.minidom
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import other_systems, plot, table
from benchmarks.report import labels
from benchmarks.results import Results
from flame.storage.sqlite.store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 110.0  # seconds


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    return result


def rows_of(*arguments: str) -> list[dict[str, object]]:
    result = run(*arguments, "--quick", "--rounds", "1")
    [line] = [line for line in result.stdout.splitlines() if line.startswith("{")]
    answer = json.loads(line)
    assert answer["environment"]["cores"] >= 1
    rows: list[dict[str, object]] = answer["rows"]
    assert all(set(labels("")) <= set(row) for row in rows), rows
    return rows


def results_of(**rows: list[dict[str, object]]) -> Results:
    environment = {
        "cores": 2,
        "cpu": "a processor",
        "python": "3.11.7",
        "options": [],
        "versions": {"flame": "0.1.0"},
    }
    return Results(
        json.dumps({"benchmark": name, "rows": rows, "environment": environment})
        for name, rows in rows.items()
    )


def test_a_benchmark_names_its_storage_and_journal() -> None:
    rows = rows_of("benchmarks", "latency")
    assert {row["rounds"] for row in rows} == {1}
    assert {row["storage"] for row in rows} == {"sqlite", "memory"}
    levels = {row["durability"]: row["synchronous"] for row in rows if row["storage"] == "sqlite"}
    assert levels == {"durable": "NORMAL", "sync": "FULL"}
    assert {row["journal"] for row in rows if row["storage"] == "sqlite"} == {"wal"}


def test_the_synchronous_level_in_a_row_is_the_one_that_the_store_commits_with(
    tmp_path: Path,
) -> None:
    levels = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    with closing(SqliteStore(tmp_path / "flame.db")) as store:
        store.load()
        for durability in ("durable", "sync", "durable"):
            store.commit([], sync=durability == "sync")
            level = levels[store._writer._connection.pragma("synchronous")]
            assert labels("sqlite", durability)["synchronous"] == level


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "throughput",
        "startup",
        "commands",
        "sessions",
        "fleet",
        "faces",
        "host_service",
        "released_clients",
        "memory",
        "flatness",
    ],
)
def test_every_benchmark_runs_and_checks_its_results(name: str) -> None:
    assert rows_of(f"benchmarks.{name}")


@pytest.mark.slow
def test_granularity_tells_how_long_tasks_take_alone() -> None:
    rows = rows_of("benchmarks.granularity", "--lengths", "1000")
    assert {row["work"] for row in rows} == {"sleep", "spin"}
    assert all(float(str(row["alone us"])) >= 1000 for row in rows if row["figure"] == "efficiency")


def test_a_peer_is_measured_in_a_process_of_its_own() -> None:
    result = run("benchmarks.peers.compare", "ProcessPoolExecutor", "throughput", "--quick")
    rows = json.loads(result.stdout)
    assert [(row["mode"], row["bytes"]) for row in rows] == [("bulk", 16), ("bulk", 1024)]
    assert all(row["setting"] for row in rows)


def test_json_lines_are_added_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text("kept\n")
    run("benchmarks", "startup", "--quick", "--rounds", "1", "--append", str(file))
    kept, line = file.read_text().splitlines()
    assert kept == "kept"
    assert json.loads(line)["benchmark"] == "startup"


def test_the_table_says_what_is_met_and_by_how_much_not() -> None:
    figures = {"storage": "sqlite", "durability": "durable"}
    text = table.markdown(
        results_of(
            throughput=[
                {**figures, "mode": "8 outstanding", "median": 4_500.0, "of raw": 0.5, "rounds": 5},
                {**figures, "mode": "kill -9", "tasks": 7_000, "in file": 7_000},
            ],
            latency=[{**figures, "figure": "p50", "median": 0.8}],
        )
    )
    lines = text.splitlines()
    assert (
        "| closed loop, 8 outstanding, durable | 6,000 tasks/s | 4,500 tasks/s | 5 | missed by 25 % |"
        in lines
    )
    assert "| ratio to the raw transport, 8 outstanding | 0.4 | 0.5 | 5 | met |" in lines
    assert "| round trip p50, durable | at most 0.9 ms | 0.8 ms | 1 | met |" in lines
    assert "| round trip p99, durable | at most 3 ms | not measured | | |" in lines
    assert "Outcomes in the file after `kill -9` (durable): 7,000 of 7,000." in lines


def test_the_table_says_when_other_programs_took_a_core() -> None:
    results = results_of(latency=[], memory=[])
    results.runs["memory"]["environment"] |= {"others": 0.9}
    assert "with the cores that others took: memory (0.9)." in table.markdown(results)
    assert "others took" not in table.markdown(results_of(latency=[]))


def test_the_last_line_of_a_benchmark_counts() -> None:
    lines = [
        json.dumps({"benchmark": "x", "rows": [{"median": number}], "environment": {}})
        for number in (1, 2)
    ]
    assert Results(["not json", *lines]).rows("x") == [{"median": 2}]


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    results.write_text("")
    begin, end = (table.marker("results", edge) for edge in ("begin", "end"))
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    run("benchmarks.table", str(results), "--into", str(page))
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n\n| Figure | Target |")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text


def test_other_systems_stand_beside_flame_the_fastest_first() -> None:
    flame = {"storage": "sqlite", "durability": "durable"}
    slow = {"storage": "(Slow 1.0)", "durability": "memory", "setting": "two workers"}
    rates = {16: (300_000.0, 900.0), 1024: (80_000.0, 800.0)}
    text = other_systems.markdown(
        results_of(
            throughput=[
                {**system, "mode": "bulk", "bytes": size, "tasks": 1, "median": rate}
                for size, both in rates.items()
                for system, rate in zip((slow, flame), reversed(both), strict=True)
            ],
            latency=[{**slow, "figure": "p50", "median": 1.5}],
        )
    )
    ours, theirs = text.splitlines()[2:]
    assert ours.startswith("| Flame, durable | 300,000 | 80,000 | not measured | not measured |")
    assert theirs == "| Slow 1.0 | 900 | 800 | 1.50 | not measured | two workers |"


def test_without_other_systems_there_is_no_table_of_them() -> None:
    flame = {"storage": "memory", "durability": "memory", "tasks": 1, "median": 1.0}
    assert not other_systems.markdown(
        results_of(throughput=[{**flame, "mode": "bulk", "bytes": 16}])
    )


def test_the_drawings_are_well_formed(tmp_path: Path) -> None:
    results = results_of(
        throughput=[
            {
                "storage": name,
                "durability": "memory",
                "mode": "bulk",
                "bytes": 16,
                "tasks": 1,
                "median": rate,
            }
            for name, rate in (("memory", 200_000.0), ("(no Flame)", 500_000.0), ("(A & B)", 900.0))
        ],
        granularity=[
            {
                "work": work,
                "figure": "efficiency",
                "length us": length,
                "median": 0.5,
                "of alone": 0.4,
            }
            for work in ("sleep", "spin")
            for length in (10, 1_000_000)
        ],
    )
    for draw in (plot.throughput, plot.granularity):
        drawing = draw(results)
        assert drawing is not None
        drawing.save(tmp_path / "drawing.svg")
        xml.dom.minidom.parse(str(tmp_path / "drawing.svg"))
