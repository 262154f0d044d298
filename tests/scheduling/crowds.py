"""Small clusters from a seed, with everything at once: limits, quotas, tiers, gangs, sizes that differ.

python -m tests.scheduling.crowds 0 20000      plays so many; names the seeds that never settle
"""

import sys
from collections.abc import Iterator
from random import Random

from flame.model.resources import GIB, Resources
from flame.model.tenants import TenantSpec
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant

SIZES = (
    (UNIT,),
    (UNIT, UNIT, UNIT * 2),
    (UNIT, UNIT * 2, UNIT * 3),
    (UNIT, UNIT * 2, UNIT * 3, Resources(500, GIB), Resources(1000, 3 * GIB)),
)
POLICIES = (
    *[("priority", "fair_share")] * 6,
    ("fair_share",),
    ("priority", "proportion"),
    ("priority",),
)
TENANTS = ("a", "a/x", "a/y", "b", "b/z", "default")
#: Plans after which nothing may change any more.
PATIENCE = 60


def settled(seed: int) -> Iterator[SmallCluster]:
    """One cluster that sessions come to one by one, whenever nothing changes any more.

    Raises:
        AssertionError: It does not settle.
    """
    dice = Random(seed)
    cluster = SmallCluster(
        [dice.randint(1, 6) for _ in range(dice.randint(1, 3))],
        dice.choice(POLICIES),
        _tenants(dice),
        spread=dice.random() < 0.5,
        max_executors=dice.choice((None, None, None, 3, 5)),
        gone_at_once=seed % 2 == 1,
    )
    tiers = dice.choice(([0], [0, 0, 1], [0, 0, 0, 1, 2]))
    gangs = dice.choice(([1], [1], [1, 1, 2], [1, 2, 3]))
    sizes = dice.choice(SIZES)
    for session in range(1, dice.randint(4, 9)):
        gang, wanted = dice.choice(gangs), dice.randint(1, 6)
        cluster.wish(
            session,
            -(-wanted // gang) * gang,
            dice.choice(TENANTS),
            priority=dice.choice(tiers),
            batch=gang,
            request=dice.choice(sizes),
            reserved=dice.choice((0, 0, 0, gang)),
            weight=dice.choice((1, 1, 2)),
        )
        cluster.settle(PATIENCE)
        yield cluster
        _change(cluster, dice, dice.randint(1, session))


def _tenants(dice: Random) -> list[TenantSpec]:
    quota = dice.choice((None, 2, 3))
    return [
        tenant(
            "a",
            dice.choice((0.5, 1, 2, 3)),
            limit=dice.choice((None, 2, 3, 4, 6)),
            quota=dice.choice((None, None, 1, 2)),
        ),
        tenant("a/x", dice.choice((1, 2)), limit=dice.choice((None, 2, 3))),
        tenant("a/y", dice.choice((1, 3)), quota=dice.choice((None, None, 1))),
        tenant("b", dice.choice((0.5, 1, 2)), quota=quota, lends=not quota or dice.random() < 0.7),
        tenant("b/z", limit=dice.choice((None, None, 3))),
    ]


def _change(cluster: SmallCluster, dice: Random, session: int) -> None:
    """Perhaps somebody wants more or less, or ends, or a node is cordoned."""
    wish = cluster.wishes.get(session)  # type: ignore[call-overload]
    what = dice.random()
    if wish is not None and what < 0.4:
        wanted = -(-dice.randint(0, 4) // wish.batch_size) * wish.batch_size
        cluster.want(session, max(wanted, wish.reserved))
    elif wish is not None and what < 0.5:
        cluster.close(session)
    elif what < 0.6:
        capacity = next(iter(cluster.machines.values())).capacity
        cluster.node("n0", capacity, cordoned=dice.random() < 0.7)


def main(first: int, last: int) -> None:
    """Play them."""
    bad = 0
    for seed in range(first, last):
        try:
            for _ in settled(seed):
                pass
        except AssertionError as error:
            bad += 1
            print(f"{seed}: {error}")
    print(f"{last - first} clusters, {bad} of them bad")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
