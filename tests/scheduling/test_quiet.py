"""Where nothing changes, nothing is moved: however sizes, limits, quotas, tiers and gangs are mixed."""

import pytest

from tests.scheduling.crowds import settled
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant
from tests.scheduling.test_properties import check


@pytest.mark.parametrize("part", range(8))
def test_after_a_while_nothing_changes_any_more_and_no_limit_is_exceeded(part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        for cluster in settled(seed):
            check(cluster)
            assert cluster.plan() == (), f"seed {seed}"


def test_what_is_left_over_of_a_large_executor_closes_no_circle() -> None:
    """Within each tenant one took two units for one; the other tenant got the unit left over."""
    cluster = SmallCluster([5], tenants=[tenant("a"), tenant("b")])
    cluster.wish(1, 6, "a")
    cluster.settle()
    cluster.want(1, 2)
    cluster.wish(2, 4, "a", request=UNIT * 2)
    cluster.settle()
    cluster.wish(3, 3, "b", request=UNIT * 2)
    cluster.settle()
    cluster.wish(4, 3, "b")
    cluster.settle()
    assert sum(e.resources.cpu_millis for e in cluster.kept()) == 5000


def test_whoever_gave_takes_nothing_back_before_something_changes() -> None:
    cluster = SmallCluster([4], tenants=[tenant("a"), tenant("b")])
    cluster.wish(1, 4, "a")
    cluster.settle()
    cluster.wish(2, 4, "b")
    cluster.settle()
    ledger = cluster.ledger
    gave = ledger.leaves[1]  # type: ignore[index]
    assert gave.gave_at == ledger.circumstances
    cluster.want(2, 1)
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 1}, "what is free it may have"
    cluster.want(2, 0)
    cluster.want(2, 4)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}


def test_a_session_in_line_gets_nothing_over_its_tenants_limit() -> None:
    cluster = SmallCluster([2, 3, 4], tenants=[tenant("a", limit=3), tenant("b")])
    cluster.wish(1, 4, "a/x", request=UNIT * 2)
    cluster.settle()
    cluster.want(1, 0)
    cluster.wish(2, 4, "b", request=UNIT * 2)
    cluster.settle()
    cluster.want(1, 1)
    cluster.wish(3, 5, "a")
    cluster.settle()
    check(cluster)
