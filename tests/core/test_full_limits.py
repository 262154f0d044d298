"""Two sessions of a tenant that is at its limit: the later one gets its part, on a cluster with room."""

from flame.core import events
from flame.core.session import Session
from flame.model.ids import Tenant
from flame.model.resources import GIB, Resources
from flame.model.specs import ExecutorState, SessionSpec
from flame.model.tenants import TenantSpec
from tests.core.builders import SUBMITTER, Bench

A = Tenant("a")


def full(tasks: int = 8) -> Bench:
    """The first session has both executors that the tenant may have, and the node has room for more."""
    limited = TenantSpec(A, limit=Resources(2000, 2 * GIB))
    b = Bench(tenants=[limited])
    b.register(delay_release=60.0)
    b.node(slots=4)
    work(b, "first", tasks, 1)
    for name in ("e1", "e2"):
        b.bind(name, window=1)
    return b


def work(
    b: Bench, name: str, tasks: int, attachment: int, priority: int = 0, tenant: Tenant = A
) -> Session:
    spec = SessionSpec("app", priority=priority)
    b.post(events.OpenSession(tenant, name, spec, f"open {name}"))
    b.post(events.Attach(attachment, tenant, name, SUBMITTER, True, 0, 10**6, f"attach {name}"))
    b.submit(*[b"x"] * tasks, attachment=attachment)
    return b.session_of(tenant, name)


def on_their_way_out(b: Bench) -> list[str]:
    return [n for n, state in b.states().items() if state is ExecutorState.UNBINDING]


def hand_over(b: Bench, name: str) -> None:
    """It finishes what it runs, and leaves."""
    b.finish(*b.executor(name).held, name=name)
    b.left(name)
    if name in b.states():
        b.exited(name)


def test_the_later_one_gets_its_half() -> None:
    b = full()
    later = work(b, "later", 8, 2)
    (name,) = on_their_way_out(b)
    hand_over(b, name)
    assert len(later.executors) == 1
    assert len(b.session_of(A, "first").executors) == 1
    assert on_their_way_out(b) == []


def test_one_of_a_higher_tier_gets_all_that_it_wants() -> None:
    b = full()
    urgent = work(b, "urgent", 8, 2, priority=1)
    assert on_their_way_out(b) == ["e1", "e2"]
    for name in ("e1", "e2"):
        hand_over(b, name)
    assert len(urgent.executors) == 2


def test_an_executor_without_work_does_not_wait_out_its_delay() -> None:
    b = full(tasks=2)
    for name in ("e1", "e2"):
        b.finish(*b.executor(name).held, name=name)
    assert b.session_of(A, "first").unfinished == 0
    assert on_their_way_out(b) == [], "nobody else waits, so they stay warm"
    later = work(b, "later", 8, 2)
    for name in on_their_way_out(b):
        b.left(name)
    assert len(later.executors) == 2


def test_an_executor_of_another_tenant_does_wait_it_out_as_it_would_help_nobody() -> None:
    b = full()
    other = work(b, "other", 1, 2, tenant=Tenant("b"))
    b.bind("e3")
    work(b, "later", 8, 3)
    b.finish(*b.executor("e3").held, name="e3")
    b.later(30.0)
    assert [e.state for e in other.executors.values()] == [ExecutorState.BOUND]
    b.later(31.0)
    assert b.executor("e3").standby
