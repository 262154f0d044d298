"""One tenant's children as a vessel that is filled: water-filling by weight, between bounds."""

from bisect import bisect_right

from flame.scheduling.tree import Leaf

#: Less than this of the cluster is nothing.
FLAT = 1e-12


class Vessel:
    """One tenant's children, each with (weight, low, high).

    The sum of what they get rises with the level, in straight lines between the corners, the levels
    at which one of them starts or stops to rise.
    """

    __slots__ = ("_lows", "_parts", "_totals", "_levels", "_slopes", "amount", "below")

    def __init__(self) -> None:
        self.amount = 0.0
        self.below: list[Vessel | Leaf] = []

    def put(self, below: "list[Vessel | Leaf]", parts: list[tuple[float, float, float]]) -> None:
        """Say who is in it."""
        self.below, self._parts = below, parts
        turns = sorted(
            [(low / weight, weight) for weight, low, high in parts if high > low]
            + [(high / weight, -weight) for weight, low, high in parts if high > low]
        )
        total = self._lows = sum([low for _, low, _ in parts])
        level = slope = 0.0
        self._totals, self._levels, self._slopes = [total], [level], [slope]
        for at, change in turns:
            total, level, slope = total + slope * (at - level), at, slope + change
            self._totals.append(total)
            self._levels.append(level)
            self._slopes.append(slope)

    def divided(self) -> list[float]:
        """Return its amount's parts. If the lows are more than there is, they are cut in proportion."""
        amount = self.amount
        if self._lows > amount:
            return [low * amount / self._lows for _, low, _ in self._parts]
        corner = bisect_right(self._totals, amount) - 1
        level, slope = self._levels[corner], self._slopes[corner]
        if slope > FLAT:
            level += (amount - self._totals[corner]) / slope
        return [
            high if level * weight > high else low if level * weight < low else level * weight
            for weight, low, high in self._parts
        ]
