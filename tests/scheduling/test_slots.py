"""At most so many executors, whatever room the nodes have; and shared as fairly as where they are full."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flame.model.ids import ExecutorId
from flame.model.tenants import TenantSpec
from flame.scheduling.deserved import fairness
from flame.scheduling.explain import why_waiting
from flame.scheduling.limits import ceiling_of
from flame.scheduling.steps import Assign, Evict, Reuse
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant
from tests.scheduling.test_properties import Change, apply, changes, check, sessions, tenants


def test_no_more_executors_are_started_than_there_may_be() -> None:
    cluster = SmallCluster([8, 8], max_executors=5)
    cluster.wish(1, 20)
    cluster.settle()
    assert cluster.have() == {1: 5}
    assert why_waiting(cluster.ledger, 1) == (  # type: ignore[arg-type]
        "the cluster has 5 executors, and at most 5 may be (max_executors); "
        "its fair share is 5.0 executors, it has 5 of the 20 it could use"
    )


def test_tenants_share_what_there_may_be_by_weight_also_those_that_come_later() -> None:
    cluster = SmallCluster([40], tenants=[tenant("a", 3.0), tenant("b")], max_executors=8)
    cluster.wish(1, 100, "a")
    cluster.settle()
    assert cluster.have() == {1: 8}
    cluster.wish(2, 100, "b")
    cluster.settle()
    assert cluster.have() == {1: 6, 2: 2}
    of_tenant, _ = fairness(cluster.ledger)
    assert [of_tenant[t].ratio for t in ("a", "b")] == pytest.approx([1.0, 1.0])  # type: ignore[index]


def test_a_slot_that_is_given_back_on_one_node_is_used_on_another() -> None:
    cluster = SmallCluster([1, 4], max_executors=2)
    cluster.wish(1, 1)
    cluster.wish(2, 1)
    cluster.settle()
    cluster.wish(3, 1, request=UNIT * 3)
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 1, 3: 0}
    cluster.close(1)
    cluster.settle()
    assert cluster.have() == {2: 1, 3: 1}


def test_a_warm_executor_makes_room_for_another_application_but_serves_its_own() -> None:
    cluster = SmallCluster([4], max_executors=1)
    cluster.idle("warm", "n0")
    cluster.wish(1, 1)
    assert cluster.step() == (Reuse(session=1, executor=ExecutorId("warm")),)  # type: ignore[arg-type]
    cluster = SmallCluster([4], max_executors=1)
    cluster.idle("warm", "n0")
    cluster.wish(1, 1, "other")
    assert cluster.step() == (Evict(ExecutorId("warm")),)
    cluster.leave()
    cluster.settle()
    assert cluster.have() == {1: 1}


def test_a_gang_gets_its_slots_together_and_does_not_starve_behind_single_ones() -> None:
    cluster = SmallCluster([8], max_executors=4)
    for session in (1, 2, 3, 4):
        cluster.wish(session, 1)
    cluster.settle()
    cluster.wish(5, 4, batch=4)
    cluster.settle()
    for session in (1, 2, 3, 4):
        cluster.want(session, 0)
        cluster.close(session)
        cluster.wish(10 + session, 1)
        cluster.settle()
    assert cluster.have()[5] in (0, 4)
    for session in (11, 12, 13, 14):
        cluster.close(session)
    cluster.settle()
    assert cluster.have() == {5: 4}


def test_with_none_allowed_nothing_starts() -> None:
    cluster = SmallCluster([8], max_executors=0)
    cluster.wish(1, 3)
    assert cluster.step() == ()


@settings(max_examples=150, deadline=None)
@given(tenants(), sessions(), changes, st.integers(1, 6))
def test_there_are_never_too_many_and_it_settles(
    specs: list[TenantSpec],
    wish: Callable[[SmallCluster, int, int], None],
    history: list[Change],
    most: int,
) -> None:
    specs = [TenantSpec(s.name, s.weight, s.quota, s.limit) for s in specs]
    cluster = SmallCluster([4, 3], tenants=specs, max_executors=most)
    for change in history:
        apply(cluster, change, wish)
        cluster.step()
        cluster.ledger.forget_expectations()
        assert len(cluster.executors) <= most
        check(cluster)
    cluster.settle()
    assert len(cluster.executors) <= most
    assert cluster.plan() == ()
    ledger = cluster.ledger
    slots = ledger.slots
    assert (slots.taken, slots.leaving, slots.expected, slots.freed) == (
        len(cluster.executors),
        0,
        0,
        0,
    )
    assert slots.promised == sum(sum(leaf.promises.values()) for leaf in ledger.leaves.values())
    for leaf in ledger.leaves.values():
        short = leaf.taken + leaf.wish.batch_size <= leaf.wish.wanted
        if leaf.wish.batch_size > 1 or not short or ceiling_of(leaf, 1) or leaf is ledger.line:
            continue
        fits = any(
            ledger.rooms.suits(leaf.wish, room) and leaf.wish.request.fits_in(room.open)
            for room in ledger.rooms.by_node.values()
        )
        assert not (fits and slots.open > 0), "a slot is left that somebody could use"
    assert not any(isinstance(step, Assign) for step in cluster.plan())
