"""A session in memory keeps outcomes until everybody who counts has taken them, and no longer."""

from flame.core import effects, events
from flame.core.keeping import AWAY
from flame.core.outcome_log import TAIL_BYTES
from flame.model.errors import WrongState
from flame.model.specs import Durability
from flame.storage.memory import MemoryStore
from tests.core.builders import Bench

OTHER = b"another one's id"


def two_clients(*, other: bytes = OTHER) -> Bench:
    """The first one submits two tasks; the other one only looks."""
    b = Bench()
    b.volatile = MemoryStore(kept_tasks=0)
    b.volatile.load()
    b.register()
    b.open(durability=Durability.MEMORY)
    b.attach(1, credit=4 * TAIL_BYTES)
    b.attach(2, submitter=other, credit=4 * TAIL_BYTES)
    b.node()
    b.submit(b"a", b"b")
    b.bind()
    return b


def taken(b: Bench, attachment: int, position: int) -> None:
    b.post(events.GrantOutcomes(attachment, position, 4 * TAIL_BYTES))


def told(b: Bench, attachment: int) -> list[tuple[int, int]]:
    """What the attachment is told, also of what has to be fetched from the memory engine."""
    for fetch in b.took(effects.FetchOutcomes):
        batch = b.volatile.outcomes(fetch.session, fetch.position, fetch.max_bytes)
        kept = 0 if batch is not None else b.volatile.first_kept(fetch.session)
        b.post(events.OutcomesFetched(fetch.attachment, batch, kept))
    return b.told(attachment)


def test_a_client_that_was_away_for_a_moment_gets_its_outcomes() -> None:
    b = two_clients()
    b.post(events.Detach(1))
    b.finish(1, 2)
    taken(b, 2, 2)
    assert b.session().acknowledged == 0
    b.attach(3)
    assert told(b, 3) == [(0, 1), (1, 2)]
    taken(b, 3, 2)
    assert b.session().acknowledged == 2


def test_a_client_that_was_away_for_too_long_is_told_so() -> None:
    b = two_clients()
    b.post(events.Detach(1))
    b.finish(1, 2)
    taken(b, 2, 2)
    b.later(AWAY + 1.0)
    assert b.session().acknowledged == 2
    b.attach(3)
    error = b.answers["attach 3"]
    assert isinstance(error, WrongState)
    assert "no longer kept" in str(error)
    b.attach(4, submitter=b"somebody's new id")  # who has nothing to miss is welcome
    assert b.told(4) == []


def test_a_watcher_that_is_far_behind_holds_up_nobody_and_sees_where_it_goes_on() -> None:
    b = two_clients(other=b"")
    large = bytes(TAIL_BYTES // 2)
    b.attach(3, submitter=b"", credit=1)  # takes one, and then nothing
    for number in range(2, 8):
        b.submit(b"c", first=number)
    for number in range(1, 9):
        executor = b.executor()
        b.post(
            events.TasksFinished(executor.id, executor.incarnation, number, [number], [large])  # type: ignore[list-item]
        )
        taken(b, 1, number)
        taken(b, 2, number)
    assert b.session().acknowledged >= 6
    assert told(b, 3) == [(0, 1)]
    taken(b, 3, 1)
    [first, *_] = told(b, 3)
    assert first == (7, 8)  # what was between is not kept
