"""Experiments with the disk under a running session manager: R8."""

import contextlib
import threading
import time

import flame
from tests.chaos.cluster import MANAGER, ChaosCluster
from tests.chaos.evidence import Allowed
from tests.chaos.experiment import MIB, Experiment, Failed
from tests.chaos.small_disk import SmallDisk

ACCEPTS_WITHIN = 5.0  # seconds from space to the next acknowledged task
LARGE = "x" * 100_000
REFUSED: Allowed = {-1: "flame.db"}  # a submit may be refused, if the file is named


def r8(x: Experiment) -> None:
    """The disk fills up under load, again and again; then a slow one; results wait meanwhile."""
    disk = SmallDisk(x.directory / "disk", lambda: x.cluster.pids[MANAGER])
    x.resources.callback(disk.close)
    if not disk.is_mounted:
        x.report.notes.append("no right to mount a file system here: a limit on file sizes instead")
    where = x.directory / "cluster"
    cluster = x.start(cluster=ChaosCluster(where, 2, x.bug, database=disk.directory / "flame.db"))
    session = x.session(max_attempts=10)
    x.task(session).future.result(60.0)
    pid = cluster.pids[MANAGER]
    for number in range(x.amount(10, 2)):
        if not x.has_time:
            break
        slow = [x.task(session, "ms 300", REFUSED) for _ in range(6)]
        for _ in range(x.amount(1_000, 50)):
            x.task(session, "ok", REFUSED)
        session.flush()
        disk.fill()
        x.fault("disk full")
        _until_refused(x, session)
        if session.info().name != session.name or not cluster.pids[MANAGER]:
            raise Failed("a full disk ended reading")
        x.pause(1.0, 2.0)  # the slow tasks end, and their results find no room
        if disk.is_mounted and number % 5 == 4:
            cluster.kill(MANAGER)  # it cannot start again, or can but not store
            x.fault("kill session manager on a full disk")
            x.pause(0.5, 1.0)
            pid = 0
        disk.free()
        took = x.recovered_when(lambda: _accepts(x, session), "an accepted task")
        if pid and took > ACCEPTS_WITHIN * (1 if x.scale >= 1 else 3):
            raise Failed(f"it accepted again only {took:.1f} s after there was space")
        x.wait_until(lambda: all(entry.outcomes for entry in slow), "the results that waited")  # noqa: B023
        if pid and cluster.pids[MANAGER] != pid:
            raise Failed("a full disk ended the session manager")
        pid = cluster.pids[MANAGER]
    if disk.is_mounted:
        _start_read_only(x, disk, session)
    x.report.notes.append(f"{_refused(x)} submits were refused")


def _start_read_only(x: Experiment, disk: SmallDisk, session: flame.Session) -> None:
    """The session manager dies and its disk is read-only: it cannot start, says why, and then can."""
    log = x.cluster.directory / "session-manager.log"
    before = log.stat().st_size
    entry = x.task(session, "ms 300", REFUSED)
    restarts = len(x.cluster.restarts[MANAGER])
    for _ in range(20):  # its successor may have opened the file already
        x.cluster.kill(MANAGER)
        deadline = time.monotonic() + 0.5
        while not (done := disk.read_only(True)) and time.monotonic() < deadline:
            time.sleep(0.002)
        if done:
            break
        x.restart_awaited(MANAGER, restarts)
        restarts = len(x.cluster.restarts[MANAGER])
    else:
        raise Failed("the disk could not be made read-only")
    x.fault("disk read-only")
    x.wait_until(lambda: b"Read-only" in log.read_bytes()[before:], "the reason in the log", 30.0)
    disk.read_only(False)
    took = x.recovered_when(lambda: bool(entry.outcomes), "an outcome after a read-only disk")
    x.report.notes.append(f"after a read-only disk it took {took:.1f} s")


def _until_refused(x: Experiment, session: flame.Session) -> None:
    """Submit until the store is full: its log may have room that it took before."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        entry = x.task(session, f"ok {LARGE}", REFUSED)
        with contextlib.suppress(flame.ResourceExhausted):
            session.flush()
        if entry.outcomes and entry.outcomes[0][1] == -1:
            return
    raise Failed("a full disk accepted everything for a minute")


def _accepts(x: Experiment, session: flame.Session) -> bool:
    try:
        entry = x.task(session, "ok", REFUSED)
        session.flush()
    except flame.FlameError:
        return False
    time.sleep(0.02)
    return entry.future.task_id is not None


def _refused(x: Experiment) -> int:
    return sum(bool(e.outcomes) and e.outcomes[0][1] == -1 for e in x.log.entries)


def r8_slow(x: Experiment) -> None:
    """The disk is slow, and stalls: nothing fails for that, and memory stays bounded."""
    where = x.directory / "cluster"
    cluster = x.start(cluster=ChaosCluster(where, 2, x.bug, module="tests.chaos.slow_disk"))
    session = x.session(durability="sync")
    stop = threading.Event()
    slowest = 0.0

    def one_by_one() -> None:
        nonlocal slowest
        while not stop.is_set():
            since = time.monotonic()
            x.task(session).future.result(60.0)
            slowest = max(slowest, time.monotonic() - since)
            x.fault("slow write")

    thread = threading.Thread(target=one_by_one, name="chaos-slow", daemon=True)
    thread.start()
    for _ in range(x.amount(20_000, 1000)):
        x.task(session)
    x.wait_until(lambda: len(x.log.unfinished()) < 10, "the tasks on a slow disk")
    stop.set()
    thread.join(60.0)
    x.memory_looked_at()
    most = max(used for _, used in x.report.rss)
    x.report.notes.append(f"the slowest of one task at a time took {slowest:.2f} s")
    if most > 400 * MIB or cluster.restarts[MANAGER]:
        raise Failed(f"a slow disk made the session manager use {most / MIB:.0f} MiB, or end")
