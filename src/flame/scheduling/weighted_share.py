"""``fair_share``: weighted dominant resource fairness over the tree of tenants.

Source: Ghodsi et al., "Dominant Resource Fairness", NSDI 2011, Algorithm 1; for the tree,
Bhattacharya et al., "Hierarchical Scheduling for Diverse Datacenter Workloads", SoCC 2013. Unlike
H-DRF, what a tenant has is the *sum* of its sessions' dominant shares, not the dominant share of the
sum: it adds up exactly, costs one integer a level, and a session that nothing fits cannot starve its
siblings, which is the flaw that H-DRF repairs. A tenant that mixes CPU-heavy and memory-heavy work
is charged for both.
"""

from flame.model.resources import Resources
from flame.scheduling.sharing import WHOLE


class WeightedShare:
    """The least served, by dominant share over weight, is next."""

    by_tenant = True
    takes_back = True

    def price(self, request: Resources, total: Resources) -> int:
        """Its largest part of any one resource, rounded up."""
        pairs = zip(request.named()[:3], total.named()[:3], strict=True)
        parts = [need * WHOLE // have for (_, need), (_, have) in pairs if have]
        for name, need in request.extras:
            have = total.amount_of(name)
            if have:
                parts.append(need * WHOLE // have)
        return max(1, *parts) if parts else 1

    def share(self, used: float, weight: float) -> float:
        """Dominant share over weight."""
        return used / weight
