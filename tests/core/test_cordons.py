"""Nodes on which nothing new starts, and which executors leave: no task is lost, none pays."""

from flame.core import effects, events
from flame.core.records import CordonDeleted, CordonPut, LeaseLost
from flame.model.errors import NotFound
from flame.model.ids import ExecutorId, NodeName
from flame.model.specs import ExecutorState
from tests.core.builders import Bench, bench, running


def cordon(b: Bench, node: str = "n", *, drain: bool = False) -> object:
    b.post(events.CordonNode(NodeName(node), drain, f"cordon {node}"))
    return b.answers[f"cordon {node}"]


def uncordon(b: Bench, node: str = "n") -> object:
    b.post(events.UncordonNode(NodeName(node), f"uncordon {node}"))
    return b.answers[f"uncordon {node}"]


def nodes_in_use(b: Bench) -> set[str]:
    return {e.node for e in b.state.executors.values() if e.state is not ExecutorState.RELEASING}


def test_what_runs_on_a_cordoned_node_stays_and_nothing_new_starts_there() -> None:
    b = running(1)
    assert cordon(b) == "done"
    b.submit(*[b"more"] * 9, first=1)
    b.node("other", slots=3)
    assert b.executor("e1").state is ExecutorState.BOUND
    assert b.handed("e1")[:1] == [1]
    assert {e.node for e in b.state.executors.values() if e.id != "e1"} == {"other"}
    assert b.cluster.node("n").cordoned


def test_a_waiting_session_says_that_the_nodes_are_cordoned() -> None:
    b = bench()
    b.node("n", slots=2)
    b.node("m", slots=2)
    for node in ("n", "m"):
        cordon(b, node)
    b.submit(b"1")
    assert b.cluster.session(b.session().tenant, "s").waiting == (
        "all of the 2 nodes that could have it are cordoned"
    )
    uncordon(b, "m")
    assert nodes_in_use(b) == {"m"}
    b.submit(*[b"x"] * 9, first=1)
    assert b.cluster.session(b.session().tenant, "s").waiting == (
        "the cluster is full, 1 of its 2 nodes is cordoned; "
        "its fair share is 4.0 executors, it has 2 of the 10 it could use"
    )


def test_a_waiting_session_says_that_the_nodes_are_drained() -> None:
    b = bench()
    b.node("n", slots=2)
    b.node("m", slots=2)
    cordon(b, "n", drain=True)
    b.submit(*[b"x"] * 9)
    assert "the cluster is full, 1 of its 2 nodes is drained; " in (
        b.cluster.session(b.session().tenant, "s").waiting
    )
    other = bench()
    other.node("n", slots=2)
    other.node("m", slots=2)
    cordon(other, "n", drain=True)
    cordon(other, "m")
    other.submit(b"1")
    waiting = "all of the 2 nodes that could have it are "
    assert other.cluster.session(other.session().tenant, "s").waiting == (
        waiting + "cordoned or drained"
    )
    cordon(other, "m", drain=True)
    assert other.cluster.session(other.session().tenant, "s").waiting == waiting + "drained"


def test_a_cordon_is_stored_and_survives_a_restart_and_the_nodes_absence() -> None:
    b = bench()
    b.node()
    cordon(b)
    assert b.stored(CordonPut) == [CordonPut(NodeName("n"), False, 1_000_000)]
    b.post(events.NodeLeft(NodeName("n")))
    after = b.restart()
    after.node()
    after.attach()
    after.submit(b"1")
    assert after.cluster.node("n").cordoned
    assert after.state.executors == {}
    uncordon(after)
    assert after.stored(CordonDeleted) == [CordonDeleted(NodeName("n"))]
    assert nodes_in_use(after) == {"n"}


def test_a_node_that_nobody_knows_cannot_be_cordoned() -> None:
    b = bench()
    error = cordon(b, "nowhere")
    assert isinstance(error, NotFound)
    assert "nowhere" in str(error)
    assert isinstance(uncordon(b, "nowhere"), NotFound)


def test_draining_lets_the_running_task_end_and_gives_the_others_to_another_node() -> None:
    b = running(3, window=3)
    b.started(1)
    b.node("other")
    cordon(b, drain=True)
    assert b.executor("e1").state is ExecutorState.UNBINDING
    (asked,) = b.took(effects.SendTakeBack)
    assert (asked.executor, asked.count) == ("e1", 3)
    b.take_back(2, 3)
    b.bind("e2", window=3)
    assert b.handed("e2") == [2]
    view = b.cluster.node("n")
    assert (view.draining, view.executors, view.running, view.held) == (True, 1, 1, 1)
    assert view.waited_for == ("default/s",)
    b.finish(1)
    b.left("e1")
    b.exited("e1")
    b.finish(2, name="e2")
    b.finish(3, name="e2", sequence=2)
    assert b.cluster.node("n").executors == 0
    assert b.told() == [(0, 1), (1, 2), (2, 3)]
    assert all(lost.charged == 0 for lost in b.stored(LeaseLost))


def test_an_executor_that_binds_on_a_drained_node_is_ended_before_it_has_work() -> None:
    b = bench()
    b.node()
    b.submit(b"1")
    cordon(b, drain=True)
    b.node("other")
    assert b.executor("e1").state is ExecutorState.RELEASING
    assert nodes_in_use(b) == {"other"}


def test_a_warm_executor_on_a_drained_node_is_ended() -> None:
    b = Bench()
    b.register(reusable=True)
    b.open()
    b.attach()
    b.node()
    b.submit(b"1")
    b.bind()
    b.finish(1)
    b.later(200.0)
    b.left()
    assert b.executor().state is ExecutorState.IDLE
    cordon(b, drain=True)
    assert b.executor().state is ExecutorState.RELEASING


def test_after_a_restart_the_drain_goes_on_once_the_executor_said_what_it_holds() -> None:
    b = running(3, window=3)
    cordon(b, drain=True)
    incarnation = b.executor().incarnation
    after = b.restart()
    after.node(executors=[(ExecutorId("e1"), incarnation)])
    assert after.executor("e1").state is ExecutorState.BINDING
    after.hello(bound=True, held=[1, 2, 3], running=1, window=3)
    assert after.executor("e1").state is ExecutorState.UNBINDING
    asked = after.took(effects.SendTakeBack)[-1]
    assert asked.count == 3
    after.take_back(2, 3)
    after.node("other")
    after.bind("e100", window=3)
    assert after.handed("e100") == [2]  # and then the next


def test_a_gang_leaves_a_drained_node_as_a_whole() -> None:
    b = Bench()
    b.register()
    b.open(batch_size=2, min_instances=2)
    b.attach()
    b.node("n")
    b.node("m")
    b.submit(b"1", b"2")
    for name in ("e1", "e2"):
        b.bind(name, window=1)
    cordon(b, "n", drain=True)
    assert {e.state for e in b.state.executors.values()} == {ExecutorState.UNBINDING}


def test_uncordoned_while_it_drains_the_node_is_used_again() -> None:
    b = running(3)
    b.started(1)
    cordon(b, drain=True)
    uncordon(b)
    assert b.executor("e1").state is ExecutorState.UNBINDING
    b.take_back(2)
    b.finish(1)
    b.left("e1")
    b.exited("e1")
    assert nodes_in_use(b) == {"n"}
