"""What holds for every plan of the fair policy, and a few plans as literals."""

from hypothesis import given

from flame.model.ids import NodeName, SessionNumber
from flame.model.resources import Resources
from flame.scheduling.fair_share import FairShare
from flame.scheduling.snapshot import Assign, NodeOffer, Release, SessionDemand, Snapshot
from tests.scheduling.snapshots import TENANT, UNIT, World, worlds

S1, S2, S3 = SessionNumber(1), SessionNumber(2), SessionNumber(3)
N = NodeName("n")


def settle(world: World) -> list[int]:
    """Plan and apply until nothing is left to do; return how many steps each round took."""
    rounds: list[int] = []
    while plan := FairShare().plan(world.snapshot()):
        rounds.append(len(plan))
        world.apply(plan)
        assert len(rounds) < 10, "plans that never end: what one gives, the next takes away"
    return rounds


@given(worlds())
def test_every_step_can_be_taken(world: World) -> None:
    """No node is overfilled, nothing is given twice, nobody gets more than it wants."""
    world.apply(FairShare().plan(world.snapshot()))
    assert all(world.free(node) >= 0 for node in world.slots)
    assert all(world.wants(number) >= 0 for number in world.sessions)


@given(worlds())
def test_equal_snapshots_give_equal_plans(world: World) -> None:
    assert FairShare().plan(world.snapshot()) == FairShare().plan(world.snapshot())


@given(worlds())
def test_plans_come_to_rest(world: World) -> None:
    """No ping-pong: once a plan is carried out there is soon nothing more to do."""
    settle(world)
    assert FairShare().plan(world.snapshot()) == ()


@given(worlds())
def test_no_usable_room_is_free_while_somebody_wants_it(world: World) -> None:
    settle(world)
    if any(world.wants(number) > 0 for number in world.sessions):
        assert all(world.free(node) == 0 for node in world.slots)
        assert not world.idle


@given(worlds())
def test_no_session_that_wants_more_has_two_fewer_than_another_of_its_priority(
    world: World,
) -> None:
    settle(world)
    for number, session in world.sessions.items():
        if world.wants(number) > 0:
            for other, rival in world.sessions.items():
                if rival.priority == session.priority:
                    assert len(world.bound[other]) <= len(world.bound[number]) + 1


@given(worlds(priorities=3))
def test_a_lower_priority_has_nothing_while_a_higher_one_wants_more(world: World) -> None:
    settle(world)
    for number, session in world.sessions.items():
        if world.wants(number) > 0:
            for other, rival in world.sessions.items():
                if rival.priority < session.priority:
                    assert not world.bound[other]


@given(worlds())
def test_nothing_is_taken_from_anybody_unless_somebody_is_owed_it(world: World) -> None:
    plan = FairShare().plan(world.snapshot())
    released = sum(s.count for s in plan if isinstance(s, Release))
    placed = sum(not isinstance(s, Release) for s in plan)
    if released:
        short = sum(max(0, world.wants(n)) for n in world.sessions)
        assert released <= short - placed + len(world.idle)


def demand(number: SessionNumber, wanted: int, bound: int, **more: int) -> SessionDemand:
    return SessionDemand(
        number, TENANT, "a", int(number), 0, 1.0, UNIT, wanted, more.get("reserved", 0), bound
    )


def cluster(slots: int, free: int, *sessions: SessionDemand, returning: int = 0) -> Snapshot:
    offer = NodeOffer(N, UNIT * free, UNIT * returning)
    return Snapshot(list(sessions), [offer], [], UNIT * slots)


def test_a_newcomer_gets_its_half_as_soon_as_it_is_free() -> None:
    snapshot = cluster(4, 0, demand(S1, 9, 4), demand(S2, 9, 0))
    assert FairShare().plan(snapshot) == (Release(S1, 2),)


def test_what_is_on_its_way_back_is_not_asked_for_again() -> None:
    snapshot = cluster(4, 0, demand(S1, 9, 2), demand(S2, 9, 0), returning=2)
    assert FairShare().plan(snapshot) == ()


def test_reserved_executors_come_first() -> None:
    snapshot = cluster(2, 2, demand(S1, 5, 0), demand(S2, 2, 0, reserved=2))
    assert FairShare().plan(snapshot) == (Assign(S2, N), Assign(S2, N))


def test_an_executor_on_a_node_that_is_away_does_not_leave_room_unused() -> None:
    """It counts towards its session's share, on a node that offers nothing."""
    snapshot = cluster(1, 1, demand(S1, 5, 3))
    assert FairShare().plan(snapshot) == (Assign(S1, N),)


def test_unequal_requests_share_by_their_dominant_resource() -> None:
    """The example of the paper: (1 CPU, 4 GB) and (3 CPU, 1 GB) in (9 CPU, 18 GB)."""
    total = Resources(9000, 18)
    one = SessionDemand(S1, TENANT, "a", 1, 0, 1.0, Resources(1000, 4), 99, 0, 0)
    two = SessionDemand(S2, TENANT, "a", 2, 0, 1.0, Resources(3000, 1), 99, 0, 0)
    plan = FairShare().plan(Snapshot([one, two], [NodeOffer(N, total, Resources())], [], total))
    assert plan.count(Assign(S1, N)) == 3
    assert plan.count(Assign(S2, N)) == 2


def test_an_empty_cluster_has_an_empty_plan() -> None:
    assert FairShare().plan(Snapshot([demand(S3, 3, 0)], [], [], Resources())) == ()
