"""Sessions of several tenants: weights, limits, and quotas that are taken back."""

from collections import Counter

from flame.core import events
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.resources import GIB, Resources
from flame.model.specs import ExecutorState, SessionSpec
from flame.model.tenants import TenantSpec
from tests.core.builders import SUBMITTER, Bench

A, B = Tenant("a"), Tenant("b")
UNIT = Resources(1000, GIB)


def shared(*tenants: TenantSpec, slots: int = 8) -> Bench:
    b = Bench(tenants=tenants)
    b.register()
    b.node(slots=slots)
    return b


def work(b: Bench, tenant: Tenant, tasks: int, attachment: int) -> None:
    b.post(events.OpenSession(tenant, "s", SessionSpec("app"), f"open {tenant}"))
    b.post(events.Attach(attachment, tenant, "s", SUBMITTER, True, 0, 10**6, "attach"))
    b.submit(*[b"x"] * tasks, attachment=attachment)


def start(b: Bench) -> None:
    """Bring every executor that binds into its session."""
    for executor in list(b.state.executors.values()):
        if executor.state is ExecutorState.BINDING:
            b.bind(executor.id)


def kept(b: Bench) -> dict[str, int]:
    return dict(
        Counter(
            str(e.session.tenant)
            for e in b.state.executors.values()
            if e.session is not None and e.state is not ExecutorState.UNBINDING
        )
    )


def test_executors_are_shared_by_weight() -> None:
    b = shared(TenantSpec(A, weight=3.0), TenantSpec(B))
    work(b, A, 100, 1)
    start(b)
    assert kept(b) == {"a": 8}
    work(b, B, 100, 2)
    assert kept(b) == {"a": 6}  # two are on their way to b
    for executor in list(b.state.executors.values()):
        if executor.state is ExecutorState.UNBINDING:
            b.left(executor.id)
            b.exited(executor.id)
    assert kept(b) == {"a": 6, "b": 2}


def test_a_tenant_stays_within_its_limit() -> None:
    b = shared(TenantSpec(A, limit=UNIT * 2), TenantSpec(B))
    work(b, A, 100, 1)
    assert kept(b) == {"a": 2}
    assert b.cluster.session(A, "s").waiting == (
        "tenant a is at its limit of 2 CPU: it has 2 CPU, 1 CPU more is asked"
    )


def test_a_tenant_at_its_limit_makes_nobody_leave() -> None:
    b = shared(TenantSpec(A, limit=UNIT * 2), TenantSpec(B))
    work(b, A, 100, 1)
    work(b, B, 1, 2)
    start(b)
    (mine,) = [e for e in b.state.executors.values() if e.tenant == B]
    b.finish(1, name=mine.id)
    assert mine.state is ExecutorState.BOUND


def test_a_tenant_that_nobody_listed_has_weight_one() -> None:
    b = shared(slots=4)
    work(b, A, 100, 1)
    start(b)
    work(b, DEFAULT_TENANT, 100, 2)
    assert kept(b) == {"a": 2}
