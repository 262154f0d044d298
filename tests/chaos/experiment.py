"""One run of one experiment: its cluster, its clients' log, its faults, and what was measured."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import flame
from tests.chaos.checker import Verdict, check
from tests.chaos.cluster import DEAD, MANAGER, ChaosCluster
from tests.chaos.evidence import Allowed, ClientLog, Entry, dump_store
from tests.chaos.services import ChaosService

FINISH = 120.0  # seconds after the last fault within which everything must be over
SAMPLE = 0.25  # seconds between looks at the session manager's memory
MIB = 1024 * 1024


class Failed(Exception):
    """The experiment did not go as it must; the text says how."""


@dataclass(slots=True)
class Report:
    """What a run came to."""

    name: str
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    recoveries: list[float] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether no promise was broken."""
        return not self.verdict.problems

    def slope(self) -> float:
        """Return how fast the session manager's memory grew in its last life, in MiB a minute."""
        points = self.rss
        if len(points) < 40:
            return 0.0  # too short a life
        points = points[len(points) // 4 :]  # without its start
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        over = sum((x - mean_x) * (y - mean_y) for x, y in points)
        under = sum((x - mean_x) ** 2 for x, _ in points)
        return over / under * 60 / MIB if under else 0.0


class Experiment:
    """The tools of an experiment.

    Args:
        scale: Which part of the stated numbers of tasks and faults to do.
        seconds: When to stop with faults, even if there were fewer.
        bug: See :class:`ChaosCluster`.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        directory: Path,
        *,
        scale: float = 1.0,
        seconds: float = 120.0,
        bug: str | None = None,
    ) -> None:
        self.report = Report(name, seed)
        self.random = random.Random(f"{name} {seed}")
        self.directory = directory
        self.scale = scale
        self.log = ClientLog()
        self.bug = bug
        self.resources = ExitStack()  # closed after everything is written down
        self.afterwards: list[Callable[[], None]] = []  # more to look at then
        self._until = time.monotonic() + seconds
        self._sessions: list[tuple[flame.Session, bool, int]] = []
        self._watching = threading.Event()
        self._client: flame.Client | None = None
        self.cluster: ChaosCluster
        (directory / "service").mkdir(parents=True, exist_ok=True)

    # --- the cluster and its clients ------------------------------------------------------------

    def start(self, executors: int = 2, cluster: ChaosCluster | None = None) -> ChaosCluster:
        """Start a cluster, or this one, and the watch over its memory."""
        self.cluster = cluster or ChaosCluster(self.directory / "cluster", executors, self.bug)
        self.cluster.start()
        threading.Thread(target=self._watch, name="chaos-rss", daemon=True).start()
        self._client = self.connect()
        return self.cluster

    def connect(self) -> flame.Client:
        """Return one more client."""
        return flame.connect(
            self.cluster.endpoint,
            token_file=self.cluster.token_file,
            ca_file=getattr(self.cluster, "ca_file", None),
        )

    @property
    def client(self) -> flame.Client:
        """The experiment's own client."""
        if self._client is None:
            raise AssertionError("the cluster is not started")
        return self._client

    def session(
        self,
        *,
        client: flame.Client | None = None,
        enter: str = "",
        leave: str = "",
        times: int = 0,
        **options: object,
    ) -> flame.Session:
        """Make a session of the logging service."""
        data = {"log": str(self.directory / "service"), "times": times}
        data |= {name: way for name, way in (("enter", enter), ("leave", leave)) if way}
        session = (client or self.client).create_session(
            ChaosService,
            common_data=json.dumps(data).encode(),
            **options,  # type: ignore[arg-type]
        )
        most = int(options.get("max_attempts", 3)) + int(options.get("retry_on_failure", 0))  # type: ignore[call-overload]
        self._sessions.append((session, True, most))
        return session

    def other_session(self, session: flame.Session) -> flame.Session:
        """Have a session checked whose service writes no log."""
        self._sessions.append((session, False, 3))
        return session

    def task(
        self,
        session: flame.Session,
        word: str = "ok",
        allowed: Allowed | None = None,
        *,
        must_fail: bool = False,
    ) -> Entry:
        """Submit a task; its input has a number, so that no two are alike."""
        value = f"{word} {len(self.log.entries)} {self.random.getrandbits(32):x}"
        return self.log.run(session, value.encode(), allowed, must_fail=must_fail)

    # --- time and faults ------------------------------------------------------------------------

    def amount(self, full: int, least: int = 1) -> int:
        """Return the scaled number of something."""
        return max(least, round(full * self.scale))

    @property
    def has_time(self) -> bool:
        """Whether more faults may be injected."""
        return time.monotonic() < self._until

    def pause(self, least: float, most: float) -> None:
        """Let the cluster work for a random while."""
        time.sleep(self.random.uniform(least, most))

    def fault(self, kind: str) -> None:
        """Count a fault."""
        self.report.faults[kind] += 1

    def recovered(self, since: float) -> None:
        """Wait for the next outcome; that is when a fault is over."""
        told = self.log.ended
        if not self.log.unfinished():
            return
        self.wait_until(lambda: self.log.ended > told, "an outcome after a fault")
        self.report.recoveries.append(time.monotonic() - since)

    def recovered_when(self, condition: Callable[[], bool], what: str) -> float:
        """Wait for a condition from now on: how long that took is a recovery."""
        since = time.monotonic()
        self.wait_until(condition, what, 60.0)
        self.report.recoveries.append(time.monotonic() - since)
        return self.report.recoveries[-1]

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = FINISH) -> None:
        """Wait for a named condition.

        Raises:
            Failed: It did not become true in time.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {timeout:g} s")
            time.sleep(0.005)

    def memory_looked_at(self) -> None:
        """Wait until the session manager's memory was looked at once."""
        self.wait_until(lambda: bool(self.report.rss), "a look at the session manager's memory")

    def restart_awaited(self, name: str, before: int, most: float | None = None) -> None:
        """Wait until a killed process has been replaced by one that is ready."""
        restarts = self.cluster.restarts[name]
        self.wait_until(lambda: len(restarts) > before, f"a new {name}", 60.0)
        if most is not None and restarts[-1] > most:
            self.report.notes.append(f"{name} was ready after {restarts[-1]:.2f} s")

    # --- the end --------------------------------------------------------------------------------

    def conclude(self) -> Report:
        """Wait for every outcome, stop the cluster, write everything down, have it checked."""
        report = self.report
        if "cluster" not in self.__dict__:
            return report  # it has checked a store by itself
        try:
            deadline = time.monotonic() + FINISH
            while (waiting := self.log.unfinished()) and time.monotonic() < deadline:
                time.sleep(0.02)
            for entry in waiting[:3]:
                report.verdict.object(
                    f"P5: task {entry.session, entry.future.task_id}, {entry.input[:40]!r}, has no "
                    f"outcome {FINISH:g} s after the last fault"
                )
            self._write_sessions()
        finally:
            self.stop()
        found = list(report.verdict.problems)
        self.log.write(self.directory / "client.jsonl")
        numbers = sorted({session.number for session, _, _ in self._sessions})
        dump_store(self.cluster.storage, self.directory, numbers)
        report.verdict = check(self.directory)
        report.verdict.problems[:0] = found
        for look in self.afterwards:
            try:
                look()
            except Failed as error:
                report.verdict.object(str(error))
        return report

    def stop(self) -> None:
        """Stop everything, whatever happened."""
        self._watching.set()
        if self._client is not None:
            self._client.close()
            self._client = None
        self.cluster.stop()

    def _write_sessions(self) -> None:
        with (self.directory / "sessions.jsonl").open("w") as file:
            for session, logged, most in self._sessions:
                info = self.client.get_session(session.name).info()
                line = {
                    "session": session.number,
                    "name": session.name,
                    "logged": logged,
                    "most_attempts": most,
                    "pending": info.pending,
                    "running": info.running,
                    "succeeded": info.succeeded,
                    "failed": info.failed,
                    "cancelled": info.cancelled,
                }
                file.write(json.dumps(line) + "\n")

    def _watch(self) -> None:
        """Note the session manager's memory, of its newest process only."""
        known = 0
        while not self._watching.wait(SAMPLE):
            pid = self.cluster.pids.get(MANAGER, 0)
            if pid != known:
                known = pid
                self.report.rss.clear()
            try:
                used = psutil.Process(pid).memory_info().rss
            except (ValueError, *DEAD):
                continue
            self.report.rss.append((time.monotonic(), used))
