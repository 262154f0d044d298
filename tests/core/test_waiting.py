"""Why a session waits, said with numbers; what no node could hold is refused."""

from flame.core import events
from flame.core.state import Limits
from flame.model.errors import InvalidRequest
from flame.model.ids import DEFAULT_TENANT, NodeName
from flame.model.resources import GIB, Resources
from flame.model.specs import SessionSpec
from tests.core.builders import Bench, bench, running

HUGE = Resources(cpu_millis=64_000, memory_bytes=GIB)


def why(b: Bench, name: str = "s") -> str:
    return b.cluster.session(DEFAULT_TENANT, name).waiting


def test_a_session_without_tasks_waits_for_nothing() -> None:
    assert why(bench()) == ""


def test_a_session_without_nodes_waits_for_one() -> None:
    b = bench()
    b.submit(b"a")
    assert why(b) == "no node has joined yet"


def test_a_session_that_has_what_it_can_use_waits_for_nothing() -> None:
    assert why(running(1)) == ""


def test_a_full_cluster_is_said_with_the_fair_share() -> None:
    b = running(4)
    b.open("t")
    b.attach(2, "t")
    b.submit(b"x", attachment=2)
    assert why(b, "t") == (
        "the cluster is full; its fair share is 0.5 executors, it has 0 of the 1 it could use"
    )


def test_its_own_limit_is_said() -> None:
    b = running(4, max_instances=1)
    assert why(b) == "it has 1 executor, as many as its max_instances of 1 allows"


def test_a_failed_bind_is_said_with_the_time_of_the_next() -> None:
    b = bench()
    b.node()
    b.submit(b"a")
    b.hello()
    b.entered(code=1)
    assert why(b) == "no executor could be bound in 1 attempts; the next is in 0.1 s"


def test_executors_that_have_not_told_what_they_hold_are_waited_for() -> None:
    after = running(2).restart()
    assert why(after).startswith("after a restart, 1 of its executors")


def test_a_request_that_no_node_could_hold_is_refused_with_what_the_largest_has() -> None:
    b = running(1)
    b.node("large", slots=8)
    b.open("fits", resources=Resources(8000, GIB))
    b.post(events.OpenSession(DEFAULT_TENANT, "huge", SessionSpec("app", resources=HUGE), "huge"))
    error = b.answers["huge"]
    assert isinstance(error, InvalidRequest)
    assert str(error) == (
        "resreq: an executor would take cpu=64,mem=1g, which no node has; "
        "the largest of them on record, large, has cpu=8,mem=8g"
    )


def test_labels_that_no_node_has_are_refused_and_others_decide_where_an_executor_goes() -> None:
    b = bench()
    b.node("a", labels=(("zone", "a"),))
    b.node("b", labels=(("zone", "b"),))
    for zone in ("b", "c"):
        spec = SessionSpec("app", require=(("zone", zone),), min_instances=1)
        b.post(events.OpenSession(DEFAULT_TENANT, zone, spec, zone))
    assert [e.node for e in b.state.executors.values()] == ["b"]
    error = b.answers["c"]
    assert isinstance(error, InvalidRequest)
    assert str(error) == "require: needs label zone=c, which no node has (zone is a or b)"


def test_a_request_is_accepted_while_no_node_is_on_record_or_one_is_away() -> None:
    b = bench(limits=Limits())
    b.open("before", resources=HUGE)
    b.node()
    assert "the largest node, n," in why_after_submit(b)
    b.post(events.NodeDisconnected(NodeName("n"), b"1"))
    b.open("meanwhile", resources=HUGE)


def why_after_submit(b: Bench) -> str:
    b.attach(2, "before")
    b.submit(b"x", attachment=2)
    return why(b, "before")
