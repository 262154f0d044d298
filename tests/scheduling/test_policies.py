"""Policies by name, and what each of them does with the same cluster."""

import pytest

from flame.model.errors import InvalidConfiguration
from flame.model.resources import Resources
from flame.scheduling.policies import make_policy
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["gang"], "policies: 'gang' is unknown; allowed are priority, fair_share, drf"),
        (["fifo", "fifo"], "'fifo' is there twice"),
        (["fifo", "drf"], "fifo and drf are both a way to share"),
    ],
)
def test_names_that_make_no_policy_are_refused(names: list[str], told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        make_policy(names)


def test_a_released_configuration_names_fair_sharing_drf() -> None:
    assert type(make_policy(["priority", "drf"]).sharing) is type(
        make_policy(["fair_share"]).sharing
    )


def test_fifo_serves_the_oldest_and_takes_nothing_back() -> None:
    cluster = SmallCluster([4], ["fifo"])
    cluster.wish(2, 3)
    cluster.settle()
    cluster.wish(1, 3)
    cluster.settle()
    assert cluster.have() == {2: 3, 1: 1}
    assert cluster.releases == []


def test_proportion_counts_slots_and_knows_no_tenants() -> None:
    cluster = SmallCluster([8], ["proportion"], [tenant("a", 100), tenant("b")])
    cluster.wish(1, 8, "a")
    cluster.wish(2, 8, "a")
    cluster.wish(3, 8, "b", request=UNIT * 2)
    cluster.settle()
    assert cluster.have()[3] == 1  # two slots, or nearly three
    assert sum(cluster.have().values()) == 7


def test_tenants_share_by_weight_and_their_sessions_among_themselves() -> None:
    cluster = SmallCluster([8], tenants=[tenant("a", 3), tenant("b")])
    cluster.wish(1, 8, "a")
    cluster.wish(2, 8, "a")
    cluster.wish(3, 8, "b")
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 3, 3: 2}


def test_a_higher_tier_goes_first_and_takes_back() -> None:
    cluster = SmallCluster([4])
    cluster.wish(1, 4)
    cluster.settle()
    cluster.wish(2, 3, priority=1)
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 3}


def test_without_the_priority_policy_priorities_mean_nothing() -> None:
    cluster = SmallCluster([4], ["fair_share"])
    cluster.wish(1, 4)
    cluster.wish(2, 4, priority=9)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}


def test_quota_that_is_not_lent_stays_idle() -> None:
    cluster = SmallCluster([8], tenants=[tenant("a", quota=3, lends=False), tenant("b")])
    cluster.wish(1, 8, "b")
    cluster.settle()
    assert cluster.have() == {1: 5}
    cluster.wish(2, 3, "a")
    assert len(cluster.step()) == 3  # at once
    assert cluster.have() == {1: 5, 2: 3}


def test_who_does_not_borrow_stays_within_its_quota_and_limits_hold() -> None:
    cluster = SmallCluster([8], tenants=[tenant("a", quota=2, borrows=False), tenant("b", limit=3)])
    cluster.wish(1, 8, "a")
    cluster.wish(2, 8, "b")
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 3}


def test_a_starved_tenant_is_repaid() -> None:
    cluster = SmallCluster([8], tenants=[tenant("a"), tenant("b")])
    cluster.wish(1, 8, "a")
    cluster.wish(2, 8, "b")
    cluster.settle()
    assert cluster.have() == {1: 4, 2: 4}
    cluster.ledger.put_balance("b", -0.25)  # type: ignore[arg-type]
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 5}
    cluster.ledger.put_balance("b", 0.0)  # type: ignore[arg-type]
    cluster.settle()
    assert cluster.have() in ({1: 4, 2: 4}, {1: 3, 2: 5})


def test_a_newcomer_gets_its_half_as_executors_leave() -> None:
    cluster = SmallCluster([4])
    cluster.wish(1, 9)
    cluster.settle()
    cluster.wish(2, 9)
    cluster.step()
    assert cluster.have() == {1: 2, 2: 0}
    assert cluster.step() == ()  # what is on its way back is not asked for again
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}


def test_reserved_executors_come_first() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 5)
    cluster.wish(2, 2, reserved=2)
    cluster.settle()
    assert cluster.have() == {1: 0, 2: 2}


def test_unequal_requests_share_by_their_dominant_resource() -> None:
    """The example of the paper: (1 CPU, 4 GB) and (3 CPU, 1 GB) in (9 CPU, 18 GB)."""
    cluster = SmallCluster()
    cluster.node("n", Resources(9000, 18))
    cluster.wish(1, 99, request=Resources(1000, 4))
    cluster.wish(2, 99, request=Resources(3000, 1))
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 2}
