"""The pile is full at so many tasks, or so many bytes of large ones; who waits is told of room."""

import threading

import pytest

from flame.sdk import pile as module
from flame.sdk.pile import SMALL, Pile


@pytest.fixture
def pile(monkeypatch: pytest.MonkeyPatch) -> Pile:
    monkeypatch.setattr(module, "MAX_TASKS", 3)
    monkeypatch.setattr(module, "MAX_LARGE_BYTES", 1000)
    return Pile()


def test_it_is_full_at_so_many_small_tasks(pile: Pile) -> None:
    pile.items.extend("ab")
    assert not pile.is_full
    pile.items.append("c")
    assert pile.is_full


def test_it_is_full_at_so_many_bytes_of_large_ones(pile: Pile) -> None:
    pile.count_large(999)
    assert not pile.is_full
    pile.count_large(1)
    assert pile.is_full


def test_whoever_waits_is_told_once_when_there_is_room_and_not_before(pile: Pile) -> None:
    told: list[str] = []
    pile.when_room(lambda: told.append("at once"))
    assert told == ["at once"]
    pile.items.extend("abc")
    pile.count_large(2 * 600)
    pile.when_room(lambda: told.append("later"))
    pile.take(1)
    pile.taken([SMALL])  # there is room for a task, not for its bytes
    assert told == ["at once"]
    pile.take(1)
    pile.taken([600])
    pile.taken([])
    assert told == ["at once", "later"]


def test_what_is_put_back_comes_first_again(pile: Pile) -> None:
    pile.items.extend("abc")
    taken = pile.take(2)
    pile.put_back(taken)
    assert list(pile.items) == ["a", "b", "c"]


def test_a_callback_that_is_taken_back_is_not_called(pile: Pile) -> None:
    told: list[str] = []
    pile.items.extend("abc")

    def tell() -> None:
        told.append("room")

    pile.when_room(tell)
    pile.forget(tell)
    pile.take(3)
    pile.taken([1, 1, 1])
    assert not told


def test_a_thread_that_waits_goes_on_when_there_is_room(pile: Pile) -> None:
    pile.items.extend("abc")
    waiting = threading.Thread(target=pile.wait_for_room)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    pile.take(1)
    pile.taken([1])
    waiting.join(60.0)
    assert not waiting.is_alive()
