"""Processes die under load; every task ends once, with the right output."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import flame
from flame.model.specs import ApplicationSpec, EventCode, ShimKind
from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.e2e.services import HostileService, LoggingService, NeverEnters, Poisoned, transform
from tests.e2e.test_commands import Commands
from tests.waiting import wait_until

FINISH = 90.0  # seconds within which everything must be over


def inputs_of(count: int) -> list[bytes]:
    """Distinct inputs."""
    return [b"task %d" % number for number in range(count)]


def join_node(
    cluster: LocalCluster, name: str, executors: int, directory: Path
) -> "subprocess.Popen[bytes]":
    """Start one more executor manager, as an operator would."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "flame.executor_manager"),
            *("--endpoint", cluster.endpoint, "--token-file", str(cluster.token_file)),
            *("--node", name, "--executors", str(executors), "--directory", str(directory)),
            "--die-with-parent",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_and_await_restart(cluster: LocalCluster) -> None:
    """Kill the session manager; return when the next one runs."""
    before = cluster.pids["session-manager"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: cluster.pids["session-manager"] != before, "a restart")


@pytest.mark.parametrize("seed", [1])
def test_killing_the_session_manager_five_times_changes_no_outcome(
    start_cluster: StartCluster, tmp_path: Path, seed: int
) -> None:
    """Each future resolves once with f(input); the store has one outcome a task; extra executions
    are explained by lost leases."""
    chance = random.Random(seed)
    cluster = start_cluster(executors=2, directory=tmp_path / "cluster")
    log = tmp_path / "executions"
    inputs = inputs_of(10_000)
    resolved: Counter[int | None] = Counter()
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(LoggingService, name="killed", common_data=os.fsencode(log))
        futures = []
        kills = sorted(chance.sample(range(500, 9_500), 5))
        for number, value in enumerate(inputs):
            if kills and number == kills[0]:
                kills.pop(0)
                kill_and_await_restart(cluster)
            future = session.run(value)
            future.add_done_callback(lambda f: resolved.update([f.task_id]))
            futures.append(future)
        outputs = [future.result(timeout=FINISH) for future in futures]
        assert outputs == [transform(value) for value in inputs]
        assert set(resolved.values()) == {1}
        assert len(resolved) == len(inputs)
        info = session.info()
        assert (info.succeeded, info.failed, info.pending) == (10_000, 0, 0)
        session.close()
    cluster.stop()
    _check_executions(log, tmp_path / "cluster" / "flame.db", len(inputs))


def _check_executions(log: Path, database: Path, count: int) -> None:
    executions = Counter(int(line.split()[0]) for line in log.read_text().splitlines())
    assert set(executions) == set(range(1, count + 1))
    extra = sum(executions.values()) - count
    with sqlite3.connect(database) as connection:
        (stored,) = connection.execute("select sum(count) from outcomes").fetchone()
        losses = connection.execute("select count(*) from lease_losses").fetchone()[0]
    assert stored == count, "one outcome a task is in the store"
    assert extra == 0 or losses > 0, f"{extra} extra executions and no lost lease"


def test_a_node_that_is_killed_loses_no_task_and_leaves_no_process(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """Two executor managers share a session; one is killed; the other finishes its tasks."""
    cluster = start_cluster(executors=1)
    other = join_node(cluster, "second", 1, tmp_path / "second")
    try:
        with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
            wait_until(lambda: len(client.list_nodes()) == 2, "both nodes")

            def slow(value: bytes) -> bytes:
                time.sleep(0.02)
                return value[::-1]

            session = client.create_session(slow)
            futures = [session.run(value) for value in inputs_of(400)]
            wait_until(
                lambda: (
                    {e.node for e in client.list_executors() if e.session == session.name}
                    == {node.name for node in client.list_nodes()}
                ),
                "the session on both nodes",
            )
            futures[20].result(timeout=FINISH)
            other.kill()
            assert [f.result(timeout=FINISH) for f in futures] == [
                value[::-1] for value in inputs_of(400)
            ]
            session.close()
    finally:
        other.kill()
        other.wait()
    wait_until(lambda: not _processes_in(tmp_path / "second"), "no orphan", timeout=5.0)


def _processes_in(directory: Path) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.fsencode(directory) in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_task_that_raises_fails_with_its_traceback_and_the_session_goes_on(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(HostileService)
        bad, nonsense, large, good = (
            session.run(value) for value in (b"raise", b"nonsense", b"large", b"good")
        )
        with pytest.raises(flame.TaskFailed, match="ValueError: this task was told to raise"):
            bad.result(timeout=FINISH)
        with pytest.raises(flame.TaskFailed, match="returned int; it must return bytes or None"):
            nonsense.result(timeout=FINISH)
        with pytest.raises(flame.TaskFailed, match="16777216"):
            large.result(timeout=FINISH)
        assert good.result(timeout=FINISH) == transform(b"good")


def test_a_poison_task_fails_after_its_attempts_and_only_it(start_cluster: StartCluster) -> None:
    """The process dies each time; what it held beside the poison costs nothing."""
    cluster = start_cluster(executors=2)
    inputs = inputs_of(2_000)
    inputs[1_000] = b"exit"
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(HostileService)
        futures = [session.run(value) for value in inputs]
        with pytest.raises(flame.TaskLost, match="3 times"):
            futures[1_000].result(timeout=FINISH)
        for number, future in enumerate(futures):
            if number != 1_000:
                assert future.result(timeout=FINISH) == transform(inputs[number])
        assert session.info().failed == 1


def test_of_10_000_tasks_only_the_poison_fails_and_it_shows_its_history(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """Executors hold hundreds of tasks when they die; none of these spends an attempt by it."""
    cluster = start_cluster(executors=2)
    inputs = inputs_of(10_000)
    inputs[5_000] = b"poison"
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Poisoned, name="poisoned")
        futures = [session.run(value) for value in inputs]
        poison = futures.pop(5_000)
        assert {future.result(timeout=FINISH) for future in futures} == {b"1"}
        with pytest.raises(flame.TaskLost, match="3 times"):
            poison.result(timeout=FINISH)
        info = session.info()
        assert (info.succeeded, info.failed, info.pending, info.running) == (9_999, 1, 0, 0)
        (node,) = client.list_nodes()

    commands = Commands(cluster.endpoint, cluster.token_file, tmp_path)
    view = ("view", "-s", "poisoned", "-t", str(poison.task_id))
    seen = json.loads(commands.good("flmctl", *view, "-o", "json"))["status"]
    spent = [e["message"] for e in seen["events"] if e["code"] == EventCode.ATTEMPT_SPENT]
    told = commands.good("flmctl", *view)
    assert len(spent) == 3
    for number, text in enumerate(spent, 1):
        where = rf"attempt {number} on node {re.escape(node.name)}, executor [0-9a-f-]+, pid [1-9][0-9]*: signal: "
        assert re.search(rf"{where}.*SIGSEGV.*last words of attempt {number}", text, re.DOTALL)
        assert re.search(rf"{where}.*SIGSEGV", told)
    ahead = re.search(r", ([0-9]+) ahead", spent[0])
    assert ahead is not None
    assert int(ahead[1]) >= 100, "the executor held that many when it died"


def test_a_poison_task_of_a_program_names_how_that_ended_each_time(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """The truth is the program's end, not that of the executor which went with it."""
    cluster = start_cluster(executors=1)
    program = ApplicationSpec(
        shim=ShimKind.STDIO,
        command=sys.executable,
        arguments=("-S", str(Path(__file__).parent / "mortal_program.py")),
        shim_options=(("frames", "lines"),),
    )
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        client.register_application("mortal", program)
        session = client.create_session("mortal", name="mortal")
        poison = session.run(b"poison")
        with pytest.raises(flame.TaskLost, match="3 times"):
            poison.result(timeout=FINISH)
        assert session.invoke(b"still here", timeout=FINISH) == b"still here"
        (node,) = client.list_nodes()

    commands = Commands(cluster.endpoint, cluster.token_file, tmp_path)
    view = ("view", "-s", "mortal", "-t", str(poison.task_id), "-o", "json")
    seen = json.loads(commands.good("flmctl", *view))["status"]
    spent = [e["message"] for e in seen["events"] if e["code"] == EventCode.ATTEMPT_SPENT]
    ends = ("exit: the service exited with code 7", "signal: the service was killed by SIGSEGV")
    for number, (text, end) in enumerate(zip(spent, (*ends, ends[0]), strict=True), 1):
        where = rf"attempt {number} on node {re.escape(node.name)}, executor [0-9a-f-]+, pid ([1-9][0-9]*): "
        ran = rf" while it ran task {poison.task_id} \(attempt {number}\);.*last words of ([0-9]+)"
        said = re.fullmatch(f"{where}{end}{ran}.*", text, re.DOTALL)
        assert said is not None, text
        assert said[1] == said[2], "the number is the program's own"


def test_a_service_that_never_starts_fails_its_tasks_with_the_reason(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        broken = client.create_session(NeverEnters)
        with pytest.raises(flame.TaskFailed, match="the database is down"):
            broken.invoke(b"x", timeout=FINISH)
        healthy = client.create_session(lambda value: value)
        assert healthy.invoke(b"still here", timeout=FINISH) == b"still here"


def test_tasks_wait_for_executors_and_are_counted_as_pending(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """Submit without any executor, each acknowledged; then executors join and finish."""
    count = 100_000
    cluster = start_cluster(executors=0)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session("flmping")
        futures = [session.run(value) for value in inputs_of(count)]
        wait_until(lambda: session.info().pending == count, "all acknowledged", FINISH)
        node = join_node(cluster, "late", 2, tmp_path / "late")
        try:
            for future, value in zip(futures, inputs_of(count), strict=True):
                assert future.result(timeout=FINISH) == value
        finally:
            node.terminate()
            node.wait()
