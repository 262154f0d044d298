"""What is owed to another tenant is taken back: gently, then by throwing work away, within a budget."""

from flame.core import events
from flame.core.records import LeaseLost
from flame.core.state import Limits
from flame.model.attempts import Cause
from flame.model.ids import Tenant
from flame.model.specs import ExecutorState, SessionSpec
from flame.model.tenants import TenantSpec
from flame.scheduling.budget import Budget
from flame.scheduling.policies import Policies
from flame.scheduling.sharing import WHOLE
from flame.scheduling.victims import MAX_PREEMPTIONS
from tests.core.builders import SUBMITTER, Bench

A, B = Tenant("a"), Tenant("b")
GRACE = 10.0


def owed(*, grace: float | None = GRACE, limits: Limits | None = None) -> Bench:
    """Tenant a runs tasks 1 and 2 on both executors; then b comes."""
    b = Bench(policies=Policies(grace=grace), limits=limits, tenants=[TenantSpec(A), TenantSpec(B)])
    b.register()
    b.node(slots=2)
    work(b, A, 4, 1)
    for name, task in (("e1", 1), ("e2", 2)):
        b.bind(name, window=1)
        b.started(task, name)
    b.later(1.0)
    work(b, B, 4, 2)
    return b


def work(b: Bench, tenant: Tenant, tasks: int, attachment: int) -> None:
    b.post(events.OpenSession(tenant, "s", SessionSpec("app"), f"open {tenant}"))
    b.post(events.Attach(attachment, tenant, "s", SUBMITTER, True, 0, 10**6, "attach"))
    b.submit(*[b"x"] * tasks, attachment=attachment)


def asked(b: Bench) -> str:
    (one,) = [str(e.id) for e in b.state.executors.values() if e.state is ExecutorState.UNBINDING]
    return one


def test_a_running_task_is_thrown_away_after_the_grace_and_spends_no_attempt() -> None:
    b = owed()
    name = asked(b)
    b.later(GRACE - 1.0)
    assert b.executor(name).state is ExecutorState.UNBINDING
    b.later(2.0)
    assert b.executor(name).state is ExecutorState.RELEASING
    session = b.state.names[(A, "s")]
    (lost,) = b.stored(LeaseLost)
    assert lost.loss.cause == Cause.PREEMPTED
    (task,) = session.preempted
    assert session.live[task].attempts == 0
    assert b.state.budget is not None
    assert 10.5 < b.state.budget.thrown_away < 12.5
    seen = b.cluster.session(A, "s")
    assert seen.preemptions == 1
    assert seen.preempted_seconds == b.state.budget.thrown_away
    b.exited(name)
    assert [e.tenant for e in b.state.executors.values()] == [A, B]


def test_a_task_that_ends_within_the_grace_counts() -> None:
    b = owed()
    name = asked(b)
    (task,) = b.executor(name).held
    b.finish(task, name=name)
    b.left(name)
    b.exited(name)
    b.later(GRACE + 2.0)
    assert b.stored(LeaseLost) == []
    assert b.state.names[(A, "s")].succeeded == 1


def test_without_a_grace_in_the_policies_no_work_is_thrown_away() -> None:
    b = owed(grace=None)
    b.later(100.0)
    assert b.executor(asked(b)).held


def test_no_more_work_is_thrown_away_than_the_budget_allows() -> None:
    b = owed(limits=Limits(preemption_rate=0.0, preemption_burst=5.0))
    b.later(100.0)
    assert b.executor(asked(b)).held
    assert b.state.budget is not None
    assert b.state.budget.refused == 1  # it costs more every second: nobody asks again


def test_a_task_is_thrown_away_when_the_budget_has_grown_enough_for_it() -> None:
    b = owed(limits=Limits(preemption_rate=2.0, preemption_burst=60.0))
    name = asked(b)
    b.later(6.0)
    b.state.budget = Budget(2.0, 60.0, 0.0, b.now)  # others used it up
    b.later(6.0)  # after the grace 8 s were left for a task that had run for 11
    assert b.executor(name).held
    b.later(2.0)
    assert b.executor(name).state is ExecutorState.RELEASING
    assert b.state.budget.refused == 1


def test_a_task_that_has_run_for_longer_than_a_burst_is_let_run() -> None:
    b = owed(limits=Limits(preemption_rate=100.0, preemption_burst=5.0))
    b.later(100.0)
    assert b.executor(asked(b)).held
    assert b.state.budget is not None
    assert b.state.budget.refused == 1


def test_a_task_is_thrown_away_only_so_often() -> None:
    b = owed()
    name = asked(b)
    (task,) = b.executor(name).held
    b.state.names[(A, "s")].preempted[task] = MAX_PREEMPTIONS
    b.later(100.0)
    assert b.executor(name).held


def test_the_task_that_started_last_goes_first() -> None:
    b = Bench(tenants=[TenantSpec(A), TenantSpec(B)])
    b.register()
    b.node(slots=2)
    work(b, A, 4, 1)
    b.bind("e2", window=1)
    b.started(1, "e2")
    b.later(5.0)
    b.bind("e1", window=1)
    b.started(2, "e1")
    work(b, B, 4, 2)
    assert asked(b) == "e1"


def test_a_tenant_that_was_kept_waiting_is_owed_more_for_a_while() -> None:
    b = owed(grace=None)
    b.later(60.0)
    balance = {name: b.state.ledger.branches[name].balance for name in (A, B)}
    assert balance[B] < -0.01 * WHOLE < balance[A]


def test_usage_is_not_looked_at_while_one_tenant_is_alone() -> None:
    b = Bench(tenants=[TenantSpec(A), TenantSpec(B)])
    b.register()
    b.node(slots=2)
    work(b, A, 4, 1)
    b.later(10.0)
    assert b.state.usage is None
