"""What everybody deserves, as a fluid: the shares that whole executors are to come near to.

Weighted max-min fairness down the tree (water-filling; Bertsekas and Gallager, "Data Networks",
1992, 6.5.2): a tenant's part is divided among its children by weight, nobody gets more than it can
use or than its ceiling, nobody less than its guarantee as far as it can use that, and what one does
not take flows to its siblings. Where sessions ask for different things, the level rises until a
resource is used up; who needs that one stays where it is, the others go on (progressive filling).
"""

from collections.abc import Collection
from dataclasses import dataclass

from flame.model.ids import SessionNumber, Tenant
from flame.model.resources import Resources
from flame.scheduling.ledger import Ledger
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Branch, Leaf
from flame.scheduling.vessel import FLAT, Vessel

#: What every executor uses one of, where there may be only so many.
_EXECUTORS = "executors"
_ROUNDS = 40  # at most, when a resource other than the dominant one may run out first
_TOLERANCE = 1e-6  # of a resource that may be overdrawn


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
    leaves = ledger.leaves
    have = dict(ledger.total.named())
    # Resources of which nothing is left: who needs one rises no more.
    spent = {
        name: None
        for request in dict.fromkeys(leaf.wish.request for leaf in leaves.values())
        for name, amount in request.named()
        if amount and not have.get(name)
    }
    if ledger.slots.most == 0:
        spent[_EXECUTORS] = None
    caps = {
        s: 0.0 if _needs(leaf, spent) else leaf.wish.wanted * leaf.price / WHOLE
        for s, leaf in leaves.items()
    }
    floors = _guaranteed(ledger, caps)
    frozen: dict[SessionNumber, float] = {}
    for tier in sorted(ledger.tiers, reverse=True):
        rising = {s: caps[s] for s, leaf in leaves.items() if leaf.tier == tier}
        for session in [s for s in rising if _needs(leaves[s], spent)]:
            frozen[session] = floors.get(session, 0.0)
            del rising[session]
        while rising:
            lows = {**floors, **frozen}
            vessels = _Vessels(ledger, {**lows, **rising}, lows, spent)
            most, short = vessels.most()
            got = vessels.fill(most)
            spent.update(dict.fromkeys(short))
            stopped = [s for s in rising if _needs(leaves[s], short)] if short else []
            for session in stopped or list(rising):
                frozen[session] = got.get(session, 0.0)
                del rising[session]
    return frozen


def _guaranteed(ledger: Ledger, caps: dict[SessionNumber, float]) -> dict[SessionNumber, float]:
    """Return what sessions deserve by their tenants' guarantees, whatever their tier."""
    if all(branch.guaranteed is None for branch in ledger.branches.values()):
        return {}
    vessels = _Vessels(ledger, caps, {}, guarantees=True)
    floors = vessels.fill(vessels.least)
    excess, _ = vessels.excess(floors)
    cut = 1 + max(0.0, excess)  # more may be guaranteed than there is
    return {session: floor / cut for session, floor in floors.items() if floor}


class _Vessels:
    """The tree with those who can have something, ready to be filled again and again.

    Nobody gets more than its cap or less than its floor.

    Attributes:
        least: What the floors and guarantees are together.
    """

    def __init__(
        self,
        ledger: Ledger,
        caps: dict[SessionNumber, float],
        floors: dict[SessionNumber, float],
        spent: Collection[str] = (),
        *,
        guarantees: bool = False,
    ) -> None:
        self._spent = spent
        self._ledger = ledger
        self._have = dict(ledger.total.named())
        if ledger.slots.most is not None:
            self._have[_EXECUTORS] = ledger.slots.most
        self._vessels: list[Vessel] = []  # every tenant before those below it
        total = ledger.total
        capped: dict[int, list[Leaf]] = {}
        for session, cap in caps.items():
            if cap > 0.0:
                leaf = ledger.leaves[session]
                capped.setdefault(leaf.parent.order, []).append(leaf)

        def visit(branch: Branch) -> tuple[float, float] | None:
            """Return the tenant's bounds; None: nobody below it can have anything."""
            parts: list[tuple[float, float, float]] = []
            below: list[Vessel | Leaf] = []
            place = len(self._vessels)
            vessel = Vessel()
            self._vessels.append(vessel)
            for child in branch.children:
                first = len(self._vessels)
                bounds = visit(child)
                if bounds is not None:
                    parts.append((child.weight, *bounds))
                    below.append(self._vessels[first])
            for leaf in capped.get(branch.order, ()):
                session = leaf.wish.session
                parts.append((leaf.weight, floors.get(session, 0.0), caps[session]))
                below.append(leaf)
            if not parts:
                del self._vessels[place:]
                return None
            vessel.put(below, parts)
            low, high = sum(p[1] for p in parts), sum(p[2] for p in parts)
            ceiling = branch.spec.ceiling
            if ceiling is not None:
                high = min(high, ceiling.dominant_share(total))
            if guarantees and branch.guaranteed is not None:
                low = max(low, min(high, branch.guaranteed.dominant_share(total)))
            return min(low, high), high

        bounds = visit(ledger.root)
        self.least, self._most = bounds if bounds is not None else (0.0, 0.0)

    def fill(self, amount: float) -> dict[SessionNumber, float]:
        """Pour so much into the tree; return what each session gets."""
        got: dict[SessionNumber, float] = {}
        if not self._vessels:
            return got
        self._vessels[0].amount = min(amount, self._most)
        for vessel in self._vessels:
            for child, part in zip(vessel.below, vessel.divided(), strict=True):
                if isinstance(child, Vessel):
                    child.amount = part
                else:
                    got[child.wish.session] = part
        return got

    def most(self) -> tuple[float, list[str]]:
        """Return the most that can be poured, and the resources that forbid more."""
        excess, short = self.excess(self.fill(self._most))
        if excess <= _TOLERANCE:
            return self._most, []
        low, high, below, above = self.least, self._most, -1.0, excess
        for turn in range(_ROUNDS):
            # What is used rises in straight lines: guess where it reaches what there is, and halve
            # now and then, where a corner misleads.
            part = -below / (above - below) if turn % 3 != 2 else 0.5
            middle = low + (high - low) * min(0.999, max(0.001, part))
            excess, names = self.excess(self.fill(middle))
            if excess > _TOLERANCE:
                high, above, short = middle, excess, names
            else:
                low, below = middle, excess
            if 0 <= excess <= _TOLERANCE or high - low < FLAT:
                break
        return low, short

    def excess(self, shares: dict[SessionNumber, float]) -> tuple[float, list[str]]:
        """By what part the scarcest resource is overdrawn, and every one that is."""
        counts: dict[Resources, float] = {}
        for session, share in shares.items():
            leaf = self._ledger.leaves[session]
            request = leaf.wish.request
            counts[request] = counts.get(request, 0.0) + share * WHOLE / leaf.price
        used: dict[str, float] = {}
        for request, executors in counts.items():
            for name, each in request.named():
                if each:
                    used[name] = used.get(name, 0.0) + each * executors
        if _EXECUTORS in self._have:
            used[_EXECUTORS] = sum(counts.values())
        over = {
            name: count / self._have[name] - 1
            for name, count in used.items()
            if count and name not in self._spent
        }
        return max(over.values(), default=-1.0), [n for n, o in over.items() if o > _TOLERANCE]


def _needs(leaf: Leaf, resources: Collection[str]) -> bool:
    return _EXECUTORS in resources or any(
        amount and name in resources for name, amount in leaf.wish.request.named()
    )


def _leaves(branch: Branch) -> list[Leaf]:
    return [*branch.leaves.values(), *(leaf for c in branch.children for leaf in _leaves(c))]
