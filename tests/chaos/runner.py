"""Runs experiments by name, and says what they came to."""

import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from flame.model.errors import FlameError
from tests.chaos.disks import r8, r8_slow
from tests.chaos.ends import r14, r22
from tests.chaos.experiment import Experiment, Failed, Report
from tests.chaos.failover import f1, f2, f3
from tests.chaos.faults import r1, r2, r3, r6
from tests.chaos.load import r11, r12, r13
from tests.chaos.partitions import r7, r7_net
from tests.chaos.stores import r4, r5, r9

EXPERIMENTS: dict[str, Callable[[Experiment], None]] = {
    "R1": r1,
    "R2": r2,
    "R3": r3,
    "R4": r4,
    "R5": r5,
    "R6": r6,
    "R7": r7,
    "R7-net": r7_net,
    "R8": r8,
    "R8-slow": r8_slow,
    "R9": r9,
    "R11": r11,
    "R12": r12,
    "R13": r13,
    "R14": r14,
    "R22": r22,
    "F1": f1,
    "F2": f2,
    "F3": f3,
}
#: These break a store alone.
WITHOUT_MANAGER = ("R4", "R5", "R9")
#: Seconds of faults in an experiment, unless they are said.
SECONDS = 120.0
LONGER = {"R6": 300.0, "R7": 300.0}  # waiting alone takes so long


def run(
    name: str,
    seed: int,
    *,
    scale: float = 1.0,
    seconds: float | None = None,
    bug: str | None = None,
    directory: Path | None = None,
) -> Report:
    """Run one experiment; what it left behind stays only where it failed."""
    where = directory or Path(tempfile.mkdtemp(prefix=f"flame-chaos-{name}-"))
    if seconds is None:
        seconds = LONGER.get(name, SECONDS)
    x = Experiment(name, seed, where, scale=scale, seconds=seconds, bug=bug)
    began = time.monotonic()
    failure: str | None = None
    try:
        EXPERIMENTS[name](x)
    except (Failed, FlameError, TimeoutError, AssertionError) as error:
        failure = f"{type(error).__name__}: {error}"
    except Exception as error:  # of the experiment's own: its cluster must be stopped all the same
        failure = "".join(traceback.format_exception(error))
    try:
        report = x.conclude()
    except (FlameError, TimeoutError, OSError) as error:
        report = x.report
        report.verdict.object(f"it could not be concluded: {error!r}")
    finally:
        x.resources.close()
    if failure is not None:
        report.verdict.problems.insert(0, failure)
    report.seconds = time.monotonic() - began
    if report.is_good:
        shutil.rmtree(where, ignore_errors=True)
    else:
        report.notes.append(f"evidence is in {where}")
    return report


def table(reports: Sequence[Report], *, total: bool = False) -> str:
    """Return the reports as text; with ``total`` their sums alone."""
    if total:
        faults: Counter[str] = Counter()
        for report in reports:
            faults.update(report.faults)
        verdicts = [report.verdict for report in reports]
        broken = sum(not report.is_good for report in reports)
        recoveries = [seconds for report in reports for seconds in report.recoveries]
        return (
            f"{len(reports)} runs, {broken} broken; {sum(faults.values())} faults; "
            f"acknowledged {sum(v.acknowledged for v in verdicts)}, "
            f"lost {sum(v.lost for v in verdicts)}, "
            f"duplicated {sum(v.duplicated for v in verdicts)}; recovery {_times(recoveries)}"
        )
    return "\n".join(_lines(report) for report in reports)


def _lines(report: Report) -> str:
    verdict = report.verdict
    faults = ", ".join(f"{count} x {kind}" for kind, count in sorted(report.faults.items()))
    most = max((used for _, used in report.rss), default=0) / 1024 / 1024
    lines = [
        (
            f"{report.name:4} {'good' if report.is_good else 'BROKEN':6} seed {report.seed} in "
            f"{report.seconds:.1f} s: acknowledged {verdict.acknowledged}, executed "
            f"{verdict.executed}, lost {verdict.lost}, duplicated {verdict.duplicated}"
        ),
        f"       faults: {faults or 'none'}",
        (
            f"       recovery {_times(report.recoveries)}; session manager {most:.0f} MiB, "
            f"{report.slope():+.1f} MiB/min"
        ),
        *[f"       {note}" for note in report.notes],
    ]
    return "\n".join(lines)


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "not measured"
    ranked = sorted(seconds)
    p50, p99 = ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, of {len(ranked)}"
