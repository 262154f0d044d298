"""What holds whatever the cluster, its tenants and what arrives: issue 4's list, on the whole core.

``tests/scheduling/test_properties.py`` has what can be said of the scheduler alone.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from flame.core import allocation, cluster, gangs, preemption
from flame.core.cluster import Cluster
from flame.core.node import Node
from flame.core.session import Session
from flame.model.ids import SessionNumber, Tenant
from flame.model.resources import UNIT
from flame.model.tenants import TenantSpec
from flame.scheduling.deserved import deserved
from flame.scheduling.ledger import Ledger
from flame.scheduling.scheduler import Scheduler
from flame.scheduling.steps import Assign, Evict, Plan
from flame.scheduling.tree import Branch
from flame.scheduling.weighted_share import WeightedShare
from flame.testing.capacity import ClusterSpec, Listed, Load, NodeGroup, Trace, constant
from flame.testing.capacity.run import Run
from tests.scheduling.small_cluster import SmallCluster, tenant
from tests.simulation.sharing import contended, play, traces, with_quota

#: Above it every session has had its turn, whatever the others do.
PATIENCE = 2_000.0


def promises_hold_and_everybody_is_served(trace: Trace) -> None:
    report = play(trace)
    for session in report.sessions:
        assert not session.refused
        assert session.ended is not None, f"{session.name} is never done, at {report.ended:g} s"
    assert report.ended < PATIENCE


def shares_converge(trace: Trace) -> None:
    report = play(trace, Run)
    for listed in trace.sessions:
        got, share = report.shares_of(listed.load.tenant, 40.0)
        one = 1 / sum(group.count * 12 for group in trace.cluster.nodes)
        assert abs(got - share) <= max(0.05 * share, one), f"{listed.load.tenant}: {got} of {share}"


def quota_is_given(trace: Trace) -> None:
    report = play(trace, Run)
    owner = trace.cluster.tenants[0]
    assert owner.quota is not None
    got, _ = report.shares_of(owner.name, 20.0)
    assert got >= owner.quota.cpu_millis / 8000 - 1e-6, f"the owner of {owner.quota} got {got}"


def seeds_decide(trace: Trace) -> None:
    assert play(trace, Run).document() == play(trace, Run).document()


#: A long task, and one urgent session after another that wants its executor.
URGENT = Trace(
    ClusterSpec((NodeGroup("n", 1, UNIT),), grace=0.5),
    (
        Listed(Load(Tenant("default"), constant(1), constant(40.0))),
        *(
            Listed(Load(Tenant("default"), constant(1), constant(1.0), priority=1), at)
            for at in (5.0, 15.0, 25.0, 35.0)
        ),
    ),
)

#: A session that has executors standing by when others come, of another size and as a gang.
WARM = Trace(
    ClusterSpec((NodeGroup("n", 2, UNIT * 4),), delay_release=5, standby=600),
    (
        Listed(Load(Tenant("default"), constant(8), constant(1.0), closes=200.0)),
        Listed(Load(Tenant("default"), constant(1), constant(9.0), UNIT * 3), 20.0),
        Listed(Load(Tenant("default"), constant(4), constant(9.0), batch_size=4), 40.0),
    ),
)

#: Two sessions of a tenant at its limit: what one has no work for is the other's to use.
AT_ITS_LIMIT = Trace(
    ClusterSpec(
        (NodeGroup("n", 1, UNIT), NodeGroup("large", 1, UNIT * 4)),
        (TenantSpec(Tenant("default"), limit=UNIT * 4),),
        delay_release=0,
    ),
    (Listed(Load(Tenant("default"), constant(5), constant(0.3)), count=2),),
)

#: Small executors fill the node that a large one needs; who has to give fits on the other node.
IN_THE_WAY = Trace(
    ClusterSpec((NodeGroup("n", 1, UNIT), NodeGroup("large", 1, UNIT * 4)), placement="pack"),
    (
        Listed(Load(Tenant("default"), constant(5), constant(2.0), max_instances=4)),
        Listed(Load(Tenant("default"), constant(1), constant(0.3), UNIT * 2), 1.0),
    ),
)


@settings(max_examples=30)
@given(traces())
@example(URGENT)
@example(AT_ITS_LIMIT)
@example(IN_THE_WAY)
@example(WARM)
def test_promises_hold_and_everybody_is_served(trace: Trace) -> None:
    promises_hold_and_everybody_is_served(trace)


@settings(max_examples=6)
@given(contended())
def test_shares_converge_to_what_is_deserved(trace: Trace) -> None:
    shares_converge(trace)


@settings(max_examples=8)
@given(with_quota())
def test_a_quota_is_given_whoever_fills_the_cluster(trace: Trace) -> None:
    quota_is_given(trace)


@settings(max_examples=8)
@given(traces())
def test_equal_seeds_give_equal_histories(trace: Trace) -> None:
    seeds_decide(trace)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1.5, 2.0, 4.0]),
)
def test_what_is_deserved_rises_with_weight(
    wishes: list[tuple[int, float, bool]], factor: float
) -> None:
    shares = []
    for first in (wishes[0][1], wishes[0][1] * factor):
        small = SmallCluster([7, 5], tenants=[tenant("a", quota=2), tenant("b", 2.0)])
        for session, (wanted, weight, in_a) in enumerate(wishes):
            small.wish(session, wanted, "a" if in_a else "b", weight=weight if session else first)
        shares.append(deserved(small.ledger)[SessionNumber(0)])
    assert shares[1] >= shares[0] - 1e-9


# --- bugs, planted: the properties can fail ------------------------------------------------------


class ForgetsSomebody(Scheduler):
    """Gives nothing to every second session."""

    def plan(self, ledger: Ledger) -> Plan:
        return tuple(
            s for s in super().plan(ledger) if not isinstance(s, Assign) or int(s.session) % 2
        )


class NeverEvicts(Scheduler):
    """Leaves everybody who serves nobody where he is."""

    def plan(self, ledger: Ledger) -> Plan:
        return tuple(s for s in super().plan(ledger) if not isinstance(s, Evict))


class ThrowsDice(Scheduler):
    """Drops steps at random."""

    def plan(self, ledger: Ledger) -> Plan:
        return tuple(s for s in super().plan(ledger) if random.random() < 0.7)


class AssignsTwice(Scheduler):
    """Takes every step a second time."""

    def plan(self, ledger: Ledger) -> Plan:
        return super().plan(ledger) * 2


def twice_as_large(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Node, "free", property(lambda node: node.capacity * 2 - node.used))
    patch.setattr(cluster, "Scheduler", AssignsTwice)


def planner(kind: type[Scheduler]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(cluster, "Scheduler", kind)

    plant.__name__ = kind.__name__
    return plant


def no_quota(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Branch, "guaranteed", property(lambda self: None, lambda self, value: None))


def for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preemption, "MAX_PREEMPTIONS", 99)


def no_weights(patch: pytest.MonkeyPatch) -> None:
    """In shares alone this is repaid: balances and turns lead to what is deserved, by another way."""
    patch.setattr(WeightedShare, "share", lambda self, used, weight: used)
    patch.setattr(Ledger, "put_balance", lambda self, of, share: None)
    patch.setattr(Ledger, "put_standing", lambda self, of, standing: None)


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """It is for the promise to notice, not for the core's own checks."""
    patch.setattr(Cluster, "check", lambda self: None)


def two_sessions(patch: pytest.MonkeyPatch) -> None:
    unchecked(patch)
    patch.setattr(Session, "drop_executor", lambda self, executor: None)


def half_a_gang(patch: pytest.MonkeyPatch) -> None:
    """One member is made, and nobody restarts what is not whole (that would go on for ever)."""
    unchecked(patch)
    patch.setattr(gangs, "review", lambda state, now: state.touched_gangs.clear())
    whole = allocation._assign_all
    patch.setattr(
        allocation, "_assign_all", lambda state, steps, *rest: whole(state, steps[:1], *rest)
    )


def no_second_look(patch: pytest.MonkeyPatch) -> None:
    """Who had to give waits for the next event, whatever room there is."""
    once = allocation._follow
    patch.setattr(allocation, "_follow", lambda *state: once(*state) and False)


@pytest.mark.parametrize(
    ("examples", "promise", "plant"),
    [
        (traces(), promises_hold_and_everybody_is_served, twice_as_large),
        (traces(), promises_hold_and_everybody_is_served, planner(ForgetsSomebody)),
        (st.just(WARM), promises_hold_and_everybody_is_served, planner(NeverEvicts)),
        (st.just(URGENT), promises_hold_and_everybody_is_served, for_ever),
        (traces(), promises_hold_and_everybody_is_served, two_sessions),
        (traces(), promises_hold_and_everybody_is_served, half_a_gang),
        (st.just(IN_THE_WAY), promises_hold_and_everybody_is_served, no_second_look),
        (contended(), shares_converge, no_weights),
        (with_quota(), quota_is_given, no_quota),
        (traces(), seeds_decide, planner(ThrowsDice)),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_planted_bug_is_caught(
    examples: st.SearchStrategy[Trace],
    promise: Callable[[Trace], None],
    plant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    search = settings(max_examples=30, phases=[Phase.generate], database=None)(
        given(examples)(promise)
    )
    with pytest.raises((AssertionError, Flaky)):
        search()
