"""What a MEMORY session forgets, and when."""

from flame.model.ids import TaskId
from flame.model.specs import Durability, TaskState
from flame.storage.memory import MemoryStore
from tests.storage.records import S1, acknowledged, read, recorded, session_put, submitted

ENOUGH = 1 << 30


def opened(
    *,
    kept_tasks: int = 3,
    kept_bytes: int = ENOUGH,
    durability: Durability = Durability.MEMORY,
) -> MemoryStore:
    store = MemoryStore(kept_tasks=kept_tasks, kept_bytes=kept_bytes)
    store.load()
    store.commit([session_put(S1, durability=durability)], sync=False)
    return store


def kept(store: MemoryStore) -> list[int]:
    return [task.task_id for task in store.tasks(S1, 0, 100)]


def test_only_the_newest_acknowledged_tasks_are_kept() -> None:
    store = opened()
    store.commit([submitted(1, *[b"x"] * 6), recorded(0, 1, 2, 3), recorded(3, 4, 5)], sync=False)
    store.commit([acknowledged(5)], sync=False)
    assert kept(store) == [3, 4, 5, 6]
    assert store.first_kept(S1) == 2
    assert store.task(S1, TaskId(2)) is None
    assert store.outcomes(S1, 1, ENOUGH) is None
    left = store.outcomes(S1, 2, ENOUGH)
    assert left is not None
    assert list(left.task_ids) == [3]


def test_what_is_not_acknowledged_is_kept_however_much_it_is() -> None:
    store = opened()
    store.commit([submitted(1, *[b"x"] * 20), recorded(0, *range(1, 21))], sync=False)
    assert len(kept(store)) == 20
    store.commit([acknowledged(4)], sync=False)
    assert kept(store) == list(range(2, 21))
    assert store.first_kept(S1) == 1


def test_pending_tasks_are_kept_however_old_they_are() -> None:
    store = opened(kept_tasks=0)
    store.commit([submitted(1, *[b"x"] * 5), recorded(0, 5, 2, 4, 3), acknowledged(4)], sync=False)
    assert kept(store) == [1]
    store.commit([submitted(6, b"y"), recorded(4, 6, 1)], sync=False)
    assert kept(store) == [1, 6]
    store.commit([acknowledged(6)], sync=False)
    assert kept(store) == []
    assert store.first_kept(S1) == 6


def test_the_bytes_of_inputs_and_outputs_are_limited_too() -> None:
    store = opened(kept_tasks=100, kept_bytes=250)
    batch = recorded(0, 1, 2, 3, 4, outputs=[bytes(60), None, bytes(60), bytes(60)])
    store.commit([submitted(1, *[bytes(40)] * 4), batch, acknowledged(3)], sync=False)
    assert kept(store) == [1, 2, 3, 4]  # 240 bytes are acknowledged
    store.commit([acknowledged(4)], sync=False)
    assert kept(store) == [2, 3, 4]  # dropped the oldest 100 of 340
    store.commit([submitted(5, bytes(300)), recorded(4, 5), acknowledged(5)], sync=False)
    assert kept(store) == []


def test_a_session_with_another_durability_keeps_everything() -> None:
    """A `memory` cluster may hold such sessions; nobody said that they may forget."""
    store = opened(kept_tasks=0, durability=Durability.DURABLE)
    store.commit([submitted(1, b"x"), recorded(0, 1), acknowledged(1)], sync=False)
    task = store.task(S1, TaskId(1))
    assert task is not None
    assert task.state is TaskState.SUCCEEDED


def test_an_acknowledgement_beyond_the_log_or_repeated_does_no_harm() -> None:
    store = opened(kept_tasks=1)
    store.commit([submitted(1, b"x", b"y"), acknowledged(7)], sync=False)
    store.commit([recorded(0, 1, 2), acknowledged(2), acknowledged(2), acknowledged(1)], sync=False)
    assert kept(store) == [2]


def test_dropping_leaves_counts_ids_and_submitters_as_they_were() -> None:
    """Also in the callers' lists, which other parts of the manager may still read."""
    store = opened(kept_tasks=1)
    first = submitted(1, b"a", b"b")
    store.commit([first, recorded(0, 1)], sync=False)
    store.commit([submitted(3, b"c", b"d", first_number=2), recorded(1, 2, 3)], sync=False)
    before = read(store.load()).recovered.sessions[0]
    store.commit([acknowledged(3)], sync=False)
    after = read(store.load()).recovered.sessions[0]
    assert kept(store) == [3, 4]
    assert after == before
    assert after.next_task_id == 5
    assert first.inputs == (b"a", b"b")


def test_outcomes_in_any_order_let_go_of_the_tasks_of_several_submits() -> None:
    store = opened(kept_tasks=1)
    store.commit([submitted(1, *[b"x"] * 3), submitted(4, *[b"y"] * 2)], sync=False)
    store.commit([recorded(0, 4, 1, 5, 2), acknowledged(3)], sync=False)
    assert kept(store) == [2, 3, 5]
    store.commit([acknowledged(4)], sync=False)
    assert kept(store) == [2, 3]
