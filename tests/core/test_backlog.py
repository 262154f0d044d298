"""What may wait in a tenant's sessions, and in the whole cluster: beyond it, refused with numbers."""

from typing import Any

from flame.core import effects, events
from flame.core.state import Limits
from flame.model.errors import FlameError, ResourceExhausted
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.specs import SessionSpec
from flame.model.tenants import TenantSpec
from tests.core.builders import SUBMITTER, Bench, running

A, AX, B = Tenant("a"), Tenant("a/x"), Tenant("b")


def of(*tenants: TenantSpec, **limits: Any) -> Bench:
    b = Bench(tenants=tenants, limits=Limits(**limits))
    b.register()
    return b


def attach(b: Bench, tenant: Tenant, attachment: int, name: str = "s") -> object:
    b.post(events.OpenSession(tenant, name, SessionSpec("app"), f"open {tenant} {name}"))
    answer = b.answers[f"open {tenant} {name}"]
    if not isinstance(answer, FlameError):
        b.post(events.Attach(attachment, tenant, name, SUBMITTER, True, 0, 10**6, "attach"))
    return answer


def refusals(b: Bench) -> list[tuple[int, int, int, str]]:
    """(attachment, first number, count, what was said) of each refusal since the last look."""
    found = b.took(effects.SubmitRefused)
    assert all(isinstance(e.error, ResourceExhausted) for e in found)
    return [(e.attachment, e.first_number, e.count, str(e.error)) for e in found]


def test_what_fits_is_queued_and_the_rest_is_refused_with_the_limit_and_the_amount() -> None:
    b = of(TenantSpec(A, max_queued_tasks=5))
    attach(b, A, 1)
    b.submit(*[b"x"] * 3)
    assert refusals(b) == []
    b.submit(*[b"x"] * 4, first=3)
    assert refusals(b) == [
        (
            1,
            5,
            2,
            (
                "tenant a has 3 tasks queued, and at most 5 may be (max_queued_tasks); 2 tasks more "
                "were not stored: try again when some are done"
            ),
        )
    ]
    assert b.session_of(A).queued == 5


def test_the_credit_of_refused_tasks_is_given_back() -> None:
    b = of(TenantSpec(A, max_queued_tasks=0))
    attach(b, A, 1)
    b.submit(b"xyz")
    assert [e.credit for e in b.took(effects.GrantSubmits)] == [64 + 3]


def test_there_is_room_again_when_tasks_are_handed_out() -> None:
    b = running(2, limits=Limits(max_cluster_tasks=2))
    b.submit(b"3", b"4", first=2)
    assert refusals(b) == []
    b.submit(b"5", first=4)
    ((_, _, _, said),) = refusals(b)
    assert said.startswith("this cluster has 2 tasks queued, and at most 2 may be")


def test_bytes_are_counted_and_one_large_task_is_refused_by_itself() -> None:
    b = of(max_cluster_bytes=100)
    attach(b, A, 1)
    b.submit(b"x" * 60, b"x" * 30, b"x" * 20, b"")
    assert [(first, count) for _, first, count, _ in refusals(b)] == [(2, 2)]
    attach(b, B, 2)
    b.submit(b"x" * 11, attachment=2)
    ((_, _, _, said),) = refusals(b)
    assert "inputs of 90 bytes, and at most 100 may be (max_queued_bytes)" in said
    b.submit(b"x" * 10, attachment=2)
    assert refusals(b) == []


def test_a_tenants_limit_holds_for_those_below_it_together() -> None:
    b = of(TenantSpec(A, max_queued_tasks=3), TenantSpec(AX))
    attach(b, A, 1)
    attach(b, AX, 2)
    attach(b, B, 3)
    b.submit(b"", b"")
    b.submit(b"", b"", attachment=2)
    b.submit(*[b""] * 9, attachment=3)
    assert [(who, first, count) for who, first, count, _ in refusals(b)] == [(2, 1, 1)]


def test_a_single_task_is_refused_likewise() -> None:
    b = of(TenantSpec(DEFAULT_TENANT, max_queued_tasks=1))
    attach(b, DEFAULT_TENANT, 1)
    for reply in ("first", "second"):
        b.post(events.CreateTask(DEFAULT_TENANT, "s", b"", reply))
    assert isinstance(b.answers["second"], ResourceExhausted)
    assert not isinstance(b.answers["first"], FlameError)


def test_open_sessions_are_limited_per_tenant_and_closed_ones_do_not_count() -> None:
    b = of(TenantSpec(A, max_sessions=1), TenantSpec(AX), max_sessions=2)
    assert not isinstance(attach(b, AX, 1), FlameError)
    error = attach(b, A, 2)
    assert isinstance(error, ResourceExhausted)
    assert str(error) == ("tenant a has 1 sessions open, of 1 (max_sessions); close one first")
    attach(b, B, 3)
    assert str(attach(b, DEFAULT_TENANT, 4)).startswith("this cluster has 2 sessions open, of 2")
    b.post(events.CloseSession(AX, "s", True, "close"))
    assert not isinstance(attach(b, A, 5), FlameError)


def test_the_counts_are_right_after_a_restart() -> None:
    b = of()
    attach(b, AX, 1)
    b.submit(b"123", b"45")
    after = b.restart()
    for backlog in (after.state.backlogs.cluster, after.state.backlogs.of(A)):
        assert (backlog.tasks, backlog.size, backlog.sessions) == (2, 5, 1)


def test_tasks_that_are_queued_again_are_not_refused() -> None:
    """They were acknowledged: a limit counts them, and keeps out new ones only."""
    b = running(2, window=2)
    b.post(events.PutTenant(TenantSpec(DEFAULT_TENANT, max_queued_tasks=1), "limit"))
    b.submit(b"3", first=2)
    b.exited("e1")
    assert b.session().queued == 3
    assert refusals(b) == []
    b.submit(b"4", first=3)
    assert len(refusals(b)) == 1
