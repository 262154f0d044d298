"""Between the core and a policy: what it is shown, and which of its steps are taken."""

from flame.core import events
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber
from flame.model.resources import GIB, Resources
from flame.model.specs import ExecutorState
from flame.scheduling.snapshot import Assign, Evict, Plan, Release, Reuse, Snapshot
from tests.core.builders import Bench, bench, running


class Says:
    """A policy that always has the same plan."""

    def __init__(self, *plan: Assign | Evict | Release | Reuse) -> None:
        self.steps = plan
        self.seen: list[Snapshot] = []

    def plan(self, snapshot: Snapshot) -> Plan:
        self.seen.append(snapshot)
        return self.steps


def test_steps_that_do_not_hold_are_dropped() -> None:
    """A faulty policy costs throughput, never safety."""
    nonsense = Says(
        Assign(SessionNumber(9), NodeName("n")),
        Assign(SessionNumber(1), NodeName("none")),
        Reuse(SessionNumber(1), ExecutorId("none")),
        Evict(ExecutorId("none")),
        Release(SessionNumber(9), 3),
        *[Assign(SessionNumber(1), NodeName("n"))] * 5,
    )
    b = bench(policy=nonsense)
    b.node(slots=2)
    b.submit(b"a", b"b", b"c")
    assert len(b.states()) == 2


def test_a_session_gets_no_more_executors_than_it_can_use() -> None:
    b = bench(policy=Says(*[Assign(SessionNumber(1), NodeName("n"))] * 5))
    b.node(slots=5)
    b.submit(b"a", b"b")
    assert len(b.states()) == 2


def test_an_executor_at_work_is_not_evicted() -> None:
    b = bench(policy=Says(Assign(SessionNumber(1), NodeName("n")), Evict(ExecutorId("e1"))))
    b.node()
    b.submit(b"a")
    assert b.states() == {"e1": ExecutorState.BINDING}


def test_a_session_that_fits_on_no_node_makes_nobody_give_way() -> None:
    """Else one request larger than any machine would take the whole cluster's share."""
    b = running(4)
    huge = Resources(cpu_millis=64_000, memory_bytes=GIB)
    b.open("huge", priority=9, resources=huge)
    b.attach(2, "huge")
    b.submit(b"x", attachment=2)
    assert b.states() == {"e1": ExecutorState.BOUND}


def test_a_free_node_is_used_while_a_sessions_other_executors_are_away() -> None:
    b = running(4)
    b.post(events.NodeDisconnected(NodeName("n"), b"1"))
    b.node("other")
    assert b.states() == {"e1": ExecutorState.BOUND, "e2": ExecutorState.BINDING}


def test_a_limit_of_the_session_or_its_application_holds() -> None:
    b = Bench()
    b.register(max_instances=2)
    b.open("a")
    b.open("b", max_instances=1)
    b.attach(1, "a")
    b.attach(2, "b")
    b.node(slots=9)
    b.submit(*[b"x"] * 5)
    b.submit(*[b"x"] * 5, attachment=2)
    serving = [e.session.name for e in b.state.executors.values() if e.session is not None]
    assert sorted(serving) == ["a", "a", "b"]


def test_a_higher_priority_takes_over_as_tasks_end() -> None:
    b = running(4)
    b.open("urgent", priority=1)
    b.attach(2, "urgent")
    b.submit(b"x", attachment=2)
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    assert b.cluster.session(DEFAULT_TENANT, "s").pending == 4
