"""What a compiled core would bring: the same benchmarks with the core as it is, and compiled.

Copies ``src`` twice into ``build/compiled``, compiles PACKAGES in one copy with mypyc (a C compiler is
needed, and five minutes), and runs benchmarks on both in turn. Nothing of it is installed.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.table import picked

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "compiled"
SIDES = ("interpreted", "compiled")
#: Not `model`: mypyc keeps no unions in the annotations of dataclasses, from which records are read.
PACKAGES = ("core", "scheduling", "engine")
#: What mypyc 2.4 does not take as it is written: a file, a text in it, what stands for it.
CHANGES = (
    # It looks `object` up among the module's own names.
    ("core/effects.py", "    cause: object\n", "    cause: Any\n"),
    ("core/effects.py", "from typing import ", "from typing import Any, "),
)
BENCHMARKS = ("sessions", "scheduler", "latency")


def _sessions(column: str) -> Callable[[Results], Any]:
    return picked("sessions", column, most="sessions", processes="reused")


def _pass(cluster: str, change: str) -> Callable[[Results], Any]:
    return picked("scheduler", "ms", cluster=cluster, **{"pass": change})


FIGURES = (
    ("one session of 100,000 tasks", "tasks/s", picked("sessions", sessions=1)),
    ("1,000 sessions of 100", "tasks/s", _sessions("median")),
    ("the same over one session", "", picked("sessions", sessions="many over one")),
    ("client's CPU a session", "us", _sessions("client CPU")),
    ("session manager's CPU a session", "us", _sessions("manager CPU")),
    ("executors' CPU a session", "us", _sessions("executors CPU")),
    *(
        (f"pass, {cluster}: {change}", "ms", _pass(cluster, change))
        for cluster in ("200 tenants, contended", "200 tenants, 1,000 sizes")
        for change in ("from nothing", "wants less", "executor gone")
    ),
    ("round trip p50, durable", "ms", picked("latency", durability="durable", figure="p50")),
)


def prepare(side: str) -> None:
    """Make an environment that has the packages of this one, and its own copy of Flame."""
    place = PLACE / side
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "src" / "flame", place / "src" / "flame")
    venv.create(place / "venv")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place / "venv")}))
    site.joinpath("flame.pth").write_text(f"{place / 'src'}\n{sysconfig.get_path('purelib')}\n")
    if side == "compiled":
        compile_packages(place / "src")
    python(side, "-m", "compileall", "-q", str(place / "src"))


def compile_packages(source: Path) -> None:
    """Compile what the core is made of, next to its sources."""
    for name, text, instead in CHANGES:
        path = source / "flame" / name
        before = path.read_text(encoding="utf-8")
        assert text in before, f"{name} has no {text!r} any more"
        path.write_text(before.replace(text, instead, 1), encoding="utf-8")
    files = [
        str(path.relative_to(source))
        for package in PACKAGES
        for path in sorted((source / "flame" / package).glob("*.py"))
    ]
    subprocess.run(
        [Path(sys.executable).with_name("mypyc"), "--config-file", ROOT / "pyproject.toml", *files],
        cwd=source,
        env={**os.environ, "MYPYC_OPT_LEVEL": "3", "MYPYC_DEBUG_LEVEL": "0"},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def python(side: str, *arguments: str) -> str:
    """Run a program of one side's environment; return what it printed."""
    command = [str(PLACE / side / "venv" / "bin" / "python"), *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def check(side: str) -> None:
    """Each side runs what it says, or there is nothing to compare."""
    code = "import flame.core.cluster as c; print(c.__file__)"
    file = Path(python(side, "-c", code).strip())
    assert PLACE / side in file.parents, f"{side}: the core is from {file}"
    assert (file.suffix == ".so") is (side == "compiled"), f"{side}: the core is {file}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help=f"default: {', '.join(BENCHMARKS)}")
    options.add_argument("--turns", type=int, default=2, help="how often each side runs each")
    options.add_argument("--rounds", type=int, default=3, help="rounds of each benchmark")
    part = options.add_mutually_exclusive_group()
    part.add_argument("--build", action="store_true", help="compile, and measure nothing")
    part.add_argument("--no-build", action="store_true", help="measure what is compiled")
    chosen = options.parse_args()
    compiler = str(sysconfig.get_config_var("CC")).split()[0]
    if not shutil.which(compiler):
        options.error(f"no C compiler {compiler!r} on the path: install it (gcc or clang)")
    if not chosen.no_build:
        for side in SIDES:
            prepare(side)
    for side in SIDES:
        check(side)
    if chosen.build:
        return
    runs: dict[str, list[Results]] = {side: [] for side in SIDES}
    for name in chosen.names or BENCHMARKS:
        for _ in range(chosen.turns):
            for side in SIDES:
                printed = python(side, "-m", f"benchmarks.{name}", "--rounds", str(chosen.rounds))
                runs[side].append(Results(printed.splitlines()))
    rows: list[dict[str, Any]] = []
    for figure, unit, pick in FIGURES:
        values = {side: [f[0] for run in runs[side] if (f := pick(run))] for side in SIDES}
        if not all(values.values()):
            continue  # of a benchmark that was not asked for
        medians = {side: statistics.median(values[side]) for side in SIDES}
        spans = {f"{side} {of.__name__}": of(values[side]) for side in SIDES for of in (min, max)}
        over = medians["compiled"] / medians["interpreted"]
        each = {"turns": chosen.turns, "rounds": chosen.rounds}
        rows.append({"figure": figure, "unit": unit, **medians, "over": over, **spans, **each})
    report("compiled", rows, f"{', '.join(PACKAGES)} by mypyc; medians of the turns")


if __name__ == "__main__":
    main()
