"""Break a cluster of real processes, and check what it promised.

    python -m tests.chaos                        all experiments, once
    python -m tests.chaos --minutes 30           again and again, with a new seed each time
    python -m tests.chaos --only R1,R6 --seed 7  these, with this seed

It exits with 1 when a promise was broken, and prints the line that repeats the failure; with a planted bug
also when that was not noticed.
"""

import argparse
import sys
import time

from flame.testing import planted
from tests.chaos.runner import EXPERIMENTS, WITHOUT_MANAGER, run, table


def main() -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--only", help="such as R1,R2; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="of tasks and faults")
    parser.add_argument("--seconds", type=float, help="of faults, an experiment")
    parser.add_argument(
        "--bug",
        choices=[bug.__name__ for bug in planted.ALL],
        help="plant a bug of flame.testing.planted in the session manager, to test the checker",
    )
    options = parser.parse_args()
    known = [name for name in EXPERIMENTS if not options.bug or name not in WITHOUT_MANAGER]
    names = options.only.split(",") if options.only else known
    for name in names:
        if name not in EXPERIMENTS:
            parser.error(f"{name} is not known; there are {', '.join(EXPERIMENTS)}")
        if name not in known:
            parser.error(f"--bug: {name} has no session manager to plant it in")
    end, seed = time.monotonic() + options.minutes * 60, options.seed
    reports = []
    while True:
        for name in names:
            report = run(name, seed, scale=options.scale, seconds=options.seconds, bug=options.bug)
            reports.append(report)
            print(table([report]), flush=True)
            for problem in report.verdict.problems:
                print(f"  BROKEN {problem}")
            if not report.is_good:
                extra = f" --bug {options.bug}" if options.bug else ""
                print(
                    f"  seed {seed}; replay: python -m tests.chaos --only {name} --seed {seed} "
                    f"--scale {options.scale:g}{extra}",
                    flush=True,
                )
        seed += 1
        if time.monotonic() >= end:
            break
    print()
    print(table(reports, total=True))
    broken = any(not report.is_good for report in reports)
    if options.bug and not broken:
        print(
            f"the planted bug {options.bug} was not noticed: nothing here provokes it; see R1, R2"
        )
    return 1 if broken or options.bug else 0


if __name__ == "__main__":
    sys.exit(main())
