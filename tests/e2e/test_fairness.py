"""Shares, and a gang beside filler, on a real cluster, counted from the services' own logs.

The figures proper are the benchmark's; here the limits are wide, for a machine that does other things.
"""

import pytest

from benchmarks.fairness import gang_beside_filler, share, tenants_of


@pytest.mark.parametrize("weights", ["3:1", "1:1:1"])
def test_tenants_get_executor_seconds_by_weight(weights: str) -> None:
    tenants = tenants_of(weights, length=5.0)
    rows = share(tenants, seconds=10.0)
    story = [*rows, *([tenant.name, *tenant.executors] for tenant in tenants)]
    assert all(abs(row["off %"]) < 20 for row in rows), "\n".join(map(str, story))


def test_a_gang_starts_beside_filler_that_loses_no_task() -> None:
    (row,) = gang_beside_filler(length=5.0)
    assert row["members"] == 2
    assert row["lost"] == 0
    assert row["both at work after s"] < 10
