"""Policies by name, as the configuration lists them: ``policies: [priority, fair_share]``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flame.model.errors import InvalidConfiguration
from flame.scheduling.facts import Wish
from flame.scheduling.fifo import Fifo
from flame.scheduling.priority import one_tier, tier
from flame.scheduling.proportion import Proportion
from flame.scheduling.sharing import Sharing
from flame.scheduling.weighted_share import WeightedShare

#: How to share within a tier. ``drf`` is the name in released configurations.
SHARINGS: dict[str, Callable[[], Sharing]] = {
    "fair_share": WeightedShare,
    "drf": WeightedShare,
    "proportion": Proportion,
    "fifo": Fifo,
}
ALLOWED = ("priority", *SHARINGS)


@dataclass(frozen=True, slots=True)
class Policies:
    """What the scheduler goes by.

    Attributes:
        spread: Executors go to the roomiest node; otherwise to the fullest that has room (pack).
        grace: Seconds that a running task gets when another tenant is owed its executor; None: a
            task is never thrown away.
    """

    tier: Callable[[Wish], int] = tier
    sharing: Sharing = field(default_factory=WeightedShare)
    spread: bool = True
    grace: float | None = 30.0


def make_policy(
    names: Sequence[str], *, spread: bool = True, grace: float | None = 30.0
) -> Policies:
    """Compose policies from their names. Without a way to share, the oldest goes first.

    Raises:
        InvalidConfiguration: A name is unknown or there twice, or two ways to share are named.
    """
    for name in names:
        if name not in ALLOWED:
            raise InvalidConfiguration(
                f"policies: {name!r} is unknown; allowed are {', '.join(ALLOWED)}"
            )
        if names.count(name) > 1:
            raise InvalidConfiguration(f"policies: {name!r} is there twice")
    ways = [name for name in names if name in SHARINGS]
    if len(ways) > 1:
        raise InvalidConfiguration(
            f"policies: {' and '.join(ways)} are both a way to share; name one of them"
        )
    if grace is not None and grace < 0:
        raise InvalidConfiguration(f"preemption.grace is {grace:g}; it must be 0 seconds or more")
    sharing = SHARINGS[ways[0]]() if ways else Fifo()
    return Policies(tier if "priority" in names else one_tier, sharing, spread, grace)
