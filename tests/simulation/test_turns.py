"""Executor-seconds that tenants get of a few executors in the first seconds, on the production core."""

from collections import defaultdict
from dataclasses import replace

import pytest

from flame.model.ids import Tenant
from flame.model.resources import UNIT, Resources
from flame.model.tenants import TenantSpec
from flame.testing.capacity import (
    ClusterSpec,
    Distribution,
    Listed,
    Load,
    NodeGroup,
    Trace,
    constant,
)
from flame.testing.capacity.run import Run
from flame.testing.capacity.sessions import Session
from flame.testing.world import START

EXECUTORS = 8
TASK = 0.05  # seconds
SETTLED, COUNTED = 2.0, 8.0  # seconds: not counted after the last one joined; counted then


class Counting(Run):
    """Counts for how long each tenant's tasks ran between two times."""

    begins = ends = 0.0

    def ran(self, session: Session, begins: list[float], ends: float) -> None:
        super().ran(session, begins, ends)
        first, last = max(begins[0] - START, self.begins), min(ends - START, self.ends)
        self.got[session.load.tenant] += max(0.0, last - first)

    def count(self, begins: float, ends: float) -> dict[Tenant, float]:
        self.begins, self.ends = begins, ends
        self.got: dict[Tenant, float] = defaultdict(float)
        self.run()
        return self.got


@pytest.mark.parametrize("start", [0.05, 0.15])
@pytest.mark.parametrize(
    ("weights", "joins"),
    [
        ([1, 1, 1], [0.0, 0.0, 0.0]),
        ([3, 1], [0.0, 0.0]),
        ([4, 1], [0.0, 0.3]),
        ([3, 1, 1], [0.0, 0.0, 4.0]),
        ([1, 1, 1], [0.0, 0.2, 6.0]),
    ],
)
def test_fractions_go_round_fast_enough_for_shares_to_be_right_within_seconds(
    weights: list[int], joins: list[float], start: float
) -> None:
    tenants = tuple(TenantSpec(Tenant(f"t{n}"), float(w)) for n, w in enumerate(weights))
    seconds = joins[-1] + SETTLED + COUNTED
    tasks = constant(int(EXECUTORS * seconds / TASK))
    sessions = tuple(
        Listed(Load(t.name, tasks, constant(TASK), closes="never"), at)
        for t, at in zip(tenants, joins, strict=True)
    )
    cluster = ClusterSpec((NodeGroup("n", 1, UNIT * EXECUTORS),), tenants, start=start)
    got = Counting(Trace(cluster, sessions, until=seconds), 0, seconds).count(
        joins[-1] + SETTLED, seconds
    )
    all_of_it = sum(got.values())
    assert all_of_it > 0.94 * EXECUTORS * COUNTED
    for tenant in tenants:
        deserved = all_of_it * tenant.weight / sum(weights)
        assert got[tenant.name] == pytest.approx(deserved, rel=0.05), got


def sessions_of_one_tenant(
    executors: int,
    requests: list[Resources],
    *,
    room: int | None = None,
    tasks: float = 0.5,
    seconds: float = 120.0,
) -> list[float]:
    """Let sessions with endless work share; return how much each had at work, in executor-seconds.

    ``room``: Units of the node, of which the tenant's limit allows ``executors``.
    """
    name = Tenant("default")
    limited = () if room is None else (TenantSpec(name, limit=UNIT * executors),)
    load = Load(name, constant(int(executors * seconds / tasks)), constant(tasks), closes="never")
    listed = tuple(Listed(replace(load, resources=r), 0.1 * n) for n, r in enumerate(requests))
    cluster = ClusterSpec((NodeGroup("n", 1, UNIT * (room or executors)),), limited, start=0.2)
    run = BySession(Trace(cluster, listed, until=seconds), 0, seconds)
    run.run()
    return [run.got[n + 1] for n in range(len(requests))]


class BySession(Run):
    """Counts for how long each session's tasks ran."""

    def ran(self, session: Session, begins: list[float], ends: float) -> None:
        super().ran(session, begins, ends)
        self.got[session.index] += ends - begins[0]

    def run(self) -> None:
        self.got: dict[int, float] = defaultdict(float)
        super().run()


@pytest.mark.parametrize(("executors", "sessions"), [(2, 3), (8, 3), (1, 4)])
def test_fractions_go_round_among_a_tenants_sessions_too(executors: int, sessions: int) -> None:
    got = sessions_of_one_tenant(executors, [UNIT] * sessions)
    for seconds in got:
        assert seconds == pytest.approx(sum(got) / sessions, rel=0.15), got
    assert sum(got) > 0.9 * executors * 120.0


def test_one_that_needs_large_executors_has_its_turn_among_small_ones() -> None:
    """Nobody has more than it deserves: three units are shared by three, and one needs two at once."""
    got = sessions_of_one_tenant(3, [UNIT, UNIT, UNIT * 2])
    assert min(got) > 20.0, got


@pytest.mark.parametrize(("executors", "sessions"), [(2, 3), (4, 3)])
def test_fractions_go_round_below_a_full_limit_too(executors: int, sessions: int) -> None:
    got = sessions_of_one_tenant(executors, [UNIT] * sessions, room=8)
    for seconds in got:
        assert seconds == pytest.approx(sum(got) / sessions, rel=0.15), got
    assert sum(got) > 0.9 * executors * 120.0


@pytest.mark.parametrize("reusable", [False, True])
@pytest.mark.parametrize(("room", "others"), [(4, False), (4, True), (8, False)])
@pytest.mark.parametrize("gang", [2, 3, 4])
def test_a_gang_has_its_turns_beside_endless_elastic_work(
    gang: int, room: int, others: bool, reusable: bool
) -> None:
    """On a full cluster and below a full limit; whether executors end or go from one to the other."""
    elastic, other = Tenant("default"), Tenant("other" if others else "default")
    limited = () if room == 4 else (TenantSpec(elastic, limit=UNIT * 4),)
    load = Load(elastic, constant(2_000), Distribution("uniform", 0.2, 2.0), closes="never")
    listed = (Listed(load), Listed(replace(load, tenant=other, batch_size=gang), 1.0))
    nodes = (NodeGroup("n", 1, UNIT * room),)
    cluster = ClusterSpec(nodes, limited, start=0.2, reusable=reusable)
    run = BySession(Trace(cluster, listed, until=120.0), 0, 120.0)
    run.run()
    got = list(run.got.values())
    assert len(got) == 2, "the gang never ran"
    assert min(got) > 0.4 * sum(got), got
    assert sum(got) > 0.8 * 4 * 120.0, got
