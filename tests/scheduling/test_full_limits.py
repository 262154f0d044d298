"""Below a tenant that is at its limit: whoever comes later is not starved, and nobody outside gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.model.ids import Tenant
from flame.model.resources import GIB, Resources
from flame.model.tenants import TenantSpec
from flame.scheduling.steps import Assign
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant
from tests.scheduling.test_properties import check


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


def test_nobody_gives_what_the_limit_has_enough_of() -> None:
    """Only GPUs are limited: whoever has none is no help."""
    cluster = SmallCluster(tenants=[TenantSpec(Tenant("a"), limit=Resources(gpus=2))])
    cluster.node("n0", Resources(16_000, 16 * GIB, 4))
    cluster.wish(1, 4, "a")
    cluster.wish(2, 2, "a", request=Resources(1000, GIB, 1))
    cluster.settle()
    cluster.wish(3, 1, "a", request=Resources(1000, GIB, 1))
    cluster.settle()
    assert cluster.have() == {1: 4, 2: 1, 3: 1}


def test_a_gang_for_which_there_is_no_room_as_a_whole_takes_nothing() -> None:
    cluster = SmallCluster([2, 2, 2], tenants=[tenant("a", limit=4)])
    cluster.wish(1, 4, "a")
    cluster.wish(2, 2, "b")
    cluster.settle()
    for node in ("n0", "n1", "n2"):
        cluster.node(node, UNIT * 2, cordoned=True)
    cluster.wish(3, 2, "a", batch=2, priority=1)
    cluster.settle()
    assert cluster.releases == []


def test_what_is_set_aside_is_given_up_when_nobody_leaves_for_it() -> None:
    """The core may decline to take an executor from a session: the limit holds all the same."""
    cluster = full()
    cluster.wish(2, 2, "a", priority=1)
    cluster.plan()
    ledger = cluster.ledger
    assert ledger.leaves[2].promised == 2  # type: ignore[index]
    cluster.want(1, 4)
    for _ in range(3):
        plan = cluster.plan()
        assert not any(isinstance(step, Assign) for step in plan)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "a/x", "a/y", "a/y/z"]),
            st.integers(1, 12),
            st.sampled_from([0.5, 1.0, 2.0, 3.0]),
            st.sampled_from([0, 0, 0, 1]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_a_full_limit_is_shared_as_a_cluster_of_that_size_is(
    units: int, wishes: list[tuple[str, int, float, int]], one_by_one: bool
) -> None:
    """Whatever comes first: a limit that binds and nodes that are full are the same to those below."""
    tree = [tenant("a/x", 2), tenant("a/y")]
    limited = SmallCluster([8, 12], tenants=[tenant("a", limit=units), *tree])
    whole = SmallCluster([units], tenants=[tenant("a"), *tree])
    for cluster in (limited, whole):
        for session, (name, wanted, weight, priority) in enumerate(wishes):
            cluster.wish(session, wanted, name, weight=weight, priority=priority)
            if one_by_one:
                cluster.settle(200)
        cluster.settle(200)
    assert limited.have() == whole.have()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(2, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "a/x", "a/y"]),
            st.integers(1, 6),
            st.sampled_from([1, 1, 2, 3]),
            st.sampled_from([UNIT, UNIT, UNIT * 2]),
            st.sampled_from([0, 0, 1]),
        ),
        min_size=2,
        max_size=6,
    ),
    st.booleans(),
)
def test_below_a_full_limit_it_settles_and_the_limit_holds(
    units: int, wishes: list[tuple[str, int, int, Resources, int]], gone_at_once: bool
) -> None:
    """Also where those that are released are gone in the same moment, and gangs come as a whole."""
    cluster = SmallCluster(
        [8, 8], tenants=[tenant("a", limit=units), tenant("a/x", 2)], gone_at_once=gone_at_once
    )
    cluster.wish(0, 4, "b")
    for session, (name, gangs, batch, request, priority) in enumerate(wishes, 1):
        cluster.wish(session, gangs * batch, name, batch=batch, request=request, priority=priority)
        cluster.settle()
        check(cluster)
        assert cluster.have()[0] == 4, "nobody outside gives for it"
