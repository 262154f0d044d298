"""Sessions of several tenants: weights, limits, and quotas that are taken back."""

import re
from collections import Counter
from typing import Any

import pytest

from flame.core import effects, events
from flame.core.effects import TenantView
from flame.core.state import Limits
from flame.core.tenants import tenant_view
from flame.model.credentials import TokenId, check_token
from flame.model.errors import (
    AlreadyExists,
    InvalidConfiguration,
    InvalidRequest,
    NotFound,
    WrongState,
)
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


def settle(b: Bench) -> None:
    """Let those leave that have to, and those come that may, until nothing moves."""
    moving = (ExecutorState.UNBINDING, ExecutorState.RELEASING, ExecutorState.BINDING)
    while left := [e for e in b.state.executors.values() if e.state in moving]:
        for executor in left:
            if executor.state is ExecutorState.BINDING:
                b.bind(executor.id)
            elif executor.state is ExecutorState.UNBINDING:
                b.left(executor.id)
            else:
                b.exited(executor.id)


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


# --- managed while the cluster runs --------------------------------------------------------------


def put(b: Bench, spec: TenantSpec, **options: bool) -> Any:
    b.post(events.PutTenant(spec, f"put {spec.name}", **options))
    return b.answers[f"put {spec.name}"]


def delete(b: Bench, name: str) -> Any:
    b.post(events.DeleteTenant(Tenant(name), f"delete {name}"))
    return b.answers[f"delete {name}"]


def view(b: Bench, name: str) -> TenantView:
    return tenant_view(b.cluster.tenants(), Tenant(name))


def test_a_changed_weight_moves_executors_at_once() -> None:
    b = shared()
    work(b, A, 100, 1)
    work(b, B, 100, 2)
    start(b)
    settle(b)
    assert kept(b) == {"a": 4, "b": 4}
    assert put(b, TenantSpec(A, weight=3.0)) == "done"
    assert put(b, TenantSpec(B, weight=1.0)) == "done"
    settle(b)
    assert kept(b) == {"a": 6, "b": 2}
    put(b, TenantSpec(A, weight=1.0))
    assert kept(b) == {"a": 4, "b": 2}  # two are on their way to b


def test_a_new_limit_holds_for_what_comes_and_is_explained() -> None:
    b = shared()
    work(b, A, 1, 1)
    put(b, TenantSpec(A, limit=UNIT * 2))
    b.submit(*[b"x"] * 99, attachment=1, first=1)
    assert kept(b) == {"a": 2}
    assert b.cluster.session(A, "s").waiting.startswith("tenant a is at its limit of 2 CPU")
    put(b, TenantSpec(A))
    assert kept(b) == {"a": 8}


def test_a_tenant_says_how_it_is_served_and_what_waits_in_it() -> None:
    b = shared(TenantSpec(A, weight=3.0))
    put(b, TenantSpec(Tenant("a/x")))
    work(b, Tenant("a/x"), 100, 1)
    start(b)
    work(b, B, 100, 2)
    above, seen = view(b, "a"), view(b, "a/x")
    assert (above.declared, seen.declared) == (True, False)
    assert (seen.executors, seen.open_sessions) == (6, 1)
    assert (seen.queued_tasks, seen.queued_bytes) == (100 - 16, 100 - 16)
    assert above.executors == seen.executors
    settle(b)
    above = view(b, "a")
    assert above.deserved == pytest.approx(0.75)
    assert above.got == pytest.approx(0.75)
    assert view(b, "b").deserved == pytest.approx(0.25)


def test_usage_over_time_is_told_of_tenants_that_share() -> None:
    b = shared(TenantSpec(A), TenantSpec(B))
    work(b, A, 10**4, 1)
    work(b, B, 10**4, 2)
    settle(b)
    assert view(b, "a").usage == 0.0
    b.later(300.0)  # the half-life
    assert view(b, "a").usage == pytest.approx(view(b, "a").got / 2, rel=0.1)


def test_tenants_survive_a_restart_and_declared_ones_are_the_files() -> None:
    b = shared(TenantSpec(A, weight=2.0))
    put(b, TenantSpec(B, weight=5.0, max_sessions=3))
    error = put(b, TenantSpec(A, weight=9.0))
    assert isinstance(error, WrongState)
    assert "declared in the configuration file" in str(error)
    assert isinstance(delete(b, "a"), WrongState)
    after = Bench(store=b.store, now=b.now + 1, tenants=[TenantSpec(A, weight=4.0)])
    assert (view(after, "a").spec.weight, view(after, "b").spec.weight) == (4.0, 5.0)
    assert after.state.backlogs.of(B).max_sessions == 3
    shadowed = Bench(store=b.store, now=b.now + 2, tenants=[TenantSpec(B, weight=1.5)])
    assert view(shadowed, "b").spec == TenantSpec(B, weight=1.5)


def test_a_file_that_does_not_go_with_what_is_stored_is_refused_at_the_start() -> None:
    b = shared(TenantSpec(A))
    put(b, TenantSpec(Tenant("a/x")))
    with pytest.raises(InvalidConfiguration, match=r"a/x.*parent 'a' does not exist"):
        Bench(store=b.store, now=b.now + 1)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TenantSpec(Tenant("n"), weight=0.0), "weight is 0; it must be above 0"),
        (TenantSpec(Tenant("n"), weight=float("nan")), "weight is nan"),
        (TenantSpec(Tenant("no/parent")), "parent 'no' does not exist; add it first"),
        (TenantSpec(Tenant("b/")), "name: at most 8 parts"),
        (TenantSpec(Tenant("n"), quota=UNIT * 2, limit=UNIT), "quota .* is over its limit"),
        (TenantSpec(Tenant("a/x"), quota=UNIT * 3), "the quotas of its children"),
        (TenantSpec(Tenant("n"), borrows=False), "borrows is false, so it needs a quota"),
        (TenantSpec(Tenant("n"), max_sessions=-1), "max_sessions is -1"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(spec: TenantSpec, said: str) -> None:
    b = shared(TenantSpec(A, quota=UNIT * 2))
    before = dict(b.state.tree)
    error = put(b, spec)
    assert isinstance(error, InvalidRequest)
    assert re.search(said, str(error)), error
    assert b.state.tree == before


def test_create_and_update_say_what_they_expect() -> None:
    b = shared()
    error = put(b, TenantSpec(A), must_exist=True)
    assert isinstance(error, NotFound)
    assert put(b, TenantSpec(A), must_be_new=True) == "done"
    error = put(b, TenantSpec(A), must_be_new=True)
    assert isinstance(error, AlreadyExists)
    assert put(b, TenantSpec(A, weight=2.0), must_exist=True) == "done"


def test_a_tenant_in_use_cannot_be_deleted() -> None:
    b = shared()
    put(b, TenantSpec(A))
    put(b, TenantSpec(Tenant("a/x")))
    assert "tenants below it: a/x" in str(delete(b, "a"))
    assert delete(b, "a/x") == "done"
    work(b, A, 1, 1)
    assert "1 open sessions, 's' among them" in str(delete(b, "a"))
    b.post(events.CloseSession(A, "s", True, "close"))
    spec = check_token("user", ["a"], b"", "")
    b.post(events.CreateToken(TokenId("t1"), spec, "token"))
    assert "tokens: t1" in str(delete(b, "a"))
    b.post(events.RevokeToken(TokenId("t1"), "revoke"))
    assert delete(b, "a") == "done"
    error = delete(b, "a")
    assert isinstance(error, NotFound)
    error = delete(b, "default")
    assert isinstance(error, InvalidRequest)


def test_a_token_is_for_tenants_that_exist_and_is_told_of_when_revoked() -> None:
    b = shared()
    spec = check_token("user", ["nobody"], b"", "")
    b.post(events.CreateToken(TokenId("t1"), spec, "create"))
    assert isinstance(b.answers["create"], NotFound)
    b.post(events.CreateToken(TokenId("t2"), check_token("operator", [], b"d", "me"), "again"))
    assert b.answers["again"] == "done"
    after = b.restart()
    assert after.cluster.token(TokenId("t2")) is not None
    after.post(events.RevokeToken(TokenId("t2"), "revoke"))
    assert [e.token for e in after.took(effects.TokenRevoked)] == ["t2"]
    assert after.cluster.token(TokenId("t2")) is None
    after.post(events.RevokeToken(TokenId("t2"), "a third"))
    assert isinstance(after.answers["a third"], NotFound)


def test_there_are_never_more_executors_than_the_cluster_may_have_and_who_waits_is_told() -> None:
    b = Bench(limits=Limits(max_executors=4), tenants=[TenantSpec(A, weight=3.0), TenantSpec(B)])
    b.register()
    b.node(slots=40)
    work(b, A, 100, 1)
    assert kept(b) == {"a": 4}
    assert b.cluster.session(A, "s").waiting == (
        "the cluster has 4 executors, and at most 4 may be (max_executors); "
        "its fair share is 4.0 executors, it has 4 of the 100 it could use"
    )
    start(b)
    work(b, B, 100, 2)
    settle(b)
    assert kept(b) == {"a": 3, "b": 1}
    assert len(b.state.executors) == 4
