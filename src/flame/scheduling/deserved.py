"""What everybody deserves, as a fluid: the shares that whole executors are to come near to.

Weighted max-min fairness down the tree (water-filling; Bertsekas and Gallager, "Data Networks",
1992, 6.5.2): a tenant's part is divided among its children by weight, nobody gets more than it can
use or than its ceiling, nobody less than its guarantee as far as it can use that, and what one does
not take flows to its siblings. Where sessions ask for different things, the level rises until a
resource is used up; who needs that one stays where it is, the others go on (progressive filling).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flame.model.ids import SessionNumber, Tenant
from flame.scheduling.ledger import Ledger
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch, Leaf

_ROUNDS = 30  # of halving, when a resource other than the dominant one may run out first


@dataclass(frozen=True, slots=True)
class Fairness:
    """What somebody has and deserves, as parts of the cluster (dominant shares)."""

    got: float
    deserved: float

    @property
    def ratio(self) -> float:
        """Got over deserved; 1 if nothing is deserved."""
        return self.got / self.deserved if self.deserved else 1.0


def fairness(ledger: Ledger) -> tuple[dict[Tenant, Fairness], dict[SessionNumber, Fairness]]:
    """Return it for every tenant and every session. O(S log S): for people, not for every plan."""
    ledger.reprice()
    shares = deserved(ledger)
    sessions = {
        session: Fairness(leaf.kept * leaf.price / WHOLE, shares[session])
        for session, leaf in ledger.leaves.items()
    }
    tenants: dict[Tenant, Fairness] = {}
    for name, branch in ledger.branches.items():
        below = list(_leaves(branch))
        tenants[name] = Fairness(
            sum(leaf.kept * leaf.price for leaf in below) / WHOLE,
            sum(shares[leaf.wish.session] for leaf in below),
        )
    return tenants, sessions


def deserved(ledger: Ledger) -> dict[SessionNumber, float]:
    """Return every session's fluid dominant share. Tiers are served one after the other."""
    frozen: dict[SessionNumber, float] = {}
    for tier in sorted(ledger.tiers, reverse=True):
        mine = [leaf for leaf in ledger.leaves.values() if leaf.tier == tier]
        caps = {leaf.wish.session: leaf.wish.wanted * leaf.price / WHOLE for leaf in mine}
        open_ = dict.fromkeys(caps)
        while open_:
            level = _fill(ledger, {**caps, **frozen}, frozen, 1.0e9)
            if not _overused(ledger, level):
                frozen.update({s: level[s] for s in open_})
                break
            low, high = 0.0, float(len(ledger.total.named()))
            for _ in range(_ROUNDS):
                middle = (low + high) / 2
                if _overused(ledger, _fill(ledger, {**caps, **frozen}, frozen, middle)):
                    high = middle
                else:
                    low = middle
            level = _fill(ledger, {**caps, **frozen}, frozen, low)
            short = _overused(ledger, _fill(ledger, {**caps, **frozen}, frozen, high))
            stopped = [s for s in open_ if _needs(ledger.leaves[s], short)]
            for session in stopped or list(open_):
                frozen[session] = level[session]
                del open_[session]
    return frozen


def _fill(
    ledger: Ledger,
    caps: dict[SessionNumber, float],
    floors: dict[SessionNumber, float],
    amount: float,
) -> dict[SessionNumber, float]:
    """Pour ``amount`` into the tree; nobody gets more than its cap or less than its floor."""
    got: dict[SessionNumber, float] = {}
    limits: dict[int, tuple[float, float]] = {}

    def bounds(branch: Branch) -> tuple[float, float]:
        low = high = 0.0
        for child in branch.children:
            child_low, child_high = bounds(child)
            low, high = low + child_low, high + child_high
        for leaf in branch.leaves.values():
            low += floors.get(leaf.wish.session, 0.0)
            high += caps.get(leaf.wish.session, 0.0)
        ceiling = branch.spec.ceiling
        if ceiling is not None:
            high = min(high, ceiling.dominant_share(ledger.total))
        if branch.guaranteed is not None:
            low = max(low, min(high, branch.guaranteed.dominant_share(ledger.total)))
        limits[branch.order] = (min(low, high), high)
        return limits[branch.order]

    def pour(branch: Branch, share: float) -> None:
        children: list[Branch | Leaf] = [*branch.children, *branch.leaves.values()]
        parts = []
        for child in children:
            if isinstance(child, Leaf):
                session = child.wish.session
                low, high = floors.get(session, 0.0), caps.get(session, 0.0)
            else:
                low, high = limits[child.order]
            parts.append((child.weight, low, high))
        for child, part in zip(children, water_fill(share, parts), strict=True):
            if isinstance(child, Leaf):
                got[child.wish.session] = part
            else:
                pour(child, part)

    _, most = bounds(ledger.root)
    pour(ledger.root, min(amount, most))
    return got


def water_fill(amount: float, parts: Sequence[tuple[float, float, float]]) -> list[float]:
    """Divide ``amount`` by weight, everybody between its (weight, low, high).

    If the lows are more than there is, they are cut in proportion.
    """
    lows = sum(low for _, low, _ in parts)
    if lows > amount:
        return [low * amount / lows for _, low, _ in parts]
    # The sum rises with the level, in straight lines between the levels where somebody starts or
    # stops to rise.
    turns = sorted(
        [(low / weight, weight) for weight, low, high in parts if high > low]
        + [(high / weight, -weight) for weight, low, high in parts if high > low]
    )
    total, slope, level = lows, 0.0, 0.0
    for at, change in turns:
        if slope > 0 and total + slope * (at - level) >= amount:
            break
        total, level, slope = total + slope * (at - level), at, slope + change
    if slope > 1e-12:
        level += max(0.0, amount - total) / slope
    return [min(high, max(low, level * weight)) for weight, low, high in parts]


def _overused(ledger: Ledger, shares: dict[SessionNumber, float]) -> list[str]:
    """Return the resources of which more is given than there is."""
    used: dict[str, float] = {}
    for session, share in shares.items():
        leaf = ledger.leaves[session]
        executors = share * WHOLE / leaf.price
        for name, amount in leaf.wish.request.named():
            used[name] = used.get(name, 0.0) + amount * executors
    have = dict(ledger.total.named())
    return [name for name, amount in used.items() if amount > have.get(name, 0) * (1 + 1e-6)]


def _needs(leaf: Leaf, resources: Sequence[str]) -> bool:
    return any(amount and name in resources for name, amount in leaf.wish.request.named())


def _leaves(branch: Branch) -> list[Leaf]:
    return [*branch.leaves.values(), *(leaf for c in branch.children for leaf in _leaves(c))]
