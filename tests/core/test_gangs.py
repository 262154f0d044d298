"""Gangs: all of it or nothing, and all of it again when one member is lost."""

from flame.core.effects import SendBind
from flame.core.invariants import problems
from flame.core.records import LeaseLost
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber
from flame.model.resources import GIB, Resources
from flame.model.specs import ExecutorState
from flame.scheduling.ledger import Ledger
from flame.scheduling.steps import Assign, Plan
from tests.core.builders import Bench


def gang(slots: int = 2, tasks: int = 2) -> Bench:
    b = Bench()
    b.register()
    b.open(batch_size=2)
    b.attach()
    b.node(slots=slots)
    b.submit(*[b"x"] * tasks)
    return b


def test_a_gang_comes_whole() -> None:
    b = gang()
    assert {e.gang for e in b.state.executors.values()} == {b.executor("e1").incarnation}
    assert len(b.states()) == 2


def test_a_gang_that_does_not_fit_gets_nothing_and_says_so() -> None:
    b = gang(slots=1)
    assert b.states() == {}
    assert b.session().live
    waiting = b.cluster.session(DEFAULT_TENANT, "s").waiting
    assert waiting.startswith("needs 2 executors at once, 1 fit")


def test_a_plan_with_half_a_gang_is_not_taken() -> None:
    class Half:
        def plan(self, ledger: Ledger) -> Plan:
            return (Assign(SessionNumber(1), NodeName("n")),)

    b = Bench(planner=Half())
    b.register()
    b.open(batch_size=2)
    b.attach()
    b.node(slots=2)
    b.submit(b"x", b"x")
    assert b.states() == {}


def test_when_one_dies_the_whole_gang_starts_again_and_the_others_spend_no_attempt() -> None:
    b = gang()
    b.bind("e1", window=1)
    b.bind("e2", window=1)
    b.started(1, "e1")
    b.started(2, "e2")
    b.exited("e1", task=1)
    assert b.states()["e2"] is ExecutorState.RELEASING
    assert [b.session().live[i].attempts for i in (1, 2)] == [1, 0]  # type: ignore[index]
    assert len(b.stored(LeaseLost)) == 2
    b.exited("e2")
    assert set(b.states()) == {"e3", "e4"}


def test_a_member_that_missed_its_binding_hears_of_it_when_the_other_one_is_back() -> None:
    b = gang()
    b.hello("e1")
    b.hello("e2")
    assert len(b.took(SendBind)) == 2
    b.entered("e2")
    b.disconnected("e2")
    b.hello("e1")  # its connection broke; what was on its way is lost
    b.hello("e2", bound=True)
    assert [each.executor for each in b.took(SendBind)] == ["e1"]
    b.entered("e1")
    assert set(b.states().values()) == {ExecutorState.BOUND}


def test_a_gang_stays_while_one_of_it_has_work_and_goes_together() -> None:
    b = gang()
    b.bind("e1", window=1)
    b.bind("e2", window=1)
    b.started(1, "e1")
    b.finish(2, name="e2")
    b.later(100.0)
    assert set(b.states().values()) == {ExecutorState.BOUND}
    b.finish(1, name="e1")
    b.later(31.0)
    assert set(b.states().values()) == {ExecutorState.UNBINDING}


def test_a_part_of_a_gang_is_found_by_the_invariants() -> None:
    b = gang()
    b.executor("e1").gang = 99
    assert any("of gang 99 there are only" in problem for problem in problems(b.state))


def test_a_gang_is_known_again_after_a_restart() -> None:
    b = gang()
    b.bind("e1", window=1)
    b.bind("e2", window=1)
    known = [(ExecutorId(n), b.executor(n).incarnation) for n in ("e1", "e2")]
    after = b.restart()
    after.node(slots=2, executors=known)
    after.hello("e1", bound=True, held=[1])
    after.hello("e2", bound=True, held=[2])
    assert set(after.states().values()) == {ExecutorState.BOUND}
    assert after.executor("e1").gang == after.executor("e2").gang != 0


def test_the_services_enter_when_all_members_are_there_and_know_rank_and_peers() -> None:
    b = gang(tasks=4)
    b.hello("e2")
    assert b.took(SendBind) == []
    b.hello("e1")
    binds = b.took(SendBind)
    assert [(bind.executor, bind.rank) for bind in binds] == [("e1", 0), ("e2", 1)]
    for bind in binds:
        assert [(p.executor, p.node, p.address) for p in bind.peers] == [
            ("e1", "n", "n.example"),
            ("e2", "n", "n.example"),
        ]


def test_no_member_gets_a_task_before_all_have_entered() -> None:
    b = gang(tasks=4)
    b.hello("e1")
    b.hello("e2")
    b.entered("e1")
    assert b.handed("e1") == []
    b.entered("e2")
    assert b.handed("e1")
    assert b.handed("e2")


def test_ranks_start_from_0_again_after_a_member_was_lost() -> None:
    b = gang()
    b.bind("e1", window=1)
    b.bind("e2", window=1)
    assert (b.executor("e1").rank, b.executor("e2").rank) == (0, 1)
    b.exited("e2")
    b.exited("e1")
    assert sorted(e.rank for e in b.state.executors.values()) == [0, 1]
    b.took(SendBind)
    b.hello("e3")
    b.hello("e4")
    assert [(bind.executor, bind.rank) for bind in b.took(SendBind)] == [("e3", 0), ("e4", 1)]


def test_a_member_whose_channel_broke_before_it_entered_is_told_again_and_the_others_not() -> None:
    b = gang()
    b.hello("e1")
    b.hello("e2")
    assert len(b.took(SendBind)) == 2
    b.disconnected("e1")
    b.hello("e1")
    assert [bind.executor for bind in b.took(SendBind)] == ["e1"]


def test_two_executors_with_one_gpu_are_found_by_the_invariants() -> None:
    b = Bench()
    b.register()
    b.open(min_instances=2, resources=Resources(1000, GIB, 1))
    b.node(slots=2, gpus=2)
    b.hello("e1", gpu_ids=("0",))
    b.hello("e2", gpu_ids=("1",))
    assert [e.gpu_ids for e in b.cluster.executors()] == [("0",), ("1",)]
    b.executor("e2").gpu_ids = ("0",)
    assert any("two of its executors have the same GPU" in p for p in problems(b.state))
