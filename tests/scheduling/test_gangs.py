"""All of a gang or none of it, and its turn comes."""

from flame.scheduling.steps import Assign
from tests.scheduling.small_cluster import UNIT, SmallCluster


def test_a_gang_is_placed_across_nodes_at_once() -> None:
    cluster = SmallCluster([2, 2])
    cluster.wish(1, 3, batch=3)
    assert len(cluster.step()) == 3
    assert {e.node for e in cluster.kept()} == {"n0", "n1"}


def test_a_gang_that_does_not_fit_gets_nothing() -> None:
    cluster = SmallCluster([2, 2])
    cluster.wish(1, 5, batch=5)
    cluster.settle()
    assert cluster.have() == {1: 0}


def test_two_gangs_do_not_block_one_another() -> None:
    cluster = SmallCluster([4])
    cluster.wish(1, 3, batch=3)
    cluster.wish(2, 3, batch=3)
    cluster.settle()
    assert cluster.have() == {1: 3, 2: 0}
    cluster.close(1)
    cluster.leave(1)
    cluster.step()
    assert cluster.have() == {2: 0}  # two of three have room
    cluster.leave()
    cluster.step()
    assert cluster.have() == {2: 3}


def test_room_is_made_for_a_gang_and_kept_until_all_of_it_is_there() -> None:
    cluster = SmallCluster([4, 4])
    cluster.wish(1, 20)
    cluster.settle()
    cluster.wish(2, 4, batch=4)
    cluster.step()
    assert sum(r.count for r in cluster.releases) == 4
    for _ in range(3):
        cluster.leave(1)
        assert cluster.step() == ()  # not for session 1 again, not for a part of the gang
    cluster.leave(1)
    assert [type(s) for s in cluster.step()] == [Assign] * 4
    assert cluster.have() == {1: 4, 2: 4}


def test_a_gang_larger_than_its_share_has_its_turn_and_keeps_it() -> None:
    cluster = SmallCluster([8])
    cluster.wish(1, 8)
    cluster.settle()
    cluster.wish(2, 6, batch=6)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 6}


def test_small_work_behind_a_gang_does_not_starve_it() -> None:
    """Sessions of one executor come and go, each of them less served than anybody."""
    cluster = SmallCluster([4])
    for session in range(10, 14):
        cluster.wish(session, 1)
    cluster.settle()
    cluster.wish(1, 4, batch=4)
    running = [10, 11, 12, 13]
    for session in range(20, 40):
        cluster.wish(session, 1)
        if running:
            cluster.close(running.pop(0))
        cluster.leave()
        cluster.step()
        running += [s for s, n in cluster.have().items() if n and s >= 20 and s not in running]
        if cluster.have()[1]:
            break
    assert cluster.have()[1] == 4


def test_something_large_does_not_starve_behind_something_small() -> None:
    cluster = SmallCluster([4, 4])
    cluster.wish(1, 100)
    cluster.settle()
    cluster.wish(2, 1, request=UNIT * 4)
    cluster.settle()
    assert cluster.have() == {1: 4, 2: 1}


def test_a_gang_gives_as_a_whole() -> None:
    cluster = SmallCluster([4])
    cluster.wish(1, 4, batch=2)
    cluster.settle()
    cluster.wish(2, 2)
    cluster.settle()
    assert cluster.have() == {1: 2, 2: 2}
