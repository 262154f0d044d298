"""Between the core and a policy: what it is shown, and which of its steps are taken."""

from flame.core import events
from flame.core.leaving import unbind
from flame.core.reports import demand
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber
from flame.model.resources import GIB, Resources
from flame.model.specs import ExecutorState
from flame.scheduling.ledger import Ledger
from flame.scheduling.scheduler import Scheduler
from flame.scheduling.steps import Assign, Evict, Plan, Release, Reuse
from tests.core.builders import Bench, bench, running

HUGE = Resources(cpu_millis=64_000, memory_bytes=GIB)


class Says:
    """A policy that always has the same plan."""

    def __init__(self, *plan: Assign | Evict | Release | Reuse) -> None:
        self.steps = plan

    def plan(self, ledger: Ledger) -> Plan:
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
    b = bench(planner=nonsense)
    b.node(slots=2)
    b.submit(b"a", b"b", b"c")
    assert len(b.states()) == 2


def test_a_session_gets_no_more_executors_than_it_can_use() -> None:
    b = bench(planner=Says(*[Assign(SessionNumber(1), NodeName("n"))] * 5))
    b.node(slots=5)
    b.submit(b"a", b"b")
    assert len(b.states()) == 2


def test_an_executor_at_work_is_not_evicted() -> None:
    b = bench(planner=Says(Assign(SessionNumber(1), NodeName("n")), Evict(ExecutorId("e1"))))
    b.node()
    b.submit(b"a")
    assert b.states() == {"e1": ExecutorState.BINDING}


def test_a_session_that_fits_on_no_node_makes_nobody_give_way() -> None:
    """Else one request larger than any machine would take the whole cluster's share."""
    b = bench()
    b.open("huge", priority=9, resources=HUGE)
    b.attach(2, "huge")
    b.submit(b"x", attachment=2)
    b.node()
    b.submit(b"a", b"b")
    b.bind()
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


class Counts(Scheduler):
    """Counts the plans."""

    plans = 0

    def plan(self, ledger: Ledger) -> Plan:
        self.plans += 1
        return super().plan(ledger)


def test_calls_one_after_another_need_no_plans() -> None:
    planner = Counts()
    b = bench(planner=planner)
    b.node()
    b.submit(b"a")
    b.bind()
    b.finish(1)
    before = planner.plans
    for number in range(1, 10):
        b.submit(b"a", first=number)
        b.finish(number + 1, sequence=number + 1)
    assert planner.plans == before
    assert b.session().succeeded == 10


def test_an_executor_without_work_goes_at_once_to_a_session_that_waits() -> None:
    planner = Counts()
    b = bench(planner=planner)
    b.node()
    b.submit(b"a")
    b.bind()
    b.open("t")
    b.attach(2, "t")
    b.submit(b"x", attachment=2)
    before = planner.plans
    b.finish(1)
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    assert planner.plans == before
    b.left()
    b.exited()
    assert [e.session for e in b.state.executors.values()] == [b.session("t")]


def test_an_executor_without_work_stays_while_only_its_own_session_wanted_more() -> None:
    """Else every batch would end with its executors gone."""
    b = bench()
    b.node()
    b.submit(b"a", b"b", b"c")
    b.bind(window=3)
    assert b.state.waiting
    b.finish(1, 2, 3)
    assert b.states() == {"e1": ExecutorState.BOUND}
    assert not b.state.waiting


def test_an_executor_without_work_stays_when_nobody_could_use_it() -> None:
    b = bench()
    b.open("huge", resources=HUGE)
    b.attach(2, "huge")
    b.submit(b"x", attachment=2)
    b.node()
    b.submit(b"a")
    b.bind()
    b.finish(1)
    assert b.states() == {"e1": ExecutorState.BOUND}


def test_a_task_that_a_leaving_executor_ends_asks_for_no_other() -> None:
    """Else one is bound for nothing, unbound, and bound again, for as long as the task runs."""
    b = bench(planner=Scheduler())
    b.node(slots=2)
    b.submit(b"a", b"b")
    session = b.session()
    for name, task in (("e1", 1), ("e2", 2)):
        b.bind(name, window=1)
        b.started(task, name)
    assert demand(b.state, session) == 2
    unbind(b.state, b.executor("e2"), b.now)
    assert demand(b.state, session) == 1
    b.node("other", slots=2)  # there is room, and a plan is made
    b.later(1.0)
    assert list(b.state.executors) == ["e1", "e2"]


def test_room_that_a_plan_frees_at_once_is_given_in_the_same_event() -> None:
    """An executor that nobody was told to start is gone when it is released."""
    assign, release = Assign(SessionNumber(1), NodeName("n")), Release(SessionNumber(1), 1)

    class OneByOne:
        plans: tuple[Plan, ...] = ()

        def plan(self, ledger: Ledger) -> Plan:
            first, *rest = self.plans or ((),)
            self.plans = tuple(rest)
            return first

    planner = OneByOne()
    b = bench(planner=planner)
    b.submit(b"a", b"b")
    b.commit_at_once = False
    planner.plans = ((assign,),)
    b.node(slots=1)
    assert b.states() == {"e1": ExecutorState.BINDING}
    planner.plans = ((release,), (assign,))
    b.node("m", slots=1)
    assert b.states() == {"e2": ExecutorState.BINDING}
    assert not b.state.replan
