"""When which session arrives: the listed ones and those of the generators, merged by time."""

from collections.abc import Iterator
from heapq import merge
from random import Random

from flame.testing.capacity.trace import Generator, Listed, Load, Trace

#: (seconds, the source's place in the trace, session); no two are compared beyond the second.
Arrival = tuple[float, int, Load]


def arrivals(trace: Trace, seed: int, until: float | None) -> Iterator[Arrival]:
    """Yield arrivals in order. Every source draws from a seed of its own."""
    sources: list[Iterator[Arrival]] = [
        _listed(index, listed) for index, listed in enumerate(trace.sessions)
    ]
    sources += [
        _generated(len(trace.sessions) + index, generator, Random(f"{seed} arrivals {index}"))
        for index, generator in enumerate(trace.generators)
    ]
    for arrival in merge(*sources, key=lambda arrival: arrival[:2]):
        if until is not None and arrival[0] > until:
            return
        yield arrival


def _listed(place: int, listed: Listed) -> Iterator[Arrival]:
    for _ in range(listed.count):
        yield (listed.at, place, listed.load)


def _generated(place: int, generator: Generator, dice: Random) -> Iterator[Arrival]:
    at = generator.begins
    if generator.poisson is not None:
        at += dice.expovariate(generator.poisson)
    while generator.ends is None or at < generator.ends:
        yield (at, place, generator.load)
        at += (
            dice.expovariate(generator.poisson)
            if generator.poisson is not None
            else generator.every or 1.0
        )
