"""Nodes come, renew their leases, fall silent, and go."""

from flame.core import effects, events
from flame.core.node import DISCONNECT_GRACE, FORGET_AFTER, LEASE
from flame.model.errors import AlreadyExists, NotFound, WrongState
from flame.model.ids import ExecutorId, NodeName
from flame.model.specs import ExecutorState, NodeState
from tests.core.builders import Bench, running

N = NodeName("n")


def cut(b: Bench) -> None:
    b.post(events.NodeDisconnected(N, b"1"))


def test_a_silent_node_loses_its_lease_and_its_executors() -> None:
    b = running(1)
    b.nodes_are_silent = True
    b.later(LEASE - 0.1)
    assert b.states() == {"e1": ExecutorState.BOUND}
    b.later(0.2)
    assert b.states() == {}
    assert b.cluster.node("n").state is NodeState.NOT_READY
    assert b.session().queued == 1


def test_a_node_that_renews_keeps_its_lease() -> None:
    b = running(1)
    b.later(100.0)
    assert b.cluster.node("n").state is NodeState.READY


def test_a_node_that_renews_after_its_lease_must_register_again() -> None:
    """Its channel lives, so nothing else would make it: it would never be used again."""
    b = running(1)
    b.nodes_are_silent = True
    b.later(LEASE + 1.0)
    b.post(events.NodeRenewed(N))
    (refused,) = b.took(effects.RefuseNode)
    assert isinstance(refused.error, WrongState)
    b.node(executors=[(ExecutorId("e1"), 1)])
    assert b.cluster.node("n").state is NodeState.READY
    assert len(b.states()) == 1


def test_a_renewal_of_an_unknown_node_is_dropped() -> None:
    b = Bench()
    b.post(events.NodeRenewed(N))
    assert b.took(effects.RefuseNode) == []


def test_a_disconnected_node_has_a_short_while_to_come_back() -> None:
    b = running(1)
    incarnation = b.executor().incarnation
    cut(b)
    assert b.cluster.node("n").state is NodeState.UNKNOWN
    b.later(DISCONNECT_GRACE - 0.1)
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    b.later(10.0)
    assert b.states() == {"e1": ExecutorState.BOUND}


def test_a_disconnected_node_that_stays_away_loses_its_executors() -> None:
    b = running(1)
    cut(b)
    b.later(DISCONNECT_GRACE + 0.1)
    assert b.states() == {}


def test_executors_that_a_node_no_longer_lists_are_lost() -> None:
    b = running(1)
    cut(b)
    b.node()
    assert "e1" not in b.states()
    assert b.states() == {"e2": ExecutorState.BINDING}


def test_executors_that_nobody_knows_are_stopped() -> None:
    b = Bench()
    b.node(executors=[(ExecutorId("ghost"), 7)])
    (stop,) = b.took(effects.StopExecutor)
    assert (stop.executor, stop.incarnation) == ("ghost", 7)


def test_an_order_to_stop_that_was_lost_is_repeated() -> None:
    b = running(1)
    b.finish(1)
    b.close()
    incarnation = b.executor().incarnation
    cut(b)
    b.left()
    assert b.states() == {"e1": ExecutorState.RELEASING}
    b.took(effects.StopExecutor)
    b.node(executors=[(ExecutorId("e1"), incarnation)])
    assert [s.incarnation for s in b.took(effects.StopExecutor)] == [incarnation]


def test_a_second_manager_of_a_live_node_is_refused() -> None:
    b = running(1)
    b.node(instance=b"2")
    (refused,) = b.took(effects.RefuseNode)
    assert isinstance(refused.error, AlreadyExists)
    assert b.states() == {"e1": ExecutorState.BOUND}


def test_a_new_manager_of_a_node_that_was_cut_replaces_the_old_one() -> None:
    b = running(1)
    cut(b)
    b.node(instance=b"2")
    assert "e1" not in b.states()
    b.post(events.NodeDisconnected(N, b"1"))  # the old one's stream ends only now
    assert b.cluster.node("n").state is NodeState.READY


def test_a_node_that_leaves_on_purpose_is_forgotten_with_its_executors() -> None:
    b = running(1)
    b.post(events.NodeLeft(N))
    assert b.states() == {}
    try:
        b.cluster.node("n")
    except NotFound:
        return
    raise AssertionError("the node is still listed")


def test_a_lost_node_is_listed_for_a_while() -> None:
    b = running(1)
    b.nodes_are_silent = True
    b.later(LEASE + FORGET_AFTER - 10.0)
    assert [n.state for n in b.cluster.nodes()] == [NodeState.NOT_READY]
    b.later(20.0)
    assert b.cluster.nodes() == []


def test_two_nodes_share_a_sessions_tasks_and_one_takes_over_from_the_other() -> None:
    b = running(4)
    b.node("m")
    b.submit(b"x", first=4)
    b.bind("e2")
    assert b.executor("e2").node == "m"
    b.finish(1, 2)
    b.post(events.NodeLeft(N))
    done = 1
    while b.session().live:
        b.finish(*b.executor("e2").held, name="e2", sequence=done)
        done += 1
    assert b.session().succeeded == 5
