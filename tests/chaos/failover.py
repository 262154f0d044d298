"""Experiments with two session managers on one PostgreSQL: F1, F2, F3."""

import os
import signal
import threading
import time

from tests.chaos.cluster import MANAGER
from tests.chaos.experiment import Experiment, Failed
from tests.chaos.standbys import SECOND, StandbyCluster
from tests.postgres_server import PostgresServer

TAKEOVER = 5.0  # seconds from a leader's death or stop until the other one serves
BUSY = 6.0  # how much longer everything may take in a slice, beside other tests


def f1(x: Experiment) -> None:
    """kill -9 the leader 10 times, in both directions, under 50,000 tasks; its standby goes on."""
    cluster, _ = _start(x)
    tasks, kills = x.amount(50_000, 2_000), x.amount(10, 2)
    feeder = _Feeder(x, tasks, kills)
    taken: list[float] = []
    for number in range(kills):
        leader = _leader(x, cluster)
        feeder.more()
        if number % 2:
            cluster.look_elsewhere()
        x.fault("kill the leader" + (", as if elsewhere" if number % 2 else ""))
        restarts, pid = len(cluster.restarts[leader]), cluster.pids[leader]
        since = time.monotonic()
        cluster.kill(leader)
        _taken_over(x, cluster, (leader, pid), since, taken)
        x.recovered(since)
        x.restart_awaited(leader, restarts)
        if not x.has_time:
            break
    feeder.finish()
    _conclude(x, cluster, taken)


def f2(x: Experiment) -> None:
    """SIGSTOP the leader 6 times under 50,000 tasks; SIGCONT when the other one leads.

    Somebody asks both all the time, one after the other: nobody is ever told of fewer tasks than
    before.
    """
    cluster, _ = _start(x)
    tasks, stops = x.amount(50_000, 2_000), x.amount(6, 1)
    feeder = _Feeder(x, tasks, stops)
    reader = _Reader(cluster)
    taken: list[float] = []
    for _ in range(stops):
        leader = _leader(x, cluster)
        feeder.more()
        pid = cluster.pids[leader]
        x.fault("stop the leader")
        since = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            _taken_over(x, cluster, (leader, pid), since, taken)
            x.recovered(since)
            epoch = cluster.epoch()
            x.pause(0.0, 2.0)
        finally:
            os.kill(pid, signal.SIGCONT)
        _wait_for_standby(x, cluster, leader)
        if cluster.epoch() != epoch:
            raise Failed("the one that had been stopped took the lease back from a living leader")
        if cluster.pids[leader] != pid:
            raise Failed(f"{leader} was restarted; it should have stood by again")
        if not x.has_time:
            break
    feeder.finish()
    x.report.notes.append(f"{reader.stop()} answers of both session managers, none out of date")
    _conclude(x, cluster, taken)


def f3(x: Experiment) -> None:
    """The database crashes, or stays away for seconds, 6 times under 20,000 tasks."""
    cluster, server = _start(x)
    tasks, crashes = x.amount(20_000, 1_000), x.amount(6, 2)
    feeder = _Feeder(x, tasks, crashes)
    pids = {name: cluster.pids[name] for name in (MANAGER, SECOND)}
    for number in range(crashes):
        feeder.more()
        away = 0.0 if number % 2 else x.random.uniform(1.0, 6.0)
        x.fault("crash the database" if not away else "database away for seconds")
        since = time.monotonic()
        server.stop(signal.SIGKILL)
        time.sleep(away)
        server.start()
        x.recovered(since)
        if not x.has_time:
            break
    feeder.finish()
    if any(cluster.pids[name] != pid for name, pid in pids.items()):
        raise Failed("a session manager ended because its database was away")
    _conclude(x, cluster, [])


class _Feeder:
    """Submits tasks from a thread: with each fault that is about to come, its part of them."""

    def __init__(self, x: Experiment, tasks: int, faults: int) -> None:
        self._allowed = 0
        self._x = x
        self._tasks = tasks
        self._faults = faults
        self._session = x.session()
        self._thread = threading.Thread(target=self._feed, name="chaos-feed", daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        for number in range(self._tasks):
            while number * self._faults >= self._allowed * self._tasks:
                time.sleep(0.002)
            self._x.task(self._session, "ms 2" if number % 8 == 0 else "ok")

    def more(self) -> None:
        """Submit the next part, and return in the middle of it."""
        self._allowed += 1
        told = self._x.log.ended
        self._x.wait_until(lambda: self._x.log.ended > told, "the first outcome of some tasks")
        self._x.pause(0.0, 0.1)

    def finish(self) -> None:
        """Let it submit what is left."""
        self._allowed = self._faults
        self._thread.join(120.0)
        if self._thread.is_alive():
            raise Failed("submitting never ended")


class _Reader:
    """Asks each session manager in turn what it knows, and sees to it that time never goes back."""

    def __init__(self, cluster: StandbyCluster) -> None:
        self._cluster = cluster
        self._known: dict[str, int] = {}
        self._answers = 0
        self._stale = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="chaos-reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            for name in self._cluster.addresses:
                found = self._cluster.sessions(name)
                if found is None:
                    continue
                self._answers += 1
                for session, known in self._known.items():
                    if found.get(session, -1) < known:
                        self._stale = (
                            f"{name} said that {found.get(session)} tasks of {session} had succeeded "
                            f"after {known} were known to"
                        )
                self._known.update(found)

    def stop(self) -> int:
        """Return how many answers there were.

        Raises:
            Failed: One of them was out of date.
        """
        self._stop.set()
        self._thread.join(30.0)
        if self._stale:
            raise Failed(self._stale)
        return self._answers


def _start(x: Experiment) -> tuple[StandbyCluster, PostgresServer]:
    server = PostgresServer()
    x.resources.callback(server.close)
    cluster = StandbyCluster(x.directory / "cluster", 2, server.new_database(), x.bug)
    x.start(cluster=cluster)
    return cluster, server


def _leader(x: Experiment, cluster: StandbyCluster) -> str:
    found: list[str] = []

    def somebody() -> bool:
        found[:] = [cluster.leader()]
        return bool(found[0])

    x.wait_until(somebody, "a leader")
    return found[0]


def _taken_over(
    x: Experiment, cluster: StandbyCluster, gone: tuple[str, int], since: float, taken: list[float]
) -> None:
    """Wait until another process leads: the other one, or a new one in the place of a dead one."""

    def somebody_else() -> bool:
        now = cluster.leader()
        return bool(now) and (now, cluster.pids.get(now)) != gone

    x.wait_until(somebody_else, "a new leader", 60.0)
    taken.append(time.monotonic() - since)


def _wait_for_standby(x: Experiment, cluster: StandbyCluster, name: str) -> None:
    said = cluster.log_of(name).count("standing-by-again")
    x.wait_until(
        lambda: cluster.log_of(name).count("standing-by-again") >= max(said, 1),
        f"{name} stands by again",
    )


def _conclude(x: Experiment, cluster: StandbyCluster, taken: list[float]) -> None:
    if taken:
        x.report.notes.append(
            f"{len(taken)} take-overs: somebody served after "
            f"{sorted(taken)[len(taken) // 2]:.2f} s, at most {max(taken):.2f} s"
        )
        most = TAKEOVER if x.scale >= 1 else BUSY * TAKEOVER
        if max(taken) > most:
            raise Failed(f"a take-over took {max(taken):.1f} s; {most:g} s are allowed")
    for name in cluster.addresses:
        log = cluster.log_of(name)
        if "engine-failed" in log or "Traceback" in log:
            raise Failed(f"the log of {name} has an error:\n{log[-3000:]}")
