"""Numbers that differ from session to session or from task to task, drawn from a seeded source.

task_length: 2.5                                   always the same
task_length: {uniform: {least: 1, most: 5}}
task_length: {exponential: {mean: 5}}
task_length: {lognormal: {median: 10, sigma: 0.5}}  sigma: of the logarithm
"""

import math
from dataclasses import dataclass
from random import Random

from flame.testing.capacity.reading import MOST, Value

KINDS = ("uniform", "exponential", "lognormal")


@dataclass(frozen=True, slots=True)
class Distribution:
    """One of the kinds above; ``first`` and ``second`` are its parameters in that order."""

    kind: str
    first: float
    second: float = 0.0

    @property
    def is_constant(self) -> bool:
        """Whether every draw gives the same."""
        return self.kind == "constant"

    @property
    def mean(self) -> float:
        """What draws come to on average."""
        if self.kind == "uniform":
            return (self.first + self.second) / 2
        if self.kind == "lognormal":
            return self.first * math.exp(self.second**2 / 2)
        return self.first

    def draw(self, dice: Random) -> float:
        """Return the next number, never below zero."""
        match self.kind:
            case "uniform":
                return dice.uniform(self.first, self.second)
            case "exponential":
                return dice.expovariate(1 / self.first)
            case "lognormal":
                return self.first * math.exp(dice.gauss(0.0, self.second))
            case _:
                return self.first

    def draw_whole(self, dice: Random) -> int:
        """Return the next number, rounded; at least 1, unless it is always 0."""
        return round(self.first) if self.is_constant else max(1, round(self.draw(dice)))


def constant(value: float) -> Distribution:
    """Always the same."""
    return Distribution("constant", value)


def read_distribution(value: Value, least: float = 0.0, *, whole: bool = False) -> Distribution:
    """Read a number, or one of the distributions; a number is at least ``least``."""
    if not value.is_block:
        if whole:
            return constant(float(value.whole(int(least), 5_000_000)))
        return constant(value.number(least, above=least == 0.0))
    block = value.block()
    kinds = [kind for kind in KINDS if not block.take(kind).is_missing]
    block.close()
    if len(kinds) != 1:
        raise value.error(f"must have exactly one of {', '.join(KINDS)}")
    parameters = block.take(kinds[0]).block()
    if kinds[0] == "uniform":
        low = parameters.take("least").number(least)
        made = Distribution("uniform", low, parameters.take("most").number(low, most=MOST))
    elif kinds[0] == "exponential":
        made = Distribution("exponential", parameters.take("mean").number(0.0, above=True))
    else:
        median = parameters.take("median").number(0.0, above=True)
        made = Distribution("lognormal", median, parameters.take("sigma").number(0.0, most=5.0))
    parameters.close()
    return made
