"""``concurrent.futures.ProcessPoolExecutor``: one ``submit`` a task.

There is nothing to set for single submits (``map`` has a chunk size, but no future for each task).
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor

from benchmarks.peers import WORKERS, reverse


class ProcessPool:
    setting = "submit, 2 processes, forked"

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork"))

    def submit(self, payloads: Sequence[bytes]) -> list[Future[bytes]]:
        submit = self._pool.submit
        return [submit(reverse, payload) for payload in payloads]

    def take(self, futures: list[Future[bytes]]) -> list[bytes]:
        return [future.result() for future in futures]

    def close(self) -> None:
        self._pool.shutdown()
