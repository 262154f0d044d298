"""The lean future, and waiting for many."""

import threading
from collections.abc import Callable

import pytest

from flame.model.errors import InvalidRequest, TaskCancelled, TaskFailed, WrongState
from flame.sdk.future import Future, fail, resolve
from flame.sdk.waiting import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait


class Owner:
    def __init__(self, *, may_wait: bool = True) -> None:
        self.cancelled: list[object] = []
        self._may_wait = may_wait

    def request_cancel(self, future: object) -> None:
        self.cancelled.append(future)

    def may_wait(self) -> bool:
        return self._may_wait


def make(count: int) -> list[Future]:
    return [Future(Owner(), b"in") for _ in range(count)]


def later(work: Callable[[], None]) -> threading.Thread:
    """Do something in another thread, soon; whoever waits for it needs no order."""
    thread = threading.Timer(0.02, work)
    thread.start()
    return thread


def test_a_result_that_is_there_is_returned_at_once() -> None:
    a, b, c = make(3)
    resolve([a, b, c], [b"x", None, b""])
    assert [a.result(), b.result(), c.result()] == [b"x", None, b""]
    assert a.done()
    assert a.exception() is None


def test_an_error_is_raised_each_time_it_is_asked_for() -> None:
    (a,) = make(1)
    fail([a], TaskFailed("boom", task=7))
    for _ in range(2):
        with pytest.raises(TaskFailed, match="boom") as caught:
            a.result()
        assert caught.value.task == 7
    assert isinstance(a.exception(), TaskFailed)


def test_a_waiting_thread_is_woken() -> None:
    (a,) = make(1)
    thread = later(lambda: resolve([a], [b"late"]))
    assert a.result(timeout=10) == b"late"
    thread.join()


def test_several_threads_may_wait_for_one_future() -> None:
    (a,) = make(1)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(a.result(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    resolve([a], [b"x"])
    for thread in threads:
        thread.join()
    assert got == [b"x"] * 4


def test_a_timeout_is_an_error_and_leaves_the_future_as_it_was() -> None:
    (a,) = make(1)
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        a.result(timeout=0.01)
    assert not a.done()
    assert not a._callbacks
    resolve([a], [b"x"])
    assert a.result(0) == b"x"


def test_a_callback_is_called_once_before_or_after_the_outcome() -> None:
    (a,) = make(1)
    called: list[object] = []
    a.add_done_callback(called.append)
    resolve([a], [b"x"])
    a.add_done_callback(called.append)
    assert called == [a, a]


def test_callbacks_see_the_whole_batch_resolved() -> None:
    a, b = make(2)
    seen: list[bool] = []
    a.add_done_callback(lambda _: seen.append(b.done()))
    resolve([a, b], [b"1", b"2"])
    assert seen == [True]


def test_a_callback_that_raises_is_logged_and_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = make(2)
    called: list[object] = []

    def broken(_: Future) -> None:
        raise ValueError("from a callback")

    a.add_done_callback(broken)
    a.add_done_callback(called.append)
    b.add_done_callback(called.append)
    resolve([a, b], [b"1", b"2"])
    assert called == [a, b]
    assert "future-callback-raised" in caplog.text


def test_waiting_in_the_thread_that_brings_outcomes_is_refused_instead_of_hanging() -> None:
    future = Future(Owner(may_wait=False), None)
    with pytest.raises(WrongState, match="another thread"):
        future.result()


def test_cancel_asks_the_owner_only_while_there_is_no_outcome() -> None:
    owner = Owner()
    future = Future(owner, None)
    assert future.cancel()
    assert owner.cancelled == [future]
    fail([future], TaskCancelled("gone"))
    assert not future.cancel()
    assert future.cancelled()


def test_threads_that_add_callbacks_while_outcomes_arrive_lose_none() -> None:
    futures = make(2000)
    called: list[object] = []

    def add() -> None:
        for future in futures:
            future.add_done_callback(called.append)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for future in futures:
        resolve([future], [b"x"])
    for thread in threads:
        thread.join()
    assert len(called) == 4 * len(futures)


# --- many --------------------------------------------------------------------------------------


def test_wait_returns_all_when_all_are_done() -> None:
    futures = make(5)
    thread = later(lambda: resolve(futures, [b"x"] * 5))
    done, not_done = wait(futures, timeout=10)
    assert done == set(futures)
    assert not not_done
    thread.join()


def test_wait_returns_what_there_is_after_its_timeout() -> None:
    a, b = make(2)
    resolve([a], [b"x"])
    done, not_done = wait([a, b], timeout=0.01)
    assert (done, not_done) == ({a}, {b})


def test_wait_for_the_first_leaves_no_callback_behind() -> None:
    a, b = make(2)
    thread = later(lambda: resolve([b], [b"x"]))
    done, not_done = wait([a, b], timeout=10, return_when=FIRST_COMPLETED)
    assert (done, not_done) == ({b}, {a})
    assert not a._callbacks
    thread.join()


def test_wait_for_the_first_error_passes_over_successes() -> None:
    a, b, c = make(3)

    def work() -> None:
        resolve([a], [b"x"])
        fail([b], TaskFailed("boom"))

    thread = later(work)
    done, _ = wait([a, b, c], timeout=10, return_when=FIRST_EXCEPTION)
    assert b in done
    assert c not in done
    thread.join()


def test_wait_refuses_an_unknown_condition() -> None:
    with pytest.raises(InvalidRequest, match="FIRST_COMPLETED"):
        wait([], return_when="SOME")


def test_as_completed_yields_in_the_order_of_outcomes() -> None:
    a, b, c = make(3)
    resolve([c], [b"c"])

    def work() -> None:
        resolve([b], [b"b"])
        resolve([a], [b"a"])

    completions = as_completed([a, b, c], timeout=10)
    assert next(completions) is c
    thread = later(work)
    assert list(completions) == [b, a]
    thread.join()


def test_as_completed_yields_a_future_once_that_is_there_twice() -> None:
    (a,) = make(1)
    resolve([a], [b"x"])
    assert list(as_completed([a, a])) == [a]


def test_as_completed_says_how_many_are_missing_after_its_timeout() -> None:
    a, b = make(2)
    resolve([a], [b"x"])
    with pytest.raises(TimeoutError, match="1 of 2"):
        list(as_completed([a, b], timeout=0.01))
