"""Ray with two CPUs, on loopback, with neither dashboard nor usage reports.

Tasks go through the scheduler and leased workers; actors are two processes that are called in turn,
which is Ray's own advice for many small tasks. ``ray.get`` takes all answers at once. Without the events
that its dashboard shows, tasks gain a tenth and actors an eighth; calling the actors by halves instead of in
turn loses a tenth; tasks that ask for less than a CPU only start more processes.
"""

import itertools
import logging
import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns

import ray

from benchmarks.peers import WORKERS, reverse


class _Ray:
    def __init__(self) -> None:
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )

    def take(self, futures: list[Any]) -> list[bytes]:
        answers: list[bytes] = ray.get(futures)
        return answers

    def close(self) -> None:
        ray.shutdown()


class RayTasks(_Ray):
    setting = "remote function, num_cpus 2, no task events, one get for all"

    def __init__(self) -> None:
        super().__init__()
        self._reverse = ray.remote(reverse).options(enable_task_events=False)

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        submit = self._reverse.remote
        return [submit(payload) for payload in payloads]


class Reverser:
    def reverse(self, payload: bytes) -> bytes:
        return reverse(payload)


class RayActors(_Ray):
    setting = "2 actors in turn, num_cpus 2, no task events, one get for all"

    def __init__(self) -> None:
        super().__init__()
        reverser = ray.remote(Reverser).options(enable_task_events=False)
        self._actors = [reverser.remote() for _ in range(WORKERS)]

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        actors = itertools.cycle(self._actors)
        return [actor.reverse.remote(payload) for actor, payload in zip(actors, payloads)]  # noqa: B905 - a cycle has no end

    def close(self) -> None:
        self._actors.clear()
        super().close()
