"""Why a session waits; what everybody deserves; what is owed from the past."""

import pytest

from flame.model.ids import SessionNumber, Tenant
from flame.model.resources import Resources
from flame.scheduling.deserved import Fairness, deserved, fairness
from flame.scheduling.explain import why_waiting
from flame.scheduling.usage import Usage
from flame.scheduling.vessel import Vessel
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant


def why(cluster: SmallCluster, session: int) -> str:
    return why_waiting(cluster.ledger, SessionNumber(session)) or ""


def test_a_session_that_has_what_it_wants_does_not_wait() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 2)
    cluster.settle()
    assert why(cluster, 1) == ""


def test_a_limit_is_named() -> None:
    cluster = SmallCluster([16], tenants=[tenant("research", limit=8)])
    cluster.wish(1, 9, "research")
    cluster.settle()
    assert why(cluster, 1).startswith("tenant research is at its limit of 8 CPU: it has 8 CPU")


def test_a_gang_says_how_many_fit() -> None:
    cluster = SmallCluster([4])
    cluster.wish(2, 1)
    cluster.settle()
    cluster.wish(1, 4, batch=4)
    cluster.settle()
    assert why(cluster, 1) == "needs 4 executors at once, 3 fit"


def test_a_gang_for_which_there_are_too_few_nodes_says_so() -> None:
    cluster = SmallCluster([3, 2])
    cluster.wish(1, 8, batch=8)
    cluster.settle()
    assert why(cluster, 1) == "needs 8 executors at once, 5 fit even if all nodes are empty"


def test_what_is_free_and_not_enough_is_not_called_full() -> None:
    cluster = SmallCluster([4, 4])
    cluster.wish(1, 1, request=UNIT * 3)
    cluster.settle()
    cluster.wish(2, 2, request=UNIT * 4)
    cluster.settle()
    assert cluster.have() == {1: 1, 2: 1}
    said = why(cluster, 2)
    assert said.startswith("no node has cpu=4,mem=4g free: n1 has the most, cpu=1,mem=1g; "), said
    assert said.endswith("it has 1 of the 2 it could use")


def test_nodes_with_the_label_are_full_and_others_are_not() -> None:
    cluster = SmallCluster([4])
    cluster.node("b", UNIT, (("zone", "b"),))
    cluster.wish(1, 2, requires=(("zone", "b"),))
    cluster.settle()
    assert why(cluster, 1) == "every node with zone=b is full; it has 1 of the 2 it could use"


def test_where_age_decides_no_share_is_promised() -> None:
    cluster = SmallCluster([2], ["fifo"])
    cluster.wish(1, 2)
    cluster.wish(2, 1)
    cluster.settle()
    full = "the cluster is full; "
    assert (
        why(cluster, 2)
        == f"{full}1 older session comes first (fifo); it has 0 of the 1 it could use"
    )
    cluster.wish(0, 1)
    cluster.settle()
    assert why(cluster, 0).startswith(
        f"{full}nothing is taken back from others (fifo); it has 0 of"
    )


def test_what_no_node_has_is_said_with_what_the_largest_has() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 1, request=UNIT * 3)
    cluster.wish(2, 1, requires=(("zone", "a"),))
    cluster.settle()
    assert "the largest node, n0, has cpu=2," in why(cluster, 1)
    assert why(cluster, 2) == "needs label zone=a, which no node has"


def test_labels_that_no_node_has_are_named_with_what_there_is() -> None:
    cluster = SmallCluster()
    cluster.node("a", UNIT, (("disk", "hdd"), ("zone", "a")))
    cluster.node("b", UNIT * 2, (("disk", "ssd"), ("zone", "b")))
    cluster.wish(1, 1, requires=(("zone", "c"),))
    cluster.wish(2, 1, requires=(("disk", "ssd"), ("zone", "a")))
    cluster.wish(3, 1, request=UNIT * 2, requires=(("zone", "a"),))
    cluster.settle()
    assert why(cluster, 1) == "needs label zone=c, which no node has (zone is a or b)"
    assert why(cluster, 2) == "needs labels disk=ssd,zone=a, which no node has together"
    assert why(cluster, 3).endswith("the largest node with zone=a, a, has cpu=1,mem=1g")


def test_an_empty_or_full_cluster_is_said() -> None:
    cluster = SmallCluster()
    cluster.wish(1, 1)
    assert why(cluster, 1) == "no node has joined yet"
    cluster = SmallCluster([4])
    cluster.wish(1, 4, priority=1)
    cluster.wish(2, 4)
    cluster.settle()
    assert "1 session of higher priority comes first" in why(cluster, 2)
    cluster.wish(3, 8, priority=1)
    cluster.settle()
    assert "its fair share is 2.0 executors, it has 2 of the 8" in why(cluster, 3)


def test_room_that_is_being_made_is_said() -> None:
    cluster = SmallCluster([2])
    cluster.wish(1, 2)
    cluster.settle()
    cluster.wish(2, 1)
    cluster.step()
    assert why(cluster, 2) == "1 executor is on the way: room is being made on n0"


def test_what_is_deserved_follows_weights_demands_guarantees_and_ceilings() -> None:
    cluster = SmallCluster(
        [16], tenants=[tenant("a", 3), tenant("b"), tenant("c", quota=6), tenant("d", limit=1)]
    )
    for session, name in enumerate("abcd"):
        cluster.wish(session, 16, name)
    shares = deserved(cluster.ledger)
    assert [round(shares[SessionNumber(n)] * 16, 3) for n in range(4)] == [6.75, 2.25, 6.0, 1.0]
    cluster.settle()
    tenants, sessions = fairness(cluster.ledger)
    assert tenants[Tenant("c")].got == pytest.approx(6 / 16, abs=1e-6)
    assert sessions[SessionNumber(3)].ratio == pytest.approx(1.0, abs=1e-6)


def test_who_needs_nothing_of_what_runs_out_gets_more() -> None:
    cluster = SmallCluster()
    cluster.node("n0", Resources(8000, 64 * 1024**3, 2))
    cluster.wish(1, 50, request=Resources(1000, 0, 1))
    cluster.wish(2, 50, request=Resources(1000))
    shares = deserved(cluster.ledger)
    assert shares[SessionNumber(1)] == pytest.approx(0.8, abs=0.21)
    assert shares[SessionNumber(2)] > 0.7


def water_fill(amount: float, parts: list[tuple[float, float, float]]) -> list[float]:
    """Divide ``amount`` by weight, everybody between its (weight, low, high)."""
    vessel = Vessel()
    vessel.put([], parts)
    vessel.amount = amount
    return vessel.divided()


def test_water_stays_between_the_bounds() -> None:
    assert water_fill(9.0, [(1, 0, 9), (2, 0, 9)]) == pytest.approx([3.0, 6.0])
    assert water_fill(9.0, [(1, 0, 1), (2, 0, 9)]) == pytest.approx([1.0, 8.0])
    assert water_fill(9.0, [(1, 5, 9), (2, 0, 9)]) == pytest.approx([5.0, 4.0])
    assert water_fill(9.0, [(1, 12, 12), (1, 6, 6)]) == pytest.approx([6.0, 3.0])


def test_a_debt_grows_while_it_lasts_and_is_forgotten_with_the_half_life() -> None:
    usage: Usage[str] = Usage(0.0, half_life=10.0)
    usage.note(0.0, {"a": Fairness(0.0, 0.5), "b": Fairness(1.0, 0.5)})
    usage.advance(10.0)
    assert usage.balances() == pytest.approx({"a": -0.25, "b": 0.25})
    usage.note(10.0, {"a": Fairness(0.5, 0.5), "b": Fairness(0.5, 0.5)})
    usage.advance(20.0)
    assert usage.balances() == pytest.approx({"a": -0.125, "b": 0.125})
    assert usage.decayed()["a"].deserved == pytest.approx(0.375)


def test_repaying_never_takes_more_than_half_of_what_is_deserved() -> None:
    usage: Usage[str] = Usage(0.0, half_life=1.0)
    usage.note(0.0, {"a": Fairness(0.0, 0.5)})
    usage.advance(1000.0)
    assert usage.balances() == pytest.approx({"a": -0.25})


def test_what_is_held_back_names_for_whom_and_how_much() -> None:
    keepers = [tenant(name, quota=2, lends=False) for name in ("keeper", "other")]
    cluster = SmallCluster([4], tenants=keepers)
    cluster.wish(1, 1, "other")
    cluster.wish(2, 4)
    cluster.settle()
    assert why(cluster, 2) == (
        "what is free is held back for quota that is not lent (keeper uses 0 CPU of 2 CPU, other uses "
        "1 CPU of 2 CPU); it has 0 of the 4 it could use"
    )
