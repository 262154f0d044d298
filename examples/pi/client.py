"""The client: one task per seed, then the estimate."""

import argparse
import json
import math
import sys

from service import PiService, hits

import flame


def main() -> int:
    options = argparse.ArgumentParser(description="Estimate pi with Flame.")
    options.add_argument("--tasks", type=int, default=100)
    options.add_argument("--points", type=int, default=10_000, help="points per task")
    options.add_argument("--check", action="store_true", help="fail unless the answer is right")
    options.add_argument("--endpoint", help="a running cluster; default: start one here")
    chosen = options.parse_args()
    if chosen.tasks < 1 or chosen.points < 1:
        options.error("--tasks and --points must be 1 or more")

    work = [
        json.dumps({"seed": seed, "points": chosen.points}).encode() for seed in range(chosen.tasks)
    ]
    with flame.connect(chosen.endpoint) as client, client.create_session(PiService) as session:
        counts = [json.loads(output)["hits"] for output in session.map(work)]

    total = chosen.tasks * chosen.points
    estimate = 4 * sum(counts) / total
    sigma = 4 * math.sqrt(math.pi / 4 * (1 - math.pi / 4) / total)
    error = abs(estimate - math.pi)
    print(
        f"{chosen.tasks:,} tasks of {chosen.points:,} points: pi is about {estimate:.6f} "
        f"(off by {error:.6f}, 4 sigma are {4 * sigma:.6f})"
    )
    if not chosen.check:
        return 0
    if error > 4 * sigma:
        print("wrong: more than 4 sigma off", file=sys.stderr)
        return 1
    for seed in {0, chosen.tasks - 1}:
        if counts[seed] != hits(seed, chosen.points):
            print(
                f"wrong: seed {seed} gave {counts[seed]}, not what it gives here", file=sys.stderr
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
