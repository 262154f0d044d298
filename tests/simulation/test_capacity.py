"""The shipped traces, and what their reports say."""

from dataclasses import replace
from pathlib import Path

import pytest

from flame.model.ids import Tenant
from flame.model.labels import parse_labels, parse_preferences
from flame.model.resources import UNIT
from flame.testing.capacity import (
    ClusterSpec,
    Listed,
    Load,
    NodeGroup,
    Report,
    Trace,
    constant,
    read_trace,
    simulate,
)
from flame.testing.capacity.run import Run

TRACES = Path(__file__).resolve().parent.parent.parent / "examples" / "simulate"


@pytest.fixture(scope="module")
def two_tenants() -> Report:
    return simulate(read_trace(TRACES / "two_tenants.yaml"), until=600)


@pytest.fixture(scope="module")
def gangs() -> Report:
    return simulate(read_trace(TRACES / "gang_and_filler.yaml"))


def test_two_tenants_converge_to_their_weights(two_tenants: Report) -> None:
    research, _ = two_tenants.shares_of("research", 10, 299)
    trading, _ = two_tenants.shares_of("trading", 10, 299)
    assert research / trading == pytest.approx(3, rel=0.05)


def test_a_tenant_that_joins_late_gets_its_share_soon(two_tenants: Report) -> None:
    got, deserved = two_tenants.shares_of("late", 310, 600)
    assert deserved == pytest.approx(0.5)
    assert got == pytest.approx(deserved, rel=0.05)


def test_every_gang_starts_beside_elastic_filler_which_loses_no_task(gangs: Report) -> None:
    figures = gangs.document()
    assert figures["gangs"]["started"] == figures["gangs"]["sessions"] >= 5
    assert figures["gangs"]["start_delay"]["max"] < 10  # the grace of a task is 5 s
    filler = figures["tenants"][0]
    assert filler["tenant"] == "filler"
    assert filler["tasks_finished"] > 9_000
    assert figures["utilisation"]["cpu"]["allocated"] > 0.95


def test_nothing_is_over_capacity_at_any_sample(gangs: Report) -> None:
    assert len(gangs.samples) > 200
    assert all(sample.used.fits_in(sample.capacity) for sample in gangs.samples)


def test_equal_seeds_give_equal_reports_and_others_do_not() -> None:
    trace = read_trace(TRACES / "gang_and_filler.yaml")
    first, again, other = (simulate(trace, seed=s, until=200).document() for s in (1, 1, 2))
    assert first == again
    assert first["tenants"] != other["tenants"]


def test_a_small_part_of_the_large_trace() -> None:
    """Every part of it: many tenants, two tiers, drawn numbers of tasks of drawn lengths."""
    trace = read_trace(TRACES / "large.yaml")
    nodes = tuple(replace(group, count=group.count // 100) for group in trace.cluster.nodes)
    small = replace(
        trace,
        cluster=replace(trace.cluster, nodes=nodes),
        generators=tuple(
            replace(g, poisson=(g.poisson or 0) * 4)
            for g in trace.generators
            if int(g.load.tenant[-3:]) <= 12
        ),
    )
    figures = simulate(small, until=600).document()
    assert figures["cluster"]["nodes"] == 50
    assert [tier["priority"] for tier in figures["tiers"]] == [1, 0]
    assert figures["utilisation"]["cpu"]["allocated"] > 0.8
    assert figures["tasks"]["finished"] > 100


def test_sessions_go_where_their_labels_say() -> None:
    load = Load(Tenant("default"), constant(4), constant(10.0), closes="never")
    zones = [
        NodeGroup(zone, 1, UNIT * 8, parse_labels(f"zone={zone},disk={disk}"))
        for zone, disk in (("a", "hdd"), ("b", "ssd"), ("c", "hdd"))
    ]

    def placed(load: Load) -> set[str]:
        run = Run(Trace(ClusterSpec(tuple(zones)), (Listed(load),)), seed=0, until=5.0)
        run.run()
        return {executor.node for executor in run.cluster.state.executors.values()}

    assert placed(replace(load, require=parse_labels("zone=a"))) == {"a-1"}
    assert placed(replace(load, prefer=parse_preferences("disk=ssd:2"))) == {"b-1"}
    assert len(placed(load)) > 1
