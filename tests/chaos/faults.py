"""Experiments that kill and pause processes: R1, R2, R3, R6."""

import json
import os
import signal
import threading
import time

from tests.chaos.cluster import DEAD, MANAGER, NODE, still_alive
from tests.chaos.evidence import lost_because
from tests.chaos.experiment import FINISH, Experiment, Failed

READY_WITHIN = 2.0  # seconds from the end of a session manager to its successor's readiness
ORPHANS_GONE = 5.0


def r1(x: Experiment) -> None:
    """kill -9 the session manager 50 times under 100,000 acknowledged tasks."""
    tasks, kills = x.amount(100_000, 2_000), x.amount(50, 3)
    cluster = x.start()
    session = x.session()
    fed = threading.Event()
    done = 0

    def feed() -> None:
        for number in range(tasks):
            x.task(session, "ms 1" if number % 6 == 0 else "ok")  # so that kills meet some
            # Evenly over the kills, so that each meets submits, hand-outs and results.
            while number > (done + 1.5) * tasks / kills and x.has_time:
                time.sleep(0.002)
        fed.set()

    feeder = threading.Thread(target=feed, name="chaos-feed", daemon=True)
    feeder.start()
    while done < kills and x.has_time:
        x.pause(0.02, 0.4)
        before, since = len(cluster.restarts[MANAGER]), time.monotonic()
        cluster.kill(MANAGER)
        x.fault("kill session manager")
        x.restart_awaited(MANAGER, before, READY_WITHIN)
        x.recovered(since)
        done += 1
    done = kills
    feeder.join(60.0)
    if not fed.is_set():
        raise Failed("submitting never ended")
    # A slice shares the machine with other tests; the whole has it to itself.
    most = READY_WITHIN if x.scale >= 1 else 5 * READY_WITHIN
    slow = [seconds for seconds in cluster.restarts[MANAGER] if seconds > most]
    if len(slow) > len(cluster.restarts[MANAGER]) // 20:
        raise Failed(f"{len(slow)} session managers were ready only after {max(slow):.1f} s")
    services = {int(path.stem) for path in (x.directory / "service").glob("*.log")}
    x.report.notes.append(f"{len(services)} services served throughout")
    if len(services) > 2:
        raise Failed(f"services were restarted: {len(services)} processes served 2 executors")


def r2(x: Experiment) -> None:
    """kill -9 an executor manager 50 times; its services leave double-forked processes behind."""
    kills = x.amount(50, 2)
    cluster = x.start()
    session = x.session(max_attempts=10)
    orphans: list[tuple[float, dict[int, float]]] = []
    done = 0
    while done < kills and x.has_time:
        for _ in range(40):
            x.task(session, x.random.choice(("ok", "ok", "ms 3", "fork")))
        x.pause(0.1, 0.6)
        before, since = len(cluster.restarts[NODE]), time.monotonic()
        doomed = cluster.processes()
        cluster.kill(NODE)
        x.fault("kill executor manager")
        orphans.append((time.monotonic(), doomed))
        x.restart_awaited(NODE, before)
        x.recovered(since)
        done += 1
        _no_orphans(orphans)
    time.sleep(max(0.0, orphans[-1][0] + ORPHANS_GONE - time.monotonic()))
    _no_orphans(orphans)


def _no_orphans(killed: list[tuple[float, dict[int, float]]]) -> None:
    for since, processes in list(killed):
        if time.monotonic() - since >= ORPHANS_GONE:
            alive = still_alive(processes)
            if alive:
                raise Failed(f"processes {alive} outlived their executor manager by 5 s")
            killed.remove((since, processes))


#: How a service dies, and what its task's failure must say.
WAYS = {
    "kill": "SIGKILL",
    "segfault": "SIGSEGV",
    "exit": "exited with code 7",
    "sysexit": "exited with code 9",
}


def r3(x: Experiment) -> None:
    """Services die 200 times, inside a task, in enter and in leave, while good tasks succeed."""
    cluster = x.start()
    good = x.session()
    half = x.amount(5_000, 250)
    for _ in range(half):
        x.task(good, "ok")
    poison = [x.task(good, way, lost_because(cause), must_fail=True) for way, cause in WAYS.items()]
    for _ in range(half):
        x.task(good, "ok")
    x.afterwards.append(lambda: _much_was_held(x))
    fragile = x.session(max_attempts=1)
    # A limit on memory is an exception to a service that has not used it up; the task fails by that.
    x.task(fragile, "memory", {3: "MemoryError"}, must_fail=True)
    ways = {**WAYS, "oom": "out of memory"}
    for number in range(x.amount(200, 8)):
        if not x.has_time:
            break
        way = list(ways)[number % len(ways)]
        x.task(fragile, way, lost_because(ways[way]), must_fail=True)
        x.task(fragile, "ok")
        x.fault(f"{way} in a task")
        if len(x.log.unfinished()) > 50:
            x.recovered(time.monotonic())
    for where in ("enter", "leave"):
        for way in WAYS:
            if not x.has_time:
                break
            times = x.amount(4, 1)
            session = x.session(**{where: way}, times=times)  # type: ignore[arg-type]
            first = x.task(session, "ok")
            since = time.monotonic()
            first.future.exception(FINISH)
            x.report.recoveries.append(time.monotonic() - since)
            x.report.faults[f"{way} in {where}"] += times
            session.close()
    x.wait_until(lambda: all(entry.outcomes for entry in poison), "the end of the poison tasks")
    x.wait_until(lambda: not x.log.unfinished(), "the end of all tasks")
    for entry in poison:
        text = entry.outcomes[0][3]
        if "3 times" not in text or "attempt 3 on node" not in text or "last words" not in text:
            raise Failed(f"a poison task's failure does not tell its history: {text[:500]}")
    if cluster.pids[MANAGER] <= 0:
        raise Failed("the session manager is gone")


def _much_was_held(x: Experiment) -> None:
    """Look into the store's lost leases: executors died with hundreds of good tasks in hand."""
    with (x.directory / "losses.jsonl").open() as file:
        most = max((len(json.loads(line)["tasks"]) for line in file), default=0)
    x.report.notes.append(f"an executor that died held up to {most} tasks")
    if x.scale >= 1 and most < 100:
        raise Failed(f"no executor that died held 100 tasks; at most {most}")


def r6(x: Experiment) -> None:
    """SIGSTOP of each process for 1, 10 and 60 s, which is longer than any lease; then SIGCONT."""
    cluster = x.start()
    session = x.session(max_attempts=10)
    lengths = (1.0, 10.0, 60.0) if x.scale >= 1 else (0.3,)
    stops = [(name, seconds) for name in ("executor", MANAGER, NODE) for seconds in lengths]
    x.random.shuffle(stops)
    for name, seconds in stops:
        if not x.has_time:
            break
        for _ in range(x.amount(2_000, 100)):
            x.task(session, x.random.choice(("ok", "ok", "ok", "ms 2")))
        x.pause(0.2, 0.4)
        if name == "executor":
            # After a long stop of its node every executor is a new one, on its way.
            x.wait_until(lambda: bool(cluster.executors()), "an executor")
            pid = x.random.choice([process.pid for process in cluster.executors()])
        else:
            pid = cluster.pids[name]
        os.kill(pid, signal.SIGSTOP)
        x.fault(f"stop {name} for {seconds:g} s")
        try:
            time.sleep(seconds)
        finally:
            try:
                os.kill(pid, signal.SIGCONT)
            except (ProcessLookupError, *DEAD):
                x.report.notes.append(f"the stopped {name} was replaced before it went on")
        x.task(session, "ok")
        x.recovered(time.monotonic())
