"""``multiprocessing.Pool``: one ``apply_async`` a task, for only that has a result of its own."""

import multiprocessing
from collections.abc import Sequence
from typing import Any

from benchmarks.peers import WORKERS, reverse


class MultiprocessingPool:
    setting = "apply_async, 2 processes, forked"

    def __init__(self) -> None:
        self._pool = multiprocessing.get_context("fork").Pool(WORKERS)

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        submit = self._pool.apply_async
        return [submit(reverse, (payload,)) for payload in payloads]

    def take(self, futures: list[Any]) -> list[bytes]:
        return [future.get() for future in futures]

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()
