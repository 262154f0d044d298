"""``fifo``: the oldest session takes what it wants, then the next. Nothing is taken back for it."""

from flame.model.resources import Resources


class Fifo:
    """Everybody is equally served, so that age decides."""

    by_tenant = False
    takes_back = False

    def price(self, request: Resources, total: Resources) -> int:
        """One each."""
        return 1

    def share(self, used: float, weight: float) -> float:
        """The same for all."""
        return 0.0
