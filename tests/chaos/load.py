"""Experiments with too much, too slow, too large: R11, R12, R13."""

import threading
import time

import flame
from flame.model.errors import InvalidRequest
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from tests.chaos.cluster import MANAGER
from tests.chaos.experiment import MIB, Experiment, Failed
from tests.chaos.raw import refused_submit

GROWTH = 64 * MIB
NOISE = 0.010  # seconds of a p99 on two cores that say nothing


def r11(x: Experiment) -> None:
    """A watcher takes one result a second during 100,000 completions; others do not notice."""
    x.start(executors=2)
    other, busy = x.session(max_instances=1, priority=1), x.session(max_instances=1)
    x.task(other).future.result(60.0)
    x.task(busy).future.result(60.0)
    quiet = _p99(x, other, x.amount(1000, 100))
    load = 10_000
    for _ in range(x.amount(load, 500)):  # how large the manager is with load and no watcher
        x.task(busy)
    loaded = _p99(x, other, x.amount(1000, 100))
    x.wait_until(lambda: not x.log.unfinished(), "the first tasks")
    x.memory_looked_at()
    before = x.report.rss[-1][1]
    stop = threading.Event()
    taken = 0

    def watch() -> None:
        nonlocal taken
        with x.connect() as client:
            for _ in client.get_session(busy.name).results(follow=True):
                taken += 1
                if stop.wait(1.0):
                    return

    watcher = threading.Thread(target=watch, name="chaos-watcher", daemon=True)
    watcher.start()
    x.fault("slow watcher")
    most = before
    for _ in range(10):
        for _ in range(x.amount(10_000, 300)):
            x.task(busy, "ok")
        most = max(most, *[used for _, used in x.report.rss])
    watched = _p99(x, other, x.amount(1000, 100))
    x.wait_until(lambda: not x.log.unfinished(), "the tasks that are watched")
    most = max(most, *[used for _, used in x.report.rss])
    stop.set()
    watcher.join(5.0)
    x.report.notes.append(
        f"manager grew by {(most - before) / MIB:.1f} MiB; p99 {quiet * 1e3:.1f} ms alone, "
        f"{loaded * 1e3:.1f} ms beside tasks, {watched * 1e3:.1f} ms with the watcher too"
    )
    if most - before > GROWTH:
        raise Failed(f"the session manager grew by {(most - before) / MIB:.0f} MiB")
    # The p99 of a slice is its slowest task, beside other tests: only the whole can say.
    if x.scale >= 1 and watched > 2 * max(loaded, quiet) + NOISE:
        raise Failed(f"p99 rose from {loaded * 1e3:.1f} to {watched * 1e3:.1f} ms")


def _p99(x: Experiment, session: flame.Session, times: int) -> float:
    taken: list[float] = []
    for _ in range(times):
        since = time.monotonic()
        x.task(session).future.result(60.0)
        taken.append(time.monotonic() - since)
    return sorted(taken)[int(len(taken) * 0.99)]


def r12(x: Experiment) -> None:
    """1,000 clients, and the same reconnecting at once; none waits for more than 30 s."""
    count = x.amount(1000, 40)
    cluster = x.start()
    shared = x.session()
    clients = [x.connect() for _ in range(count)]
    try:
        sessions = [client.get_session(shared.name) for client in clients]
        for session in sessions:
            x.task(session)
        x.wait_until(lambda: not x.log.unfinished(), "a task of each client", 60.0)
        before, since = len(cluster.restarts[MANAGER]), time.monotonic()
        cluster.kill(MANAGER)
        x.fault("kill session manager")
        x.report.faults["reconnecting clients"] += count
        for session in sessions:
            x.task(session)
        x.restart_awaited(MANAGER, before)
        x.wait_until(lambda: not x.log.unfinished(), "a task of each client that came back", 30.0)
        x.report.recoveries.append(time.monotonic() - since)
    finally:
        for client in clients:
            client.close()


def r13(x: Experiment) -> None:
    """Messages at the limit, one byte past it, and empty."""
    x.start(executors=1)
    session = x.session()
    limit = DEFAULT_MAX_INPUT_BYTES
    allowed_output = limit - 1  # f adds a byte to its input
    for size in (0, 1, allowed_output - 1, allowed_output):
        x.log.run(session, b"ok " + b"x" * (size - 3) if size >= 3 else b"x" * size)
        x.fault("size")
    at_limit = x.log.run(session, b"ok " + b"x" * (limit - 3), {3: str(limit)}, must_fail=True)
    past = b"ok " + b"x" * (limit - 2)
    for _ in range(x.amount(10, 2)):
        try:
            session.run(past)
        except InvalidRequest as error:
            if str(limit) not in str(error) or str(limit + 1) not in str(error):
                raise Failed(f"the refusal names neither size nor limit: {error}") from error
        else:
            raise Failed(f"an input of {limit + 1} bytes was accepted")
        refusal = refused_submit(x.cluster.endpoint, x.cluster.token, session.name, past)
        if str(limit) not in refusal or str(limit + 1) not in refusal:
            raise Failed(f"the manager's refusal names neither size nor limit: {refusal}")
        x.fault("one past the limit")
    at_limit.future.exception(60.0)
    empty = x.other_session(x.client.create_session("flmping"))
    if empty.invoke(b"", timeout=60.0) != b"":
        raise Failed("an empty input did not come back as one")
    none = empty.invoke(None, timeout=60.0)
    x.report.notes.append(f"no input at all is answered with {len(none or b'')} bytes")
