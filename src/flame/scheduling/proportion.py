"""``proportion``: every session deserves as many slots as every other, by water-filling.

Source: the first version of Flame (and Volcano's proportion plugin before it): what a session cannot
use flows to the others. A slot is one core with 1 GiB; a session's tenant plays no part.
"""

from flame.model.resources import UNIT, Resources
from flame.scheduling.sharing import WHOLE


class Proportion:
    """Who has the fewest slots is next."""

    by_tenant = False
    takes_back = True

    def price(self, request: Resources, total: Resources) -> int:
        """Slots, as a part of the cluster's."""
        return max(1, _slots(request) * WHOLE // max(1, _slots(total)))

    def share(self, used: float, weight: float) -> float:
        """Slots over weight."""
        return used / weight


def _slots(amount: Resources) -> int:
    cpu = -(-amount.cpu_millis // UNIT.cpu_millis)
    memory = -(-amount.memory_bytes // UNIT.memory_bytes)
    return max(1, cpu, memory)
