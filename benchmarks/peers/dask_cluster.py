"""Dask: a local cluster of two processes with a thread each, or of one process with two threads.

What was tried, in tasks a second on two cores (2,500 tasks of 16 bytes):

* ``worker-saturation: inf`` sends tasks to workers ahead of need: 1,190, and 590 without;
* no memory limit, so that no nanny watches it: 1,550;
* no work stealing, which only moves such tasks to and fro: 1,680. Neither a profiler nor logs of events;
* two threads in the client's process, without a socket or a pickle: 2,120;
* a scheduler process of its own: 1,840, so the threads stay the best;
* ``submit`` for each instead of ``map``, which makes one future a task as well: a quarter slower;
* uvloop: no difference.
"""

import logging
from collections.abc import Sequence
from typing import Any

import dask
import distributed

from benchmarks.peers import WORKERS, reverse

SETTINGS = {
    "distributed.scheduler.worker-saturation": "inf",
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 0,
}
SETTING = "map with a future each, worker-saturation inf, no stealing, profiler or memory limit"


class _Dask:
    def __init__(self, **workers: Any) -> None:
        dask.config.set(SETTINGS)
        self._cluster = distributed.LocalCluster(
            dashboard_address=None, silence_logs=logging.CRITICAL, memory_limit=0, **workers
        )
        self._client = distributed.Client(self._cluster)

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        if len(payloads) == 1:
            return [self._client.submit(reverse, payloads[0], pure=False)]
        futures: list[Any] = self._client.map(reverse, payloads, pure=False)
        return futures

    def take(self, futures: list[Any]) -> list[bytes]:
        answers: list[bytes] = self._client.gather(futures)
        return answers

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class DaskProcesses(_Dask):
    setting = f"{SETTING}, 2 processes of 1 thread"

    def __init__(self) -> None:
        super().__init__(n_workers=WORKERS, threads_per_worker=1, host="127.0.0.1")


class DaskThreads(_Dask):
    setting = f"{SETTING}, 2 threads in one process"

    def __init__(self) -> None:
        super().__init__(n_workers=1, threads_per_worker=WORKERS, processes=False)
