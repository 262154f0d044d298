"""What tenants may and are owed: ceilings, guarantees, and idle quota that is not lent."""

from collections.abc import Sequence

from flame.model.resources import Resources
from flame.scheduling.ledger import Ledger
from flame.scheduling.tree import Branch, Leaf


def ceiling_of(leaf: Leaf, count: int) -> Branch | None:
    """Return the lowest tenant whose ceiling forbids the session ``count`` more executors, if any."""
    branch: Branch | None = leaf.parent
    while branch is not None:
        if branch.spec.ceiling is not None and not allows(branch, leaf.wish.request * count):
            return branch
        branch = branch.parent
    return None


def allows(branch: Branch, more: Resources) -> bool:
    """Whether the tenant's own ceiling lets it have so much more."""
    ceiling = branch.spec.ceiling
    if ceiling is None or branch.amount is None:
        return True
    return (branch.amount + more).fits_in(_whole(ceiling, more))


def relieves(giver: Leaf, full: Branch, more: Resources) -> bool:
    """Whether the tenant has too much of something for ``more`` that the giver has some of."""
    ceiling, amount = full.spec.ceiling, full.amount
    if ceiling is None or amount is None:
        return False
    most = dict(_whole(ceiling, more).named())
    over = [name for name, count in (amount + more).named() if count > most.get(name, _UNSAID)]
    has = dict(giver.wish.request.named())
    return any(has.get(name) for name in over)


def within_ceilings(leaf: Leaf, count: int) -> bool:
    """Whether every tenant above the session may have ``count`` more of its executors."""
    return ceiling_of(leaf, count) is None


def _whole(ceiling: Resources, asked: Resources) -> Resources:
    """A ceiling that says nothing of a resource (0) does not forbid it, unless it is all it says."""
    return Resources(
        ceiling.cpu_millis or _UNSAID,
        ceiling.memory_bytes or _UNSAID,
        ceiling.gpus or _UNSAID,
        tuple((name, ceiling.amount_of(name) or _UNSAID) for name, _ in asked.extras),
    )


_UNSAID = 2**62


def is_entitled(branches: Sequence[Branch], asked: Resources) -> bool:
    """Whether one of the tenants gets ``asked`` within what it is guaranteed."""
    return any(
        b.guaranteed is not None
        and b.amount is not None
        and (b.amount + asked).fits_in(_whole(b.guaranteed, asked))
        and b.amount.dominant_share(b.guaranteed) < 1.0
        for b in branches
    )


def may_lose(branches: Sequence[Branch], amount: Resources) -> bool:
    """Whether every one of the tenants has at least its guarantee left without ``amount``."""
    return all(
        b.guaranteed is None
        or b.amount is None
        or (b.amount - amount).dominant_share(b.guaranteed) >= 1.0
        for b in branches
    )


def held_back(ledger: Ledger, leaf: Leaf) -> bool:
    """Whether enough is left for tenants that do not lend, if the session gets what it wants next."""
    kept = Resources()
    above = []
    branch: Branch | None = leaf.parent
    while branch is not None:
        above.append(branch)
        branch = branch.parent
    for branch in ledger.branches.values():
        spec = branch.spec
        if spec.lends or spec.quota is None or branch.amount is None or branch in above:
            continue
        kept = kept + _positive(spec.quota - branch.amount)
    if kept == Resources():
        return True
    free = Resources()
    for room in ledger.rooms.by_node.values():
        if not room.machine.cordoned:
            free = free + _positive(room.open)
            for idle in room.idle.values():  # it goes when it is asked to
                free = free + idle.resources
    asked = leaf.wish.request * leaf.wish.batch_size
    return (kept + asked).fits_in(free)


def _positive(amount: Resources) -> Resources:
    return Resources(
        max(0, amount.cpu_millis),
        max(0, amount.memory_bytes),
        max(0, amount.gpus),
        tuple((name, count) for name, count in amount.extras if count > 0),
    )
