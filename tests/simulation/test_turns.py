"""Executor-seconds that tenants get of a few executors in the first seconds, on the production core."""

from collections import defaultdict

import pytest

from flame.model.ids import Tenant
from flame.model.resources import UNIT
from flame.model.tenants import TenantSpec
from flame.testing.capacity import ClusterSpec, Listed, Load, NodeGroup, Trace, constant
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
