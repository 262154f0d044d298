"""Below a tenant that is at its limit: whoever comes later is not starved, and nobody outside gives."""

import pytest

from flame.model.tenants import TenantSpec
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant


def full(capacity: int = 8, *more: TenantSpec) -> SmallCluster:
    """Session 1 has all four executors that tenant a may have."""
    cluster = SmallCluster([capacity // 2] * 2, tenants=[tenant("a", limit=4), *more])
    cluster.wish(1, 8, "a/x" if more else "a")
    cluster.settle()
    assert cluster.have() == {1: 4}
    return cluster


@pytest.mark.parametrize("capacity", [4, 8])
def test_a_session_that_comes_later_gets_its_half(capacity: int) -> None:
    cluster = full(capacity)
    cluster.wish(2, 8, "a")
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}
    assert {r.grace for r in cluster.releases} == {None}, "within a tenant no work is thrown away"


def test_a_session_of_a_higher_tier_gets_all_that_it_wants() -> None:
    cluster = full()
    cluster.wish(2, 3, "a", priority=1)
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 3}


def test_a_session_of_a_lower_tier_gets_nothing() -> None:
    cluster = full()
    cluster.wish(2, 3, "a", priority=-1)
    cluster.settle()
    assert cluster.have() == {1: 4, 2: 0}
    assert cluster.releases == []


def test_two_tenants_below_a_full_one_share_its_limit_by_weight() -> None:
    cluster = full(8, tenant("a/x"), tenant("a/y", 3))
    cluster.wish(2, 8, "a/y")
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 3}


def test_what_a_session_there_has_no_work_for_goes_to_the_next_whatever_its_tier() -> None:
    cluster = full()
    cluster.wish(2, 4, "a", priority=-1)
    cluster.want(1, 1)
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 3}


def test_a_gang_there_gets_its_place_as_a_whole() -> None:
    cluster = full()
    cluster.wish(2, 2, "a", batch=2)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}


def test_a_larger_executor_takes_the_place_of_as_many_as_the_limit_needs() -> None:
    cluster = full()
    cluster.wish(2, 1, "a", request=UNIT * 2, priority=1)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 1}


def test_nobody_outside_the_full_tenant_gives_for_it() -> None:
    cluster = full(8)
    cluster.wish(3, 4, "b")
    cluster.settle()
    cluster.wish(2, 4, "a", priority=1)
    cluster.settle()
    assert cluster.have() == {1: 0, 3: 4, 2: 4}
    assert {int(r.session) for r in cluster.releases} == {1}


def test_minimum_instances_of_the_one_that_was_first_are_left_to_it() -> None:
    cluster = SmallCluster([8], tenants=[tenant("a", limit=4)])
    cluster.wish(1, 8, "a", reserved=3)
    cluster.settle()
    cluster.wish(2, 8, "a")
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 1}
