"""Standby: a service stays warm in its session without being in anybody's way."""

from dataclasses import replace
from typing import Any

import pytest

from flame.core import effects, events
from flame.core.state import Limits
from flame.model.ids import DEFAULT_TENANT, NodeName, Tenant
from flame.model.resources import UNIT
from flame.model.specs import ApplicationSpec, ExecutorState, SessionSpec
from flame.model.tenants import TenantSpec
from tests.core.builders import Bench

DELAY = 20.0
STANDBY = 100.0


def idle(*, slots: int = 1, tasks: int = 1, bench: Bench | None = None, **spec: Any) -> Bench:
    """Session s has done its tasks, one on each of its executors, whose delay is over."""
    b = bench or Bench()
    if (DEFAULT_TENANT, "app") not in b.state.applications:
        b.register(delay_release=int(DELAY), standby=int(STANDBY))
    b.node(slots=slots)
    b.open(**spec)
    b.attach()
    b.submit(*[b"x"] * tasks)
    for name in list(b.states()):
        b.bind(name, window=1)
    for name in list(b.states()):
        b.finish(*b.executor(name).held, name=name)
    b.later(DELAY + 1.0)
    b.effects.clear()
    return b


def standing_by(b: Bench) -> set[str]:
    return {str(e.id) for e in b.state.executors.values() if e.standby}


def another(b: Bench, tasks: int = 1, name: str = "t", **spec: Any) -> None:
    """A second session comes and submits."""
    b.open(name, **spec)
    b.attach(2, name)
    b.submit(*[b"y"] * tasks, attachment=2)


def test_after_its_delay_an_executor_stands_by_and_its_service_does_not_leave() -> None:
    b = idle()
    assert standing_by(b) == {"e1"}
    assert b.took(effects.SendUnbind) == []
    assert b.executor().session is b.session()


def test_the_next_task_goes_to_it_without_leaving_or_entering() -> None:
    b = idle()
    incarnation = b.executor().incarnation
    b.submit(b"next", first=1)
    assert b.handed() == [2]
    assert b.executor().incarnation == incarnation
    for kind in (effects.SendUnbind, effects.SendBind, effects.StartExecutor):
        assert b.took(kind) == []
    b.finish(2, sequence=2)
    b.later(DELAY - 1.0)
    assert standing_by(b) == set(), "its delay begins again"
    b.later(2.0)
    assert standing_by(b) == {"e1"}


def test_all_that_stand_by_come_back_before_others_are_started() -> None:
    b = idle(slots=4, tasks=2)
    assert standing_by(b) == {"e1", "e2"}
    b.submit(*[b"next"] * 3, first=2)
    assert standing_by(b) == set()
    assert len(b.handed("e1")) == len(b.handed("e2")) == 1
    assert len(b.took(effects.StartExecutor)) == 1


def test_only_as_many_come_back_as_there_is_work_for() -> None:
    b = idle(slots=3, tasks=3)
    b.submit(b"next", first=3)
    assert len(standing_by(b)) == 2


def test_one_that_others_were_busy_for_is_not_kept_from_standing_by() -> None:
    b = Bench()
    b.register(delay_release=int(DELAY), standby=int(STANDBY))
    b.node(slots=2)
    b.open()
    b.attach()
    b.submit(b"short", b"long")
    for name in ("e1", "e2"):
        b.bind(name, window=1)
    b.started(2, "e2")
    b.finish(1)
    b.later(DELAY + 1.0)
    assert standing_by(b) == {"e1"}
    assert b.executor("e2").held


@pytest.mark.parametrize(
    ("application", "session", "seconds"),
    [(None, None, 60.0), (7, None, 7.0), (7, 30, 30.0), (7, 0, 0.0), (0, None, 0.0), (0, 9, 9.0)],
)
def test_the_session_says_how_long_else_its_application_else_the_cluster(
    application: int | None, session: int | None, seconds: float
) -> None:
    b = Bench()
    b.register(delay_release=0, standby=application)
    b = idle(bench=b, standby=session)
    b.later(seconds - DELAY - 2.0 if seconds > DELAY + 2.0 else 0.0)
    assert bool(standing_by(b)) == (seconds > DELAY + 1.0)
    b.later(3.0)
    assert b.states() == {"e1": ExecutorState.UNBINDING}


def test_it_is_given_up_at_once_to_a_session_that_has_no_other_room() -> None:
    b = idle()
    another(b)
    assert len(b.took(effects.SendUnbind)) == 1
    b.left()
    b.exited()
    (start,) = b.took(effects.StartExecutor)
    assert b.executor(start.executor).session is b.session("t")


def test_it_stays_while_there_is_other_room() -> None:
    b = idle(slots=2)
    another(b)
    assert standing_by(b) == {"e1"}
    assert len(b.session("t").executors) == 1


def test_no_more_are_given_up_than_somebody_needs() -> None:
    b = idle(slots=4, tasks=4)
    another(b, 1, resources=UNIT * 2)
    assert len(b.took(effects.SendUnbind)) == 2
    assert len(standing_by(b)) == 2


def test_one_that_would_be_of_no_use_to_those_who_wait_stays() -> None:
    b = idle()
    b.node("g", gpus=1)
    on_gpu = replace(UNIT, gpus=1)
    another(b, name="first", resources=on_gpu)
    b.open("t", resources=on_gpu)
    b.attach(3, "t")
    b.submit(b"z", attachment=3)
    assert b.session("t").executors == {}
    assert standing_by(b) == {"e1"}


def test_it_counts_neither_against_its_tenants_limit_nor_in_its_share() -> None:
    b = Bench(tenants=[TenantSpec(DEFAULT_TENANT, limit=UNIT)])
    b = idle(bench=b, slots=2)
    (tenant,) = b.cluster.tenants()
    assert (tenant.executors, tenant.got) == (0, 0.0)
    another(b)
    assert len(b.session("t").executors) == 1
    assert standing_by(b) == {"e1"}
    b.submit(b"next", first=1)
    assert standing_by(b) == {"e1"}, "the tenant is at its limit now"
    assert "limit of 1 CPU" in b.cluster.session(DEFAULT_TENANT, "s").waiting


def test_it_gives_way_where_there_may_be_no_more_executors() -> None:
    b = idle(bench=Bench(limits=Limits(max_executors=1)), slots=4)
    another(b)
    assert len(b.took(effects.SendUnbind)) == 1


def test_a_gang_gets_the_room_of_those_that_stand_by() -> None:
    b = idle(slots=2, tasks=2)
    another(b, 2, batch_size=2)
    for name in ("e1", "e2"):
        b.left(name)
        b.exited(name)
    assert len(b.session("t").executors) == 2


def test_a_gang_leaves_whole_when_its_delay_is_over() -> None:
    b = idle(slots=2, tasks=2, batch_size=2)
    assert set(b.states().values()) == {ExecutorState.UNBINDING}


def test_minimum_instances_do_not_stand_by() -> None:
    b = idle(slots=3, tasks=3, min_instances=1)
    assert len(standing_by(b)) == 2
    b.later(STANDBY + 1.0)
    assert [e.state for e in b.state.executors.values()].count(ExecutorState.BOUND) == 1


def test_a_process_that_may_be_reused_goes_straight_to_another_session_where_there_is_no_room() -> (
    None
):
    b = Bench()
    b.register(delay_release=int(DELAY), standby=int(STANDBY), reusable=True)
    b = idle(bench=b, slots=2)
    another(b, 2)
    assert b.took(effects.SendUnbind) == []
    (bind,) = b.took(effects.SendBind)
    assert bind.session == b.session("t").number
    assert len(b.took(effects.StartExecutor)) == 1
    assert b.session().executors == {}


@pytest.mark.parametrize("how", ["drain", "cordon", "close"])
def test_it_leaves_with_its_node_or_session(how: str) -> None:
    b = idle()
    if how == "close":
        b.close()
    else:
        b.post(events.CordonNode(NodeName("n"), how == "drain", "cordon"))
    assert b.states() == {"e1": ExecutorState.UNBINDING}
    assert len(b.took(effects.SendUnbind)) == 1


def test_nobody_stands_by_on_a_cordoned_node() -> None:
    b = Bench()
    b.node()
    b.post(events.CordonNode(NodeName("n"), False, "cordon"))
    b.post(events.UncordonNode(NodeName("n"), "uncordon"))
    b = idle(bench=b)
    b.submit(b"next", first=1)
    b.post(events.CordonNode(NodeName("n"), False, "cordon"))
    b.finish(2, sequence=2)
    b.later(DELAY + 1.0)
    assert b.states() == {"e1": ExecutorState.UNBINDING}


def test_a_process_that_dies_meanwhile_costs_nothing() -> None:
    b = idle()
    b.exited()
    assert b.states() == {}
    b.submit(b"next", first=1)
    assert len(b.took(effects.StartExecutor)) == 1
    assert not b.session().events


def test_a_process_whose_channel_broke_can_be_had_again_when_it_is_back() -> None:
    b = idle()
    b.disconnected()
    b.submit(b"next", first=1)
    assert b.handed() == []
    b.hello(bound=True)
    assert b.handed() == [2]
    assert b.took(effects.SendBind) == []


def test_its_time_goes_on_while_its_channel_is_broken() -> None:
    b = idle()
    b.disconnected()
    b.hello(bound=True)
    assert standing_by(b) == {"e1"}
    b.later(STANDBY)
    assert b.states() == {"e1": ExecutorState.UNBINDING}


def test_a_restarted_manager_finds_it_bound_and_uses_it() -> None:
    b = idle()
    other = b.restart()
    other.node(executors=[(other.executor().id, other.executor().process)])
    other.hello(bound=True)
    other.attach(2)
    other.submit(b"next", attachment=2, first=1)
    assert other.handed() == [2]
    assert other.took(effects.SendBind) == []


def test_views_say_who_stands_by() -> None:
    b = idle(slots=2, tasks=2)
    assert [e.standby for e in b.cluster.executors()] == [True, True]
    assert b.cluster.session(DEFAULT_TENANT, "s").standing_by == 2


def test_it_is_given_up_for_what_another_tenant_reserves() -> None:
    other = Tenant("other")
    b = idle(bench=Bench(tenants=[TenantSpec(other)]))
    b.post(events.RegisterApplication(other, "app", ApplicationSpec(), "register"))
    b.post(events.OpenSession(other, "o", SessionSpec("app", min_instances=1), "open"))
    assert b.states() == {"e1": ExecutorState.UNBINDING}
