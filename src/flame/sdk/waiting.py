"""Waiting for several futures, in the manner of ``concurrent.futures``."""

from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import NamedTuple

from flame.model.errors import InvalidRequest
from flame.sdk.future import Future, deadline_of, left_until

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"


class DoneAndNotDone(NamedTuple):
    """What :func:`wait` answers."""

    done: set[Future]
    not_done: set[Future]


def wait(
    futures: Iterable[Future], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDone:
    """Wait until all futures are done, or the first one is, or the first error is there.

    Returns early, without an error, when ``timeout`` seconds are over.

    Raises:
        InvalidRequest: ``return_when`` is none of FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED.
    """
    in_order = list(futures)
    waited = set(in_order)
    if return_when == ALL_COMPLETED:
        # The last submitted is mostly the last to end: waiting for it first saves most waits.
        in_order.reverse()
        _wait_for_all(in_order, timeout)
    elif return_when in (FIRST_COMPLETED, FIRST_EXCEPTION):
        _wait_for_first(waited, timeout, errors_only=return_when == FIRST_EXCEPTION)
    else:
        raise InvalidRequest(
            f"return_when is {return_when!r}; allowed are "
            f"{FIRST_COMPLETED}, {FIRST_EXCEPTION} and {ALL_COMPLETED}"
        )
    done = {future for future in waited if future.done()}
    return DoneAndNotDone(done, waited - done)


def as_completed(futures: Iterable[Future], timeout: float | None = None) -> Iterator[Future]:
    """Yield each future once, as their outcomes come; those that are done already go first.

    Raises:
        TimeoutError: Some are not done ``timeout`` seconds after the call.
    """
    waited = set(futures)
    return _completions(waited, deadline_of(timeout), timeout)


def _completions(
    waited: set[Future], deadline: float | None, timeout: float | None
) -> Iterator[Future]:
    arrivals: SimpleQueue[Future] = SimpleQueue()
    # The callback is a C function: an arrival costs no Python frame in the I/O thread.
    put = arrivals.put
    total = len(waited)
    early = [future for future in waited if future.done()]
    waited.difference_update(early)
    yield from _each_let_go(early)
    try:
        for future in waited:
            future.add_done_callback(put)
        while waited:
            try:
                future = arrivals.get(timeout=left_until(deadline))
            except Empty:
                raise TimeoutError(
                    f"{len(waited)} of {total} futures are not done after {timeout} s"
                ) from None
            waited.discard(future)
            yield future
            del future
    finally:
        for future in waited:
            future.remove_done_callback(put)


def _each_let_go(futures: list[Future]) -> Iterator[Future]:
    """Yield from a list without keeping what was yielded: outputs may be large."""
    while futures:
        yield futures.pop()


def _wait_for_all(futures: Iterable[Future], timeout: float | None) -> None:
    deadline = deadline_of(timeout)
    for future in futures:
        if not future.done():
            try:
                future.exception(left_until(deadline))
            except TimeoutError:
                return


def _wait_for_first(futures: set[Future], timeout: float | None, *, errors_only: bool) -> None:
    completions = _completions(set(futures), deadline_of(timeout), timeout)
    try:
        for future in completions:
            if not errors_only or future.exception() is not None:
                return
    except TimeoutError:
        return
    finally:
        completions.close()  # type: ignore[attr-defined]
