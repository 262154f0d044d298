"""Idle executors: who has them as they are, and who gets their room."""

from dataclasses import replace

from flame.model.ids import ExecutorId, NodeName, SessionNumber
from flame.model.resources import GIB, Resources
from flame.scheduling.facts import Holding
from flame.scheduling.steps import Assign, Evict, Reuse
from tests.scheduling.small_cluster import UNIT, SmallCluster, tenant


class WithStandby(SmallCluster):
    def stands_by(
        self, name: str, node: str, session: int, *, reusable: bool = False, app: str = "app"
    ) -> None:
        wish = self.wishes[SessionNumber(session)]
        self._put(
            Holding(
                ExecutorId(name),
                NodeName(node),
                wish.request,
                wish.tenant,
                app,
                standby=wish.session,
                reusable=reusable,
            )
        )


def reuse(session: int, name: str) -> Reuse:
    return Reuse(SessionNumber(session), ExecutorId(name))


def assign(session: int, node: str) -> Assign:
    return Assign(SessionNumber(session), NodeName(node))


def test_a_session_has_its_own_back_before_anything_else() -> None:
    cluster = WithStandby([4])
    cluster.wish(1, 0)
    cluster.stands_by("own", "n0", 1)
    cluster.idle("free", "n0")
    cluster.want(1, 3)
    assert cluster.step() == (reuse(1, "own"), reuse(1, "free"), assign(1, "n0"))


def test_another_session_has_it_only_where_processes_are_reused_and_there_is_no_room() -> None:
    for reusable, expected in ((False, (Evict(ExecutorId("own")),)), (True, (reuse(2, "own"),))):
        cluster = WithStandby([2])
        cluster.wish(1, 0)
        cluster.stands_by("own", "n0", 1, reusable=reusable)
        cluster.wish(2, 1)
        assert cluster.step() == (assign(2, "n0"),)
        cluster.want(2, 2)
        assert cluster.step() == expected


def test_one_session_that_finds_nothing_does_not_keep_another_from_its_own() -> None:
    cluster = WithStandby([2])
    cluster.wish(1, 0)
    cluster.wish(2, 0)
    cluster.stands_by("one", "n0", 1)
    cluster.stands_by("two", "n0", 2)
    cluster.wish(3, 1, request=UNIT * 3)
    assert cluster.step() == ()
    cluster.want(2, 1)
    assert cluster.step() == (reuse(2, "two"),)


def test_those_without_a_session_make_room_first() -> None:
    cluster = WithStandby([2])
    cluster.wish(1, 0)
    cluster.stands_by("a", "n0", 1)
    cluster.idle("b", "n0", tenant="elsewhere")
    cluster.wish(2, 1)
    assert cluster.step() == (Evict(ExecutorId("b")),)


def test_nobody_is_evicted_for_a_gang_of_which_only_a_part_would_fit() -> None:
    cluster = WithStandby([1, 1])
    cluster.wish(1, 0)
    cluster.stands_by("own", "n0", 1)
    cluster.wish(2, 1, "other", priority=1)
    cluster.settle()
    cluster.wish(3, 2, batch=2)
    assert cluster.settle() == 0
    assert ExecutorId("own") in cluster.executors


def test_the_room_that_is_kept_for_a_gang_is_cleared_when_that_is_enough() -> None:
    cluster = WithStandby([3, 3])
    cluster.wish(1, 0)
    cluster.wish(3, 2, priority=1)
    cluster.settle()
    cluster.wish(4, 2, batch=2, request=UNIT * 3, weight=9.0)
    cluster.wish(5, 1)
    cluster.settle()
    assert cluster.ledger.line is not None
    assert cluster.have() == {1: 0, 3: 2, 4: 0, 5: 0}, "nobody passes the gang"
    cluster.stands_by("own", "n0", 1)
    assert cluster.step() == (), "there is no use in it yet"
    cluster.close(3)
    cluster.settle()
    assert cluster.have()[4] == 2
    assert ExecutorId("own") not in cluster.executors


def test_those_on_a_node_that_is_gone_are_nobodys() -> None:
    cluster = WithStandby([1])
    cluster.wish(1, 0)
    cluster.stands_by("own", "n0", 1)
    cluster.ledger.drop_machine(NodeName("n0"))
    cluster.want(1, 1)
    assert cluster.plan() == ()
    assert not cluster.ledger.warm.has(cluster.wishes[SessionNumber(1)])


def test_those_on_a_cordoned_node_wait() -> None:
    cluster = WithStandby([1])
    cluster.wish(1, 0)
    cluster.stands_by("own", "n0", 1)
    cluster.node("n0", UNIT, cordoned=True)
    cluster.want(1, 1)
    assert cluster.step() == ()
    cluster.node("n0", UNIT)
    assert cluster.step() == (reuse(1, "own"),)


def test_what_they_take_is_free_for_those_to_whom_quota_is_due() -> None:
    cluster = WithStandby([4], tenants=[tenant("owner", quota=2, lends=False), tenant("b")])
    cluster.wish(1, 0, "b")
    for name in ("w", "x"):
        cluster.stands_by(name, "n0", 1)
    cluster.want(1, 4)
    cluster.settle()
    assert cluster.have() == {1: 2}, "half is held back"


def test_an_executor_that_serves_somebody_is_no_longer_to_be_had() -> None:
    cluster = WithStandby([2])
    cluster.wish(1, 0)
    cluster.stands_by("own", "n0", 1)
    own = cluster.executors[ExecutorId("own")]
    cluster._put(replace(own, leaving=True))
    cluster.want(1, 1)
    assert cluster.step() == (assign(1, "n0"),)


def becomes_idle(cluster: SmallCluster, reusable: bool = True) -> ExecutorId:
    """The first of those on their way out has left its session, and stays warm."""
    first = next(e for e in cluster.executors.values() if e.leaving)
    cluster._put(replace(first, leaving=False, reusable=reusable))
    return first.executor


def released(*, batch: int = 1, request: Resources = UNIT, wanted: int = 1) -> SmallCluster:
    """Session 1 has both executors, and those that session 2 is owed are on their way out."""
    cluster = SmallCluster([2])
    cluster.wish(1, 4)
    cluster.settle()
    cluster.wish(2, wanted, batch=batch, request=request, priority=1)
    cluster.step()
    for executor in [e for e in cluster.executors.values() if e.leaving]:
        cluster._put(replace(executor, session=None))
    assert cluster.ledger.leaves[SessionNumber(2)].promised == wanted
    return cluster


def test_who_is_promised_room_has_the_warm_process_that_stays_there() -> None:
    cluster = released()
    executor = becomes_idle(cluster)
    assert cluster.step() == (Reuse(SessionNumber(2), executor),)
    assert cluster.have() == {1: 1, 2: 1}


def test_a_warm_process_leaves_the_room_that_is_promised_to_who_cannot_use_it() -> None:
    for batch, request, wanted in ((2, UNIT, 2), (1, SMALLER, 1)):
        cluster = released(batch=batch, request=request, wanted=wanted)
        executor = becomes_idle(cluster)
        assert cluster.step() == (Evict(executor),), "and nobody else has it in the meantime"
        cluster.leave()
        cluster.step()
        assert cluster.have()[2] == wanted


SMALLER = Resources(1000, GIB // 2)


def test_an_older_session_has_the_room_of_what_a_newer_one_could_reuse() -> None:
    for policies in (["fifo"], ["priority", "fifo"]):
        cluster = WithStandby([1], policies)
        cluster.wish(1, 1, "other", request=SMALLER)
        cluster.wish(2, 1)
        cluster.idle("warm", "n0")
        assert cluster.step() == (Evict(ExecutorId("warm")),), policies
        cluster.settle()
        assert cluster.have() == {1: 1, 2: 0}, policies


def test_an_older_session_has_the_room_of_what_stood_by_for_a_newer_one() -> None:
    cluster = WithStandby([1], ["fifo"])
    cluster.wish(2, 0)
    cluster.stands_by("own", "n0", 2)
    cluster.wish(1, 1)
    cluster.want(2, 1)
    assert cluster.step() == (Evict(ExecutorId("own")),)


def test_a_newer_session_reuses_what_is_no_room_for_an_older_one() -> None:
    gpu = Resources(1000, GIB, 1)
    cluster = WithStandby([2], ["fifo"])
    cluster.wish(1, 1, "other", request=gpu)  # no GPU there
    cluster.wish(2, 1, "other", requires=(("zone", "b"),))
    cluster.wish(3, 1)
    cluster.idle("warm", "n0")
    assert cluster.step() == (reuse(3, "warm"),)


def test_a_tenant_at_its_limit_keeps_nobody_from_a_warm_process() -> None:
    cluster = WithStandby([2], ["priority", "fair_share"], [tenant("small", limit=1), tenant("b")])
    cluster.wish(1, 2, "small", priority=1)
    cluster.wish(2, 1, "b")
    cluster.idle("warm", "n0", "b")
    assert cluster.step() == (assign(1, "n0"), reuse(2, "warm"))


def test_a_session_of_a_higher_tier_has_the_room_of_what_a_lower_one_could_reuse() -> None:
    cluster = WithStandby([1])
    cluster.wish(1, 1, "other", priority=1, request=SMALLER)
    cluster.wish(2, 1)
    cluster.idle("warm", "n0")
    assert cluster.step() == (Evict(ExecutorId("warm")),)


def test_a_newer_session_reuses_no_process_on_the_last_slot_when_an_older_one_waits_for_it() -> (
    None
):
    cluster = WithStandby([4], ["fifo"], max_executors=1)
    cluster.wish(1, 1, "other")
    cluster.wish(2, 1)
    cluster.idle("warm", "n0")
    assert cluster.step() == (Evict(ExecutorId("warm")),)


def test_room_that_is_kept_for_a_gang_is_not_reused_by_those_who_come_and_go() -> None:
    for policies in (["fifo"], ["priority", "fair_share"]):
        cluster = WithStandby([2], policies)
        cluster.wish(1, 2, "small")
        cluster.settle()
        cluster.wish(2, 2, "gang", batch=2)
        cluster.wish(3, 2, "small", weight=0.1)
        cluster.settle()
        assert cluster.ledger.line is not None, policies
        for round_ in range(4):  # one after the other becomes idle, and would be had by session 3
            first = next(e for e in cluster.kept() if e.session is not None)
            cluster.want(1, max(0, 1 - round_))
            cluster._put(replace(first, session=None, reusable=True))
            cluster.settle()
            if cluster.have()[2]:
                break
        assert cluster.have()[2] == 2, policies
