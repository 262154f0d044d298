"""Who gives, in which order, and how."""

from flame.model.ids import ExecutorId, NodeName, Tenant
from flame.scheduling.budget import Budget
from flame.scheduling.steps import Evict, Release, Reuse
from flame.scheduling.victims import Candidate, choose
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant


def test_nobody_gives_while_there_is_room() -> None:
    cluster = SmallCluster([8])
    cluster.wish(1, 4)
    cluster.wish(2, 4)
    cluster.settle()
    assert cluster.releases == []


def test_executors_without_work_are_given_first_and_at_once() -> None:
    cluster = SmallCluster([4], tenants=[tenant("a"), tenant("b", 100)])
    cluster.wish(1, 2, "a")
    cluster.wish(2, 2, "b")
    cluster.settle()
    cluster.want(2, 0)
    cluster.wish(3, 1, "a")
    cluster.step()
    assert [(r.session, r.count) for r in cluster.releases] == [(2, 1)]


def test_room_that_is_on_its_way_back_is_waited_for() -> None:
    cluster = SmallCluster([4])
    cluster.wish(1, 2)
    cluster.wish(2, 2)
    cluster.settle()
    cluster.close(1)
    cluster.wish(3, 2)
    assert cluster.step() == ()
    cluster.leave()
    cluster.step()
    assert cluster.have() == {2: 2, 3: 2}


def test_a_warm_executor_is_taken_over_or_makes_room() -> None:
    cluster = SmallCluster([1])
    cluster.idle("warm", "n0")
    cluster.wish(1, 1)
    assert cluster.step() == (Reuse(session=1, executor=ExecutorId("warm")),)  # type: ignore[arg-type]
    cluster = SmallCluster([1])
    cluster.idle("warm", "n0")
    cluster.wish(1, 1, "other")
    assert cluster.step() == (Evict(ExecutorId("warm")),)
    cluster.leave()
    cluster.step()
    assert cluster.have() == {1: 1}


def test_work_is_thrown_away_only_for_another_tenant() -> None:
    cluster = SmallCluster([4], tenants=[tenant("a"), tenant("b")])
    cluster.wish(1, 4, "a")
    cluster.settle()
    cluster.wish(2, 1, "a")
    cluster.settle()
    assert [r.grace for r in cluster.releases] == [None]
    cluster.releases.clear()
    cluster.wish(3, 2, "b")
    cluster.settle()
    assert {r.grace for r in cluster.releases} == {30.0}


def test_a_tenant_gives_its_lowest_tier_first() -> None:
    cluster = SmallCluster([4], tenants=[tenant("a"), tenant("b")])
    cluster.wish(1, 2, "a", priority=1)
    cluster.wish(2, 2, "a")
    cluster.settle()
    cluster.wish(3, 4, "b", priority=1)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 0, 3: 2}


def test_tasks_that_were_preempted_twice_are_left_alone_unless_a_guarantee_wants_them() -> None:
    for quota, got in ((None, 0), (2, 2)):
        cluster = SmallCluster([4], tenants=[tenant("a"), tenant("b", quota=quota)])
        cluster.wish(1, 4, "a", protected=4)
        cluster.settle()
        cluster.wish(2, 2, "b")
        cluster.settle()
        assert cluster.have()[2] == got


def test_a_release_that_the_core_declines_is_asked_again() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 2)
    cluster.settle()
    cluster.wish(2, 1)
    assert any(isinstance(s, Release) for s in cluster.plan())  # and nothing is done
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 1}


def test_an_assignment_that_the_core_declines_is_made_again() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 2)
    assert cluster.plan() == cluster.plan()
    cluster.settle()
    assert cluster.have() == {1: 2}


def test_work_on_a_cordoned_node_stays_and_nothing_new_starts() -> None:
    cluster = SmallCluster([2, 2])
    cluster.wish(1, 2)
    cluster.settle()
    cluster.node("n0", UNIT * 2, cordoned=True)
    cluster.want(1, 4)
    cluster.settle()
    assert sorted(e.node for e in cluster.kept()) == ["n0", "n1", "n1"]


def candidate(name: str, held: int = 0, started: float | None = None, **more: int) -> Candidate:
    return Candidate(ExecutorId(name), NodeName("n"), held, started, **more)


def test_those_whose_leaving_costs_least_go_first() -> None:
    some = [
        candidate("old", 1, 10.0),
        candidate("new", 1, 20.0),
        candidate("unstarted", 2),
        candidate("idle"),
        candidate("twice", 1, 30.0, preemptions=2),
    ]
    assert choose(some, 9) == ["idle", "unstarted", "new", "old"]
    assert choose(some, 2) == ["idle", "unstarted"]
    assert choose(some, 9, protect=False)[2] == "twice"


def test_a_gang_goes_as_a_whole_or_not_at_all() -> None:
    gang = [candidate("a", gang=1), candidate("b", 1, 5.0, gang=1)]
    assert choose(gang, 1) == ["a", "b"]
    gang.append(candidate("c", 1, 5.0, gang=1, preemptions=2))
    assert choose(gang, 1) == []


def test_the_work_thrown_away_is_bounded_and_counted() -> None:
    budget = Budget.full(0.0, rate=0.1, burst=10.0)
    assert budget.take(0.0, 8.0)
    assert not budget.take(1.0, 8.0)
    assert budget.take(60.0, 8.0)
    assert (budget.thrown_away, budget.refused) == (16.0, 1)


def test_equal_debts_are_no_reason_to_give_an_executor_back_and_forth() -> None:
    """Sums of floats differ in their last digit with their order."""
    for debt in (0.291748484404474, -0.07, 0.08):
        cluster = SmallCluster([8], tenants=[tenant(f"t{n}") for n in range(7)])
        for n in range(7):
            cluster.wish(n, 9, f"t{n}")
        cluster.settle()
        for n in range(7):
            cluster.ledger.put_balance(Tenant(f"t{n}"), debt)
        assert cluster.settle() == 0
