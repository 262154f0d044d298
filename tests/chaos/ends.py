"""Experiments with nonsense on the ports, and with tasks that are ended early: R14, R22."""

import threading
import time

from tests.chaos.cluster import MANAGER
from tests.chaos.evidence import CANCELLED, PAST_DEADLINE, TIMED_OUT, Entry
from tests.chaos.experiment import Experiment, Failed
from tests.chaos.raw import attack, ports_of


def r14(x: Experiment) -> None:
    """Malformed bytes on every port, beside steady load."""
    cluster = x.start()
    session = x.session()
    x.task(session).future.result(60.0)
    pid = cluster.pids[MANAGER]
    ports = ports_of(pid)
    if len(ports) < 2:
        raise Failed(f"the session manager listens on {ports}; the framed port is missing")
    stop = threading.Event()
    slowest = 0.0

    def load() -> None:
        nonlocal slowest
        while not stop.is_set():
            since = time.monotonic()
            x.task(session).future.exception(60.0)
            slowest = max(slowest, time.monotonic() - since)

    steady = threading.Thread(target=load, name="chaos-steady", daemon=True)
    steady.start()
    try:
        for _ in range(x.amount(1000, 60)):
            if not x.has_time:
                break
            x.fault(attack(x.random.choice(ports), x.random))
    finally:
        stop.set()
        steady.join(60.0)
    x.report.notes.append(f"ports {ports}; the slowest task of the load took {slowest:.2f} s")
    if cluster.pids[MANAGER] != pid or cluster.restarts[MANAGER]:
        raise Failed("the session manager did not survive")
    if slowest > 5.0:
        raise Failed(f"a task of the steady load took {slowest:.1f} s")
    log = (cluster.directory / "session-manager.log").read_text()
    if "engine-failed" in log or "Traceback" in log:
        raise Failed(f"the session manager's log has an error:\n{log[-3000:]}")


def r22(x: Experiment) -> None:
    """Cancel, timeout and deadline at random points of a task's life, 20,000 tasks."""
    x.start()
    tasks = x.amount(20_000, 600)
    limited = x.session(task_timeout=0.1, max_attempts=10)
    dated = x.session(deadline=1.5, max_attempts=10)
    open_ended = x.session(max_attempts=10)
    recent: list[Entry] = []
    stubborn = x.amount(6, 1)
    for number in range(tasks):
        allowed = dict(CANCELLED)
        session = x.random.choice((limited, dated, open_ended))
        word = x.random.choice(("ok", "ok", "ok", "ok", "ms 1", "ms 5"))
        if x.random.random() < 0.004:
            word = f"polite {x.random.choice((20, 60, 150, 400))}"
        if session is limited:
            allowed |= TIMED_OUT  # also of one that is slow on a busy machine
        if session is dated:
            allowed |= PAST_DEADLINE
        if session is not open_ended and number % (tasks // stubborn) == 7:
            word = "stubborn"
        entry = x.task(session, word, allowed, must_fail=word == "stubborn")
        recent.append(entry)
        if x.random.random() < 0.1:
            x.random.choice(recent).future.cancel()
            x.fault("cancel")
        if len(recent) > 300:
            del recent[:200]
            while len(x.log.unfinished()) > 1500 and x.has_time:
                time.sleep(0.01)
    x.wait_until(lambda: not x.log.unfinished(), "an outcome of every task")
    ends = [entry.outcomes[0][1] for entry in x.log.entries]
    x.report.faults["timeout"] = sum(code in TIMED_OUT for code in ends)
    x.report.faults["deadline"] = sum(code in PAST_DEADLINE for code in ends)
    if not x.report.faults["timeout"]:
        raise Failed("no task was timed out")
    for session in (limited, dated, open_ended):
        session.close(cancel_running=True)
    serving = {int(path.stem) for path in (x.directory / "service").glob("*.log")}

    def gone() -> bool:
        return not serving & {process.pid for process in x.cluster.executors()}

    x.wait_until(gone, "the end of the services", 20.0)
