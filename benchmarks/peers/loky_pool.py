"""loky: one ``submit`` a task, on a reusable executor, as joblib uses it. There is nothing to set."""

from collections.abc import Sequence
from concurrent.futures import Future

import loky

from benchmarks.peers import WORKERS, reverse


class LokyPool:
    setting = "submit, 2 processes"

    def __init__(self) -> None:
        self._pool = loky.get_reusable_executor(max_workers=WORKERS)

    def submit(self, payloads: Sequence[bytes]) -> list[Future[bytes]]:
        submit = self._pool.submit
        return [submit(reverse, payload) for payload in payloads]

    def take(self, futures: list[Future[bytes]]) -> list[bytes]:
        return [future.result() for future in futures]

    def close(self) -> None:
        self._pool.shutdown()
