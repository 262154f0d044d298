"""Dask: a local cluster of two processes with one thread each.

``worker-saturation: inf`` sends tasks to workers ahead of need (by default the scheduler holds them
back, and is three to four times slower with tasks as short as these). ``map`` makes one future a task
and sends them as one graph; ``submit`` for each is a third slower. The workers' profiler is off.
"""

import logging
from collections.abc import Sequence
from typing import Any

import dask
import distributed

from benchmarks.peers import WORKERS, reverse


class DaskCluster:
    setting = "map with a future each, worker-saturation inf, no profiler, 2 processes of 1 thread"

    def __init__(self) -> None:
        dask.config.set(
            {
                "distributed.scheduler.worker-saturation": "inf",
                "distributed.worker.profile.enabled": False,
            }
        )
        self._cluster = distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.ERROR,
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
