from hypothesis import given
from hypothesis import strategies as st

from flame.executor_manager.window import (
    LEAST,
    MOST,
    MOST_BYTES,
    UNTIL_MORE,
    Window,
)
from flame.model.specs import WINDOW_AT_BINDING

US, MS = 1_000, 1_000_000


def settled(task_ns: int, input_bytes: int = 0) -> Window:
    window = Window()
    for _ in range(60):
        count = window.tasks
        window.observe(count, task_ns * count, input_bytes * count)
    return window


def test_it_starts_with_one_that_runs_and_one_that_is_next() -> None:
    assert Window().tasks == 2


def test_tiny_tasks_come_by_the_thousand() -> None:
    assert settled(US // 2).tasks == MOST


def test_it_holds_about_twelve_milliseconds_of_work() -> None:
    assert 90 <= settled(100 * US).tasks <= 150


@given(st.integers(10 * US, 50 * MS))
def test_work_lasts_until_more_comes_although_results_wait(task_ns: int) -> None:
    window = Window()
    while window.observe(1000, task_ns * 1000, 0):
        pass
    assert (
        window.tasks - 1
    ) * task_ns * 5 / 4 >= UNTIL_MORE  # changes of a fifth are not announced


def test_a_long_task_has_one_successor_at_hand() -> None:
    assert settled(50 * MS).tasks == LEAST


def test_it_grows_by_at_most_four_times_at_a_step() -> None:
    window = Window()
    assert window.observe(2, 2 * US, 0)
    assert window.tasks == 8


def test_one_slow_task_shrinks_it_at_once() -> None:
    window = settled(US)
    assert window.slow_task(10 * MS)
    assert window.tasks == LEAST


def test_large_inputs_bound_it_by_their_memory() -> None:
    assert settled(US, 1024 * 1024).tasks <= MOST_BYTES // (1024 * 1024)


def test_a_small_change_is_not_announced() -> None:
    window = settled(100 * US)
    before = window.tasks
    assert not window.observe(before, before * 105 * US, 0)
    assert window.tasks == before


@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.integers(0, 10**12), st.integers(0, 2**34)), max_size=40
    )
)
def test_it_stays_within_its_bounds(batches: list[tuple[int, int, int]]) -> None:
    window = Window()
    for count, elapsed, size in batches:
        window.observe(count, elapsed, size)
        assert LEAST <= window.tasks <= MOST


def test_the_next_session_begins_with_what_was_learnt_within_reason() -> None:
    tiny, slow = settled(US), settled(50 * MS)
    tiny.rebind()
    slow.rebind()
    assert tiny.tasks == WINDOW_AT_BINDING
    assert slow.tasks == LEAST
    tiny.observe(100, 100 * 50 * MS, 0)
    assert tiny.tasks == LEAST
