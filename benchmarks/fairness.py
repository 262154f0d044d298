"""Shares on a real cluster: who got how many executor-seconds, counted from the services' own logs.

    python -m benchmarks.fairness                        3:1, 1:1:1 and 5:2:1; a late one; a gang
    python -m benchmarks.fairness --weights 4:3:2 --length 20 --seconds 12

Tenants with endless sleeping tasks share eight executors. Counted is from ``SETTLED`` seconds after the
last of them joined. In the last scene a gang of two starts beside one tenant's filler.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import flame
from benchmarks.clusters import DATABASE, application, file_labels
from benchmarks.options import parse
from benchmarks.report import report
from benchmarks.work import check
from flame.model.specs import ApplicationSpec
from flame.sdk.local_cluster import LocalCluster

EXECUTORS = 8
SETTLED = 2.0
OUTSTANDING = 100
SIZE = 16  # bytes of a payload
APPLICATION = "bench-Logged"


class Logged(flame.FlameService):
    """Sleeps for the milliseconds that the session says, and writes down from when to when.

    Answers with its input reversed.
    """

    def on_session_enter(self, context: flame.SessionContext) -> None:
        told = json.loads(context.common_data or b"{}")
        self._seconds = told["length"] / 1000
        name = f"{os.getpid()}-{time.monotonic_ns()}.log"
        self._log = open(Path(told["directory"], name), "w")  # noqa: SIM115 - until it leaves

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        begin = time.monotonic()
        time.sleep(self._seconds)
        self._log.write(f"{begin} {time.monotonic()}\n")
        return context.input and context.input[::-1]

    def on_session_leave(self) -> None:
        self._log.close()


@dataclass(slots=True)
class Tenant:
    """One tenant's endless work, from when it joins."""

    name: str
    weight: float
    length: float  # milliseconds
    joins: float = 0.0
    directory: Path = field(default_factory=Path)
    tasks: int = 0
    executors: list[str] = field(default_factory=list)  # what each did, once it is over

    def work(self, session: flame.Session, end: float) -> None:
        """Keep tasks outstanding until ``end``; every result is checked."""
        window: deque[tuple[flame.Future, bytes]] = deque()
        while time.monotonic() < end or window:
            while len(window) < OUTSTANDING and time.monotonic() < end:
                self.tasks += 1
                payload = os.urandom(SIZE)
                window.append((session.run(payload), payload))
            future, payload = window.popleft()
            check([payload], [future.result()])

    def runs(self) -> Iterator[tuple[float, float]]:
        """When its services were busy."""
        for log in self.directory.glob("*.log"):
            for line in log.read_text().splitlines():
                begin, end = line.split()
                yield float(begin), float(end)

    def at_work_since(self, executors: int) -> float | None:
        """When so many of its executors had begun a task; None: never."""
        first = sorted(
            float(lines.split(maxsplit=1)[0])
            for log in self.directory.glob("*.log")
            if (lines := log.read_text())
        )
        return first[executors - 1] if len(first) >= executors else None

    def note_executors(self, begin: float) -> None:
        """Keep what each of its executors did, in seconds from ``begin``, when its logs are gone."""
        for runs in _by_log(self):
            pauses = [later[0] - before[1] for before, later in pairwise(runs)]
            self.executors.append(
                f"{len(runs)} tasks from {runs[0][0] - begin:.2f} to {runs[-1][1] - begin:.2f} s, "
                f"at most {max(pauses, default=0.0):.2f} s between two"
            )

    def got(self, begin: float, end: float) -> float:
        """Executor-seconds between two times."""
        return sum(max(0.0, min(b, end) - max(a, begin)) for a, b in self.runs())


@contextmanager
def cluster_of(tenants: list[Tenant], executors: int = EXECUTORS) -> Iterator[LocalCluster]:
    """A cluster where they have these weights."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flame-fairness-")))
        shares = {tenant.name: {"weight": tenant.weight} for tenant in tenants}
        cluster = {"name": "fairness", "endpoint": "http://127.0.0.1:1", "tenants": shares}
        config = place / "flame-cluster.yaml"
        config.write_text(json.dumps({"cluster": cluster}))
        for tenant in tenants:
            tenant.directory = place / tenant.name
            tenant.directory.mkdir()
        started = stack.enter_context(LocalCluster(executors=executors, config=config))
        with flame.connect(started.endpoint, token=started.token) as client:
            client.register_application(APPLICATION, logged())
        yield started


def logged() -> ApplicationSpec:
    """The application of the services that log."""
    return replace(application("Logged"), entry_point="benchmarks.fairness:Logged")


def open_session(stack: ExitStack, cluster: LocalCluster, tenant: Tenant, **options: Any) -> Any:
    """A session of the tenant's, on a client of its own."""
    client = stack.enter_context(
        flame.connect(cluster.endpoint, token=cluster.token, tenant=tenant.name)
    )
    told = json.dumps({"directory": str(tenant.directory), "length": tenant.length})
    return client.create_session(APPLICATION, common_data=told.encode(), **options)


def share(
    tenants: list[Tenant], seconds: float, executors: int = EXECUTORS
) -> list[dict[str, Any]]:
    """Let them work; return a row for each."""
    with ExitStack() as stack:
        cluster = stack.enter_context(cluster_of(tenants, executors))
        begin = time.monotonic() + 0.5
        end = begin + max(tenant.joins for tenant in tenants) + seconds
        threads = []
        for tenant in tenants:

            def run(tenant: Tenant = tenant) -> None:
                time.sleep(max(0.0, begin + tenant.joins - time.monotonic()))
                with ExitStack() as own:
                    session = open_session(own, cluster, tenant)
                    tenant.work(session, end)
                    session.close()

            threads.append(threading.Thread(target=run, name=tenant.name))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        since = begin + max(tenant.joins for tenant in tenants) + SETTLED
        got = [tenant.got(since, end) for tenant in tenants]
        weights = sum(tenant.weight for tenant in tenants)
        # A share that is no whole number of executors goes round: counted is its whole part.
        whole = [max(1, int(executors * tenant.weight / weights)) for tenant in tenants]
        at_work = [tenant.at_work_since(n) for tenant, n in zip(tenants, whole, strict=True)]
        for tenant in tenants:
            tenant.note_executors(begin)
        stored = file_labels(cluster.directory / DATABASE)
    scene = ":".join(f"{tenant.weight:g}" for tenant in tenants)
    rows = []
    for tenant, seconds_got, since_when in zip(tenants, got, at_work, strict=True):
        deserved = sum(got) * tenant.weight / weights
        rows.append(
            {
                **stored,
                "weights": scene,
                "tenant": tenant.name,
                "joins s": tenant.joins,
                "share after s": since_when and since_when - begin - tenant.joins,
                "task ms": tenant.length,
                "executor-s": seconds_got,
                "deserved": deserved,
                "off %": 100 * (seconds_got / deserved - 1),
                "in use": sum(got) / (executors * (end - since)),
            }
        )
    return rows


def gang_beside_filler(length: float, executors: int = EXECUTORS) -> list[dict[str, Any]]:
    """A gang of two starts while another tenant's tasks fill the cluster, and none of those is lost."""
    filler, gang = Tenant("filler", 1, length), Tenant("gang", 1, length)
    with ExitStack() as stack:
        cluster = stack.enter_context(cluster_of([filler, gang], executors))
        elastic = open_session(stack, cluster, filler)
        end = time.monotonic() + 8.0
        thread = threading.Thread(target=filler.work, args=(elastic, end))
        thread.start()
        time.sleep(4.0)
        session = open_session(stack, cluster, gang, batch_size=2, max_instances=2)
        begin = time.monotonic()
        payloads = [os.urandom(SIZE) for _ in range(8)]
        futures = [session.run(payload) for payload in payloads]
        check(payloads, [future.result() for future in futures])
        thread.join()
        started = sorted(min(a for a, _ in runs) for runs in _by_log(gang))
        info = elastic.info()
        session.close()
        elastic.close()
        stored = file_labels(cluster.directory / DATABASE)
    return [
        {
            **stored,
            "scene": "a gang of 2 beside elastic filler",
            "both at work after s": started[1] - begin,
            "members": len(started),
            "filler's tasks": filler.tasks,
            "lost": filler.tasks - info.succeeded,
        }
    ]


def _by_log(tenant: Tenant) -> list[list[tuple[float, float]]]:
    found = []
    for log in tenant.directory.glob("*.log"):
        lines = [line.split() for line in log.read_text().splitlines()]
        found.append([(float(a), float(b)) for a, b in lines])
    return [runs for runs in found if runs]


def tenants_of(weights: str, length: float) -> list[Tenant]:
    """Tenants with weights as in ``3:1``."""
    return [Tenant(f"t{n}", float(w), length) for n, w in enumerate(weights.split(":"))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--weights", action="append", help="as in 3:1; may be there several times")
    options.add_argument("--length", type=float, default=5.0, help="of a task, in milliseconds")
    options.add_argument(
        "--seconds", type=float, default=10.0, help="from the last one's joining on"
    )
    options.add_argument("--executors", type=int, default=EXECUTORS)
    chosen, _ = parse(options)
    rows: list[dict[str, Any]] = []
    for weights in chosen.weights or ("3:1", "1:1:1", "5:2:1"):
        rows += share(tenants_of(weights, chosen.length), chosen.seconds, chosen.executors)
    if not chosen.weights:
        late = tenants_of("3:1:1", chosen.length)
        late[-1].joins = 4.0
        rows += share(late, chosen.seconds, chosen.executors)
    report("fairness", rows, "executor-seconds from 2 s after the last one joined")
    if not chosen.weights:
        report("gang", gang_beside_filler(chosen.length, chosen.executors))


if __name__ == "__main__":
    main()
