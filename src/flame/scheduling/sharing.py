"""How executors are shared between those who want them: the part that policies differ in."""

from typing import Protocol

from flame.model.resources import Resources

#: The whole cluster, in the integer unit of prices: sums are exact, whatever the order of events.
WHOLE = 10**9


class Sharing(Protocol):
    """One way to compare who has got how much.

    Attributes:
        by_tenant: Shares follow the tree of tenants; otherwise all sessions are siblings.
        takes_back: Who is above its share has to give to who is below.
    """

    by_tenant: bool
    takes_back: bool

    def price(self, request: Resources, total: Resources) -> int:
        """Return what one executor of this size counts, in parts of WHOLE."""

    def share(self, used: float, weight: float) -> float:
        """Return how well somebody is served; who has least is next."""
