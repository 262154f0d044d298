"""Where an executor goes."""

from dataclasses import replace

from flame.model.ids import NodeName, SessionNumber
from flame.model.resources import GIB, Resources
from tests.scheduling.small_cluster import UNIT, SmallCluster


def test_spreading_takes_the_emptiest_node_and_packing_the_fullest() -> None:
    for spread, nodes in ((True, [1, 1, 1, 1]), (False, [4])):
        cluster = SmallCluster([4, 4, 4, 4], spread=spread)
        cluster.wish(1, 4)
        cluster.settle()
        counts = [sum(e.node == f"n{n}" for e in cluster.kept()) for n in range(4)]
        assert sorted(filter(None, counts)) == nodes


def test_required_labels_decide_and_preferred_ones_weigh() -> None:
    cluster = SmallCluster()
    cluster.node("a", UNIT * 2, (("disk", "ssd"), ("zone", "a")))
    cluster.node("b", UNIT * 8, (("zone", "b"),))
    cluster.wish(1, 4, requires=(("zone", "a"),))
    cluster.settle()
    assert cluster.have() == {1: 2}
    cluster.close(1)
    cluster.leave()
    cluster.wish(2, 3, prefers=(("disk", "ssd", 1),))
    cluster.settle()
    assert sorted(e.node for e in cluster.kept()) == ["a", "a", "b"]


def test_of_two_preferred_labels_the_heavier_counts_more() -> None:
    cluster = SmallCluster()
    cluster.node("a", UNIT, (("disk", "ssd"),))
    cluster.node("b", UNIT, (("zone", "b"),))
    cluster.wish(1, 1, prefers=(("disk", "ssd", 2), ("zone", "b", 3)))
    cluster.settle()
    assert [e.node for e in cluster.kept()] == ["b"]


def test_ordinary_work_keeps_off_nodes_with_gpus_while_it_can() -> None:
    cluster = SmallCluster()
    cluster.node("gpu", Resources(16_000, 16 * GIB, 2))
    cluster.node("plain", UNIT * 2)
    cluster.wish(1, 3)
    cluster.settle()
    assert sorted(e.node for e in cluster.kept()) == ["gpu", "plain", "plain"]


def test_data_draws_a_session_to_its_node() -> None:
    cluster = SmallCluster([4, 4, 4])
    cluster.wish(1, 1)
    wish = replace(cluster.wishes[SessionNumber(1)], locality={NodeName("n1"): 1.0})
    cluster.ledger.put_wish(wish)
    cluster.settle()
    assert [e.node for e in cluster.kept()] == ["n1"]


def test_extras_are_counted_like_everything_else() -> None:
    cluster = SmallCluster()
    cluster.node("n", Resources(8000, 8 * GIB, 0, (("fpga", 2),)))
    cluster.wish(1, 5, request=Resources(1000, GIB, 0, (("fpga", 1),)))
    cluster.settle()
    assert cluster.have() == {1: 2}
