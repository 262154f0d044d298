"""Clusters for benchmarks: the two managers and two executors on this machine, and a client."""

import contextlib
import copy
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import flame
from benchmarks.report import labels
from flame.model.ids import SessionNumber
from flame.model.specs import ApplicationSpec, ExecutorState, ShimKind
from flame.sdk.local_cluster import LocalCluster
from flame.storage.open import open_store

ROOT = Path(__file__).resolve().parent.parent
STORAGES = ("sqlite", "memory")
DATABASE = "flame.db"  # in the directory of a local cluster
WAL = 2  # in a SQLite file's header, at JOURNAL_BYTE
JOURNAL_BYTE = 18
EXECUTORS = 2
#: Beside the defaults: a fleet has more executors than they allow.
CONFIGURATION = {
    "name": "bench",
    "endpoint": "http://127.0.0.1:0",
    "limits": {"max_executors": 1_000},
}
WARM_TIMEOUT = 60.0  # seconds
WARM_TASKS = 4_000


def application(service: str, *, reusable: bool = False) -> ApplicationSpec:
    """An application that hosts a class of :mod:`benchmarks.work`."""
    return ApplicationSpec(
        shim=ShimKind.PYTHON,
        entry_point=f"benchmarks.work:{service}",
        environments=(("PYTHONPATH", import_path()),),
        reusable=reusable,
    )


def host_application() -> ApplicationSpec:
    """The same ``Reverse`` as a program of its own, behind the host shim."""
    return ApplicationSpec(
        shim=ShimKind.HOST,
        command=sys.executable,
        arguments=("-m", "benchmarks.host_service", "--role", "service"),
        environments=(("PYTHONPATH", import_path()),),
    )


def import_path() -> str:
    """A PYTHONPATH for services: what they may import is not where they run."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(ROOT), *(os.path.abspath(path) for path in given if path)])


def file_labels(database: Path, durability: str = "durable") -> dict[str, Any]:
    """What the figures of a cluster with this file depend on."""
    # The header says it: another SQLite has no business in a file that is in use.
    with open(database, "rb") as file:
        journal = "wal" if file.read(JOURNAL_BYTE + 1)[JOURNAL_BYTE] == WAL else "rollback"
    return labels("sqlite", durability, journal)


class CpuSeconds(NamedTuple):
    """CPU time of the client, the session manager and all executors."""

    client: float
    manager: float
    executors: float

    def since(self, before: "CpuSeconds") -> "CpuSeconds":
        """What was used after that."""
        return CpuSeconds(*(now - then for now, then in zip(self, before, strict=True)))


class Bench:
    """A cluster, its client, and what to write beside its figures."""

    def __init__(
        self,
        client: flame.Client,
        cluster: LocalCluster,
        storage: str,
        database: Path,
        executors: int,
    ) -> None:
        self.client = client
        self.cluster = cluster
        self.executors = executors
        self._storage = storage
        self._database = database
        self.durability = "memory" if storage == "memory" else "durable"

    def labels(self) -> dict[str, Any]:
        """What the figures depend on."""
        if self._storage == "memory":
            return labels("memory")
        return file_labels(self._database, self.durability)

    def outcomes_after_kill(self, session: int) -> int:
        """Kill the session manager as ``kill -9`` does; count the tasks that succeeded in its file.

        Each task counts once. Ends the cluster.
        """
        # That processes end is no news here.
        logging.getLogger("flame.sdk.local_cluster").setLevel(logging.ERROR)
        manager = self.manager()
        os.kill(manager.pid, signal.SIGKILL)
        manager.wait(timeout=WARM_TIMEOUT)
        self.cluster.stop(grace=0.0)  # before it is started again
        store = open_store(f"sqlite://{self._database}")
        try:
            store.load()
            position, succeeded = 0, set[int]()
            while (batch := store.outcomes(SessionNumber(session), position, 2**24)) is not None:
                position += len(batch.task_ids)
                succeeded.update(
                    task for i, task in enumerate(batch.task_ids) if i not in batch.failures
                )
        finally:
            store.close()
        return len(succeeded)

    def session(self, service: str = "Reverse", **options: Any) -> flame.Session:
        """A new session on an application that :func:`bench` registered."""
        options.setdefault("durability", self.durability)
        return self.client.create_session(f"bench-{service}", **options)

    def with_durability(self, durability: str) -> "Bench":
        """The same cluster, for sessions of another durability."""
        other = copy.copy(self)
        other.durability = durability
        return other

    @contextlib.contextmanager
    def warm_session(self, service: str = "Reverse") -> Iterator[flame.Session]:
        """A session whose executors are all bound and have done some work."""
        with self.session(service, min_instances=self.executors) as session:
            self.warm(session)
            yield session

    def warm(self, session: flame.Session) -> None:
        """Wait for the session's executors and give them WARM_TASKS."""
        self.wait_for_executors(session.name)
        list(session.map([bytes(16)] * WARM_TASKS))

    def wait_for_executors(self, session: str) -> None:
        """Until every executor of the cluster is bound to this session.

        Raises:
            TimeoutError: Some are not after WARM_TIMEOUT seconds.
        """
        deadline = time.monotonic() + WARM_TIMEOUT
        while True:
            executors = self.client.list_executors()
            bound = [
                each
                for each in executors
                if each.session == session and each.state is ExecutorState.BOUND
            ]
            if len(bound) >= self.executors:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(bound)} of {self.executors} executors bound")
            time.sleep(0.02)

    def manager(self) -> psutil.Process:
        """The session manager's process."""
        return started_manager()

    def cpu_seconds(self) -> CpuSeconds:
        """What its parts have used until now; executors that have ended are left out."""
        executors = 0.0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "flame-executor":
                    executors += _cpu_seconds(process)
        return CpuSeconds(_cpu_seconds(psutil.Process()), _cpu_seconds(self.manager()), executors)


def started_manager() -> psutil.Process:
    """The session manager among the processes that we started."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("flame.session_manager" in part for part in process.cmdline()):
                return process
    raise LookupError("no session manager among the processes that we started")


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def bench(
    storage: str = "sqlite", *, executors: int = EXECUTORS, anonymous: bool = False
) -> Iterator[Bench]:
    """Start a cluster with its applications registered; it is gone afterwards."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flame-bench-")))
        database = directory / DATABASE
        config = directory / "flame-cluster.yaml"
        config.write_text(json.dumps({"cluster": CONFIGURATION}))
        cluster = stack.enter_context(
            LocalCluster(
                executors=executors,
                anonymous=anonymous,
                config=config,
                storage="memory" if storage == "memory" else f"sqlite:///{database}",
            )
        )
        client = stack.enter_context(
            flame.connect(cluster.endpoint, token_file=str(cluster.token_file))
        )
        for service in ("Reverse", "Sleep", "Spin"):
            client.register_application(f"bench-{service}", application(service))
        client.register_application("bench-Reusable", application("Reverse", reusable=True))
        client.register_application("bench-Host", host_application())
        yield Bench(client, cluster, storage, database, executors)
