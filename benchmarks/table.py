"""The targets and what was measured: ``python -m benchmarks.table results.jsonl``.

Prints Markdown: the targets, and the other systems if they were measured. With ``--into FILE`` it puts
each between its markers.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import other_systems
from benchmarks.results import Results

#: A value, and the rounds of which it is the median.
Figure = tuple[float, int]
Pick = Callable[[Results], Figure | None]

HEAD = ["| Figure | Target | Measured | Rounds | |", "|---|---|---|---|---|"]


def marker(section: str, edge: str) -> str:
    """A line of a page, between two of which a section goes."""
    return f"<!-- {section}: {edge} -->"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure.

    Attributes:
        goal: The least (or most) that is aimed at; None: nothing is, it is there to be seen.
        pick: Finds the measured value; None where it was not measured.
    """

    figure: str
    goal: float | None
    unit: str
    pick: Pick
    at_most: bool = False

    def line(self, results: Results) -> str:
        """One line of the table."""
        goal = (
            "–"
            if self.goal is None
            else f"{'at most ' if self.at_most else ''}{self._shown(self.goal)}"
        )
        figure = self.pick(results)
        if figure is None:
            return f"| {self.figure} | {goal} | not measured | | |"
        measured, rounds = figure
        return f"| {self.figure} | {goal} | {self._shown(measured)} | {rounds} | {self._verdict(measured)} |"

    def _shown(self, value: float) -> str:
        return f"{_number(value)} {self.unit}".rstrip()

    def _verdict(self, measured: float) -> str:
        if self.goal is None:
            return ""
        if measured <= self.goal if self.at_most else measured >= self.goal:
            return "met"
        part = abs(measured / self.goal - 1) * 100
        return f"missed by {part:.0f} %" if part >= 1 else "missed by < 1 %"


def picked(benchmark: str, column: str = "median", *, most: str = "", **wanted: Any) -> Pick:
    """A column of the row with these values; of several, that with the ``most`` of something."""

    def pick(results: Results) -> Figure | None:
        rows = results.rows(benchmark, **wanted)
        if not rows:
            return None
        row = max(rows, key=lambda row: row[most]) if most else rows[0]
        value: float | None = row.get(column)
        return None if value is None else (value, row.get("rounds", 1))

    return pick


def _bulk(column: str, durability: str, size: int) -> Pick:
    wanted = {"mode": "bulk", "bytes": size, "durability": durability}
    flame = "memory" if durability == "memory" else "sqlite"
    return picked("throughput", column, most="tasks", storage=flame, **wanted)


def _loop(column: str, outstanding: int) -> Pick:
    return picked("throughput", column, mode=f"{outstanding} outstanding", durability="durable")


def _latency(durability: str, figure: str) -> Pick:
    storage = "memory" if durability == "memory" else "sqlite"
    return picked("latency", storage=storage, durability=durability, figure=figure)


def _efficiency(length: int, work: str = "sleep") -> Pick:
    return picked("granularity", work=work, figure="efficiency", length_us=length)


def _released(column: str, **wanted: Any) -> Pick:
    return picked("released clients", column, durability="durable", **wanted)


def _pass(tenants: str, change: str) -> Pick:
    return picked("scheduler", "ms", cluster=tenants, **{"pass": change})


def _off(weights: str) -> Pick:
    """By how much the tenant that is furthest from its share is off, whichever way."""

    def pick(results: Results) -> Figure | None:
        rows = results.rows("fairness", weights=weights)
        return max(((abs(row["off %"]), 1) for row in rows), default=None)

    return pick


RATE = "tasks/s"
TARGETS = (
    Target("100,000 tasks of 16 B, durable", 150_000, RATE, _bulk("median", "durable", 16)),
    Target("the same, in memory", 200_000, RATE, _bulk("median", "memory", 16)),
    Target(
        "100,000 tasks of 1 KiB in and out, durable", 60_000, RATE, _bulk("median", "durable", 1024)
    ),
    Target(
        "10,000 tasks, first submit to last result, durable",
        80,
        "ms",
        picked("throughput", "ms", mode="bulk", bytes=16, tasks=10_000, durability="durable"),
        at_most=True,
    ),
    Target("closed loop, 8 outstanding, durable", 6_000, RATE, _loop("median", 8)),
    Target("closed loop, 64 outstanding, durable", 40_000, RATE, _loop("median", 64)),
    Target("closed loop, 512 outstanding, durable", 120_000, RATE, _loop("median", 512)),
    Target(
        "ratio to the raw transport, 100,000 tasks of 16 B", 0.4, "", _bulk("of raw", "durable", 16)
    ),
    Target("ratio to the raw transport, 8 outstanding", 0.4, "", _loop("of raw", 8)),
    Target("ratio to the raw transport, 64 outstanding", 0.4, "", _loop("of raw", 64)),
    Target("ratio to the raw transport, 512 outstanding", 0.4, "", _loop("of raw", 512)),
    Target("100,000 tasks of 16 B, sync", None, RATE, _bulk("median", "sync", 16)),
    Target("round trip p50, sync", None, "ms", _latency("sync", "p50")),
    Target("round trip p50, memory", 0.6, "ms", _latency("memory", "p50"), at_most=True),
    Target("round trip p50, durable", 0.9, "ms", _latency("durable", "p50"), at_most=True),
    Target("round trip p99, durable", 3, "ms", _latency("durable", "p99"), at_most=True),
    Target(
        "asyncio face over the fast face",
        0.7,
        "",
        picked("faces", "of the fast face", face="asyncio: await each"),
    ),
    Target(
        "the same with `asyncio.gather`",
        0.7,
        "",
        picked("faces", "of the fast face", face="asyncio: gather"),
    ),
    Target(
        "`asyncio.gather` alone, with no Flame, over the fast face",
        None,
        "",
        picked("faces", "of the fast face", face="asyncio: gather alone"),
    ),
    Target(
        "`as_completed` over the fast face",
        0.7,
        "",
        picked("faces", "of the fast face", face="as_completed"),
    ),
    Target("`wait` over the fast face", 0.7, "", picked("faces", "of the fast face", face="wait")),
    Target(
        "flatness: 1,000,000 queued over 1,000",
        0.9,
        "",
        picked("flatness", queued="last over first"),
    ),
    Target(
        "session manager's memory per queued task, beside its payload",
        400,
        "B",
        picked("memory", "value", figure="the same without payload"),
        at_most=True,
    ),
    Target(
        "resident memory after 1,000,000 finished tasks, 100,000 at a time",
        150,
        "MB",
        picked("memory", "value", figure="resident, finished in turns"),
        at_most=True,
    ),
    Target(
        "the same, after all 1,000,000 were queued at once",
        150,
        "MB",
        picked("memory", "value", figure="resident, all finished"),
        at_most=True,
    ),
    Target("efficiency, sleeping tasks of 1 ms", 0.97, "", _efficiency(1_000)),
    Target("efficiency, sleeping tasks of 10 ms", 0.99, "", _efficiency(10_000)),
    Target("efficiency, spinning tasks of 1 ms", None, "", _efficiency(1_000, "spin")),
    Target("efficiency, spinning tasks of 10 ms", None, "", _efficiency(10_000, "spin")),
    Target(
        "length of a spinning task at which half the time is useful",
        None,
        "µs",
        picked("granularity", "length us", figure="half useful"),
    ),
    Target(
        "1,000 sessions of 100 tasks over one session (reused processes)",
        0.7,
        "",
        picked("sessions", sessions="many over one"),
    ),
    Target(
        "100 sessions of 100 tasks, a fresh process each",
        None,
        RATE,
        picked("sessions", processes="fresh"),
    ),
    Target(
        "200 connected executors (simulated) over 2",
        0.7,
        "",
        picked("fleet", simulated_executors="200 over 2"),
    ),
    Target(
        "embedded cluster: `flame.connect()` to the first result",
        1_000,
        "ms",
        picked("startup", figure="connect to first result"),
        at_most=True,
    ),
    Target(
        "the next session to its first result",
        150,
        "ms",
        picked("startup", figure="next session to its first result"),
        at_most=True,
    ),
    Target(
        "the same, of an application whose module takes 0.5 s to import (`preload`)",
        150,
        "ms",
        picked("startup", figure="import of 0.5 s, next session, preload"),
        at_most=True,
    ),
    Target(
        "a start of the session manager beside 1,000,000 pending tasks, sqlite",
        3,
        "s",
        picked("restart", most="stored", storage="sqlite", state="pending", unit="s"),
        at_most=True,
    ),
    Target(
        "`flmexec -t 1000 -c true` over `xargs -P2`, start included",
        1,
        "",
        picked("commands", commands="flmexec over xargs"),
        at_most=True,
    ),
    Target(
        "host-shim service over a bare loop on its socket, 1 executor",
        0.8,
        "",
        picked("host_service", "of bare", executors=1, calls="Flame"),
    ),
    Target(
        "the same, 2 executors and 2 bare loops",
        0.8,
        "",
        picked("host_service", "of bare", executors=2, calls="Flame"),
    ),
    Target(
        "released clients (one create and one watch a task), 512 outstanding, durable",
        4_000,
        RATE,
        _released("median", client="load client", outstanding=512),
    ),
    Target(
        "the same, the session manager's CPU time a task",
        None,
        "µs",
        _released("manager us", client="load client", outstanding=512),
    ),
    Target(
        "the released SDK, `flamepy` 0.6.0, 1,000 tasks at once",
        None,
        RATE,
        _released("median", client="flamepy 0.6.0"),
    ),
    *(
        Target(f"a scheduling pass, {cluster}: {change}", goal, "ms", _pass(cluster, change), True)
        for cluster in ("200 tenants, contended", "200 tenants, 4 sizes")
        for change, goal in (("from nothing", 200), ("wants less", 1), ("executor gone", 1))
    ),
    *(
        Target(
            f"shares of executor-seconds, seconds 2 to 10 (of the last to join), {scene}",
            5,
            "% off",
            _off(weights),
            True,
        )
        for weights, scene in (("3:1", "3:1"), ("3:1:1", "3:1 with a third joining"))
    ),
    Target(
        "the third, from joining to work on 1 of the 1.6 executors that are due to it",
        2,
        "s",
        picked("fairness", "share after s", most="joins s", weights="3:1:1"),
        at_most=True,
    ),
    Target(
        "a gang of 2 beside elastic filler, to both at work",
        1,
        "s",
        picked("gang", "both at work after s"),
        at_most=True,
    ),
)


def markdown(results: Results) -> str:
    """The table, with a line on where the figures come from."""
    where = results.environment()
    lines = [*HEAD]
    lines += [target.line(results) for target in TARGETS]
    if where:
        versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
        lines += [
            "",
            f"{where['cores']} cores of {where['cpu']}; Python {where['python']}, {versions}.",
        ]
    lines += results.company()
    if results.is_quick:
        lines += [
            "",
            "Some come from `--quick` runs, with fewer tasks and rounds than the figures say.",
        ]
    kills = results.rows("throughput", mode="kill -9")
    lines += [
        f"Outcomes in the file after `kill -9` ({row['durability']}): "
        f"{row['in file']:,} of {row['tasks']:,}."
        for row in kills
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.3g}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", type=Path, help="a file with JSON lines")
    options.add_argument("--into", type=Path, metavar="FILE", help="replace what is in its markers")
    chosen = options.parse_args()
    results = Results.of(chosen.results)
    sections = {"results": markdown(results)}
    if others := other_systems.markdown(results):
        sections["peers"] = others
    if chosen.into is None:
        print("\n\n".join(sections.values()))
        return
    page = chosen.into.read_text(encoding="utf-8")
    for section, text in sections.items():
        edges = [marker(section, edge) for edge in ("begin", "end")]
        before, begin, rest = page.partition(edges[0])
        _, end, after = rest.partition(edges[1])
        if not (begin and end):
            options.error(f"{chosen.into} has no {' ... '.join(edges)}")
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    chosen.into.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
