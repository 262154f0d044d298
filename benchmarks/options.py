"""Options that every benchmark has."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rounds:
    """How much to measure."""

    count: int  # rounds, of which the median is reported
    many: int  # tasks of a large run
    scale: float  # of the other amounts of work

    def scaled(self, amount: int) -> int:
        """An amount of work, less of it when quick."""
        return max(1, int(amount * self.scale))


FULL = Rounds(count=5, many=100_000, scale=1.0)
QUICK = Rounds(count=3, many=20_000, scale=0.2)


def parse(options: argparse.ArgumentParser) -> tuple[argparse.Namespace, Rounds]:
    """Read the command line, with ``--quick`` and ``--rounds`` added."""
    options.add_argument("--quick", action="store_true", help="less of everything")
    options.add_argument("--rounds", type=int, help="rounds, of which the median is reported")
    chosen = options.parse_args()
    rounds = QUICK if chosen.quick else FULL
    if chosen.rounds:
        rounds = Rounds(chosen.rounds, rounds.many, rounds.scale)
    return chosen, rounds
