"""mpire: one ``apply_async`` a task, for its ``map`` has no result of its own for each."""

from collections.abc import Sequence
from typing import Any

import mpire

from benchmarks.peers import WORKERS, reverse


class MpirePool:
    setting = "apply_async, 2 processes, forked"

    def __init__(self) -> None:
        self._pool = mpire.WorkerPool(WORKERS, start_method="fork", keep_alive=True)

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        submit = self._pool.apply_async
        return [submit(reverse, (payload,)) for payload in payloads]

    def take(self, futures: list[Any]) -> list[bytes]:
        return [future.get() for future in futures]

    def close(self) -> None:
        self._pool.terminate()
