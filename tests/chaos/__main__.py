"""Break a cluster of real processes, and check what it promised.

    python -m tests.chaos                        all experiments, once
    python -m tests.chaos --minutes 30           again and again, with a new seed each time
    python -m tests.chaos --only R1,R6 --seed 7  these, with this seed

It exits with 1 when a promise was broken, and prints the line that repeats the failure.
"""

import argparse
import sys
import time

from tests.chaos.runner import EXPERIMENTS, run, table


def main() -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0.0, help="go on for so long")
    parser.add_argument("--only", default=",".join(EXPERIMENTS), help="such as R1,R2")
    parser.add_argument("--scale", type=float, default=1.0, help="of tasks and faults")
    parser.add_argument("--seconds", type=float, help="of faults, an experiment")
    parser.add_argument("--bug", help="plant a bug of flame.testing.planted, to test the checker")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"{unknown[0]} is not known; there are {', '.join(EXPERIMENTS)}")
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
    return 0 if all(report.is_good for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
