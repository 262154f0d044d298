"""Submitting ahead of what is shown."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from flame.cli.follow import AHEAD, Follow
from flame.model.errors import InvalidRequest


class ManualFuture:
    """A future that finishes when the test says so."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], object]] = []

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def finish(self) -> None:
        for callback in self._callbacks:
            callback(self)


class ManualSession:
    def __init__(self) -> None:
        self.futures: list[ManualFuture] = []
        self.submitted = threading.Semaphore(0)

    def run(self, input: bytes) -> ManualFuture:
        self.futures.append(ManualFuture())
        self.submitted.release()
        return self.futures[-1]


def follow(session: ManualSession, inputs: Iterator[tuple[str, bytes]], **options: Any) -> Follow:
    options.setdefault("ordered", True)
    return Follow(cast(Any, session), inputs, **options)


def items(*names: str) -> Iterator[tuple[str, bytes]]:
    return ((name, b"") for name in names)


def test_tasks_come_in_the_order_of_their_items() -> None:
    tasks = list(follow(ManualSession(), items("a", "b", "c")))
    assert [(task.number, task.item) for task in tasks] == [(1, "a"), (2, "b"), (3, "c")]


def test_unordered_they_come_as_they_finish() -> None:
    session = ManualSession()
    tasks = iter(follow(session, items("a", "b"), ordered=False))
    threading.Thread(target=_finish, args=(session, (1, 0))).start()
    assert [task.item for task in tasks] == ["b", "a"]


def test_what_is_done_is_counted() -> None:
    session, counted = ManualSession(), []
    tasks = iter(follow(session, items("a", "b"), finished=lambda: counted.append(1)))
    next(tasks)
    session.futures[0].finish()
    assert counted == [1]


def test_endless_input_is_read_only_so_far_ahead() -> None:
    session = ManualSession()
    following = follow(session, (("", b"") for _ in iter(int, 1)))
    tasks = iter(following)
    next(tasks)
    for _ in range(AHEAD):
        assert session.submitted.acquire(timeout=30)
    assert not session.submitted.acquire(timeout=0.05)
    next(tasks)  # the first was shown
    assert session.submitted.acquire(timeout=30)
    following.stop()


def test_what_is_wrong_with_the_input_comes_in_its_place() -> None:
    def broken() -> Iterator[tuple[str, bytes]]:
        yield "a", b""
        raise InvalidRequest("no text")

    tasks = iter(follow(ManualSession(), broken()))
    assert next(tasks).item == "a"
    with pytest.raises(InvalidRequest):
        next(tasks)


def _finish(session: ManualSession, order: tuple[int, ...]) -> None:
    for _ in order:
        session.submitted.acquire(timeout=30)
    for place in order:
        while not session.futures[place]._callbacks:
            pass
        session.futures[place].finish()
