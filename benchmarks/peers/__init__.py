"""The same work on other systems: each payload a task of its own, its answer the payload reversed.

Each system has its file, behind :class:`Peer`, at the best setting that we know (the file says which).
``python -m benchmarks.throughput --peers`` and ``python -m benchmarks.latency --peers`` measure those
that are installed in the same run as Flame, each in a process of its own
(:mod:`benchmarks.peers.compare`); ``make bench-peers`` installs them, in ``.venv-bench``.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

WORKERS = 2  # as Flame has executors


class Peer(Protocol):
    """A running system with :data:`WORKERS` workers."""

    #: The setting, in a few words.
    setting: str

    def submit(self, payloads: Sequence[bytes]) -> list[Any]:
        """Submit one task for each payload; return one future (or what this system has) for each."""

    def take(self, futures: list[Any]) -> list[bytes]:
        """Wait for all; return their answers in order."""

    def close(self) -> None:
        """Stop it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a peer is, and what it needs.

    Attributes:
        place: ``module:Class`` in this package.
        package: What has to be importable; empty: nothing beyond Python.
        called: Its name in tables and drawings, with a place for its version.
        printable: Its payloads have to be printable text.
    """

    name: str
    place: str
    package: str = ""
    called: str = ""
    printable: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    @property
    def title(self) -> str:
        """Name and version."""
        return self.called.format(version(self.package)) if self.package else self.name

    def start(self) -> Peer:
        """Start the system."""
        module, _, attribute = self.place.partition(":")
        peer: Peer = getattr(importlib.import_module(f"benchmarks.peers.{module}"), attribute)()
        return peer


PEERS = {
    entry.name: entry
    for entry in (
        Entry("ProcessPoolExecutor", "process_pool:ProcessPool"),
        Entry("multiprocessing.Pool", "multiprocessing_pool:MultiprocessingPool"),
        Entry("loky", "loky_pool:LokyPool", "loky", "loky {}"),
        Entry("mpire", "mpire_pool:MpirePool", "mpire", "mpire {}"),
        Entry("dask", "dask_cluster:DaskProcesses", "distributed", "Dask {}, processes"),
        Entry("dask-threads", "dask_cluster:DaskThreads", "distributed", "Dask {}, threads"),
        Entry("ray-tasks", "ray_cluster:RayTasks", "ray", "Ray {}, tasks"),
        Entry("ray-actors", "ray_cluster:RayActors", "ray", "Ray {}, actors"),
        Entry("hyperqueue", "hyperqueue_cluster:HyperQueue", "hyperqueue", "HyperQueue {}", True),
    )
}


def reverse(payload: bytes) -> bytes:
    """The task."""
    return payload[::-1]
