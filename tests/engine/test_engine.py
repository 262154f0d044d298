"""The order of effects, and group commit."""

from typing import Any

from flame.core import effects
from flame.core.records import Barrier, TasksSubmitted
from flame.engine.engine import SMALL_BYTES, SMALL_RECORDS, SMALL_TASKS, Group
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import Durability
from tests.core.builders import Bench, bench


def waiting(b: Bench) -> Group:
    group = b.engine.take_group()
    assert group is not None
    return group


def quiet(**spec: Any) -> Bench:
    b = Bench(commit_at_once=False)
    b.register()
    b.open(**spec)
    b.commit()
    b.attach()
    return b


def test_what_piles_up_during_a_commit_is_the_next_group() -> None:
    b = quiet()
    b.submit(b"a")
    first = waiting(b)
    b.submit(b"b", first=1)
    b.submit(b"c", first=2)
    assert b.engine.take_group() is None  # one is in flight
    assert b.took(effects.Accepted) == []
    b._take(b.engine.committed(b.now))
    assert len(b.took(effects.Accepted)) == 1
    assert len(first.records) == 1
    assert [type(r) for r in waiting(b).records] == [TasksSubmitted, TasksSubmitted]


def test_nothing_waits_for_a_store_that_has_nothing_to_do() -> None:
    b = quiet()
    assert b.engine.is_idle
    assert b.engine.take_group() is None
    b.submit(b"a")
    assert not b.engine.is_idle
    b.commit()
    assert b.engine.is_idle


def test_a_group_with_a_sync_session_is_committed_with_a_sync() -> None:
    b = quiet(durability=Durability.SYNC)
    b.submit(b"a")
    assert waiting(b).sync
    b = quiet()
    b.submit(b"a")
    assert not waiting(b).sync


def test_a_group_is_small_if_it_is_quickly_committed_without_a_sync() -> None:
    def group(*inputs: bytes, count: int = 1, sync: bool = False) -> Group:
        one = TasksSubmitted(SessionNumber(1), b"", 0, TaskId(1), inputs, 0)
        return Group([one] * count, sync)

    assert group(b"a").is_small()
    assert not group(b"a", sync=True).is_small()
    assert group(b"a", count=SMALL_RECORDS).is_small()
    assert not group(b"a", count=SMALL_RECORDS + 1).is_small()
    assert group(*[b"a"] * SMALL_TASKS).is_small()
    assert not group(*[b"a"] * (SMALL_TASKS + 1)).is_small()
    assert group(bytes(SMALL_BYTES)).is_small()
    assert not group(bytes(SMALL_BYTES), b"a").is_small()


def test_the_open_of_a_session_is_synced_as_its_tasks_are() -> None:
    for durability in Durability:
        b = Bench(commit_at_once=False)
        b.register()
        b.commit()
        b.open(durability=durability)
        assert waiting(b).sync is (durability is Durability.SYNC)


def test_memory_sessions_never_wait() -> None:
    b = quiet(durability=Durability.MEMORY)
    b.submit(b"a")
    assert len(b.took(effects.Accepted)) == 1
    assert b.engine.take_group() is None


def test_a_barrier_is_not_stored_but_waited_for() -> None:
    b = quiet()
    b.submit(b"a")
    b.submit(b"a")
    group = waiting(b)
    assert not any(isinstance(r, Barrier) for r in group.records)
    assert b.took(effects.Accepted) == []
    b._take(b.engine.committed(b.now))
    assert len(b.took(effects.Accepted)) == 2


def test_effects_keep_their_order() -> None:
    """An outcome never overtakes the acknowledgement of its submit."""
    b = bench()
    b.node()
    b.submit(b"a")
    b.bind()
    b.finish(1)
    kinds = [type(e) for e in b.effects if isinstance(e, effects.Accepted | effects.SendOutcomes)]
    assert kinds == [effects.Accepted, effects.SendOutcomes]


def test_what_follows_from_a_commit_comes_after_what_the_event_itself_caused() -> None:
    """An executor hears of its last tasks before it is told to give them up and leave."""
    b = Bench()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.attach()
    b.node()
    b.submit(b"a", b"b")
    b.bind(window=1)
    b.effects.clear()
    b.finish(1)
    kinds = [type(e) for e in b.effects]
    assert kinds.index(effects.SendTasks) < kinds.index(effects.SendResultsStored)
