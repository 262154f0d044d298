"""Drawings of the last results: ``python -m benchmarks.plot results.jsonl``.

Writes ``throughput.svg`` (tasks per second, Flame and what was measured beside it) and
``granularity.svg`` (efficiency against the length of tasks) into ``docs/images``.
"""

import argparse
import math
from pathlib import Path

from benchmarks.other_systems import fastest
from benchmarks.results import Results
from flame.testing.drawing import BLUE, FLAME, GRAY, PALE, WIDTH, Drawing

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def throughput(results: Results) -> Drawing | None:
    """Bars on a logarithmic scale, the fastest on top: 16 bytes, all at once, the largest run."""
    largest = fastest(results, 16)
    if not largest:
        return None
    left, right, top, step = 200, 90, 50, 30
    bars = sorted(largest.items(), key=lambda pair: -pair[1]["median"])
    drawing = Drawing(
        top + step * len(bars) + 40,
        "Tasks per second (logarithmic): 16 bytes in and out, all at once",
    )
    low = 10 ** math.floor(math.log10(min(row["median"] for _, row in bars)))
    high = 10 ** math.ceil(math.log10(max(row["median"] for _, row in bars)))

    def x_of(value: float) -> float:
        return left + (WIDTH - left - right) * math.log10(value / low) / math.log10(high / low)

    bottom = top + step * len(bars)
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = x_of(10**power)
        drawing.line([(x, top - 8), (x, bottom)], PALE)
        drawing.text(x, bottom + 18, f"{10**power:,}", anchor="middle", color=GRAY)
    for index, (name, row) in enumerate(bars):
        y = top + index * step
        color = FLAME if name.startswith("Flame") else GRAY if "raw" in name else BLUE
        drawing.text(left - 8, y + 14, name, anchor="end")
        drawing.bar(left, y, x_of(row["median"]) - left, step - 10, color)
        drawing.text(x_of(row["median"]) + 6, y + 14, f"{row['median']:,.0f}")
    return drawing


def granularity(results: Results) -> Drawing | None:
    """Efficiency against the length of a task, one line for each kind of work."""
    rows = results.rows("granularity", figure="efficiency")
    if not rows:
        return None
    height, left, right, top, bottom = 420, 60, 30, 50, 360
    drawing = Drawing(height, "Efficiency on two executors: busy time over elapsed time")
    lengths = sorted({row["length us"] for row in rows})
    low, high = lengths[0], lengths[-1]

    def place(length: float, efficiency: float) -> tuple[float, float]:
        part = math.log(length / low) / math.log(high / low) if high > low else 0.5
        return left + (WIDTH - left - right) * part, bottom - (bottom - top) * efficiency

    for tenth in range(0, 11, 2):
        y = place(low, tenth / 10)[1]
        drawing.line([(left, y), (WIDTH - right, y)], PALE)
        drawing.text(left - 8, y + 4, f"{tenth / 10:.1f}", anchor="end", color=GRAY)
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        x = place(10**power, 0)[0]
        drawing.line([(x, top), (x, bottom)], PALE)
        drawing.text(x, bottom + 18, _duration(power), anchor="middle", color=GRAY)
    drawing.text(
        (left + WIDTH - right) / 2,
        bottom + 42,
        "length of a task (dashed: by the time that it takes alone)",
        anchor="middle",
    )
    for row in results.rows("granularity", figure="half useful"):
        if row["length us"] is not None:
            x, y = place(row["length us"], 0.5)
            drawing.line([(x, y), (x, bottom)], BLUE, dashed=True)
            drawing.text(x + 6, bottom - 10, f"half useful: {row['length us']:.1f} µs", color=BLUE)
    for index, (work, color) in enumerate((("sleep", FLAME), ("spin", BLUE))):
        mine = [row for row in rows if row["work"] == work]
        line = [place(row["length us"], row["median"]) for row in mine]
        drawing.line(line, color, width=2)
        by_itself = [place(row["length us"], row["of alone"]) for row in mine]
        drawing.line(by_itself, color, dashed=True)
        for x, y in line:
            drawing.dot(x, y, color)
        drawing.text(WIDTH - 130, bottom - 34 + 18 * index, f"tasks that {work}", color=color)
    return drawing


def _duration(power: int) -> str:
    """10**power microseconds."""
    unit, number = (("µs", power), ("ms", power - 3), ("s", power - 6))[min(power // 3, 2)]
    return f"{10**number:,} {unit}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("results", type=Path, help="a file with JSON lines")
    options.add_argument("--directory", type=Path, default=IMAGES)
    chosen = options.parse_args()
    results = Results.of(chosen.results)
    for name, draw in (("throughput", throughput), ("granularity", granularity)):
        drawing = draw(results)
        if drawing is None:
            print(f"{name}: no results")
            continue
        path = chosen.directory / f"{name}.svg"
        drawing.save(path)
        print(path)


if __name__ == "__main__":
    main()
