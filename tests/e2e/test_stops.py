"""Clean stops: what runs is finished, and nobody pays for it with an attempt."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flame
from tests.conftest import StartCluster
from tests.e2e.test_faults import join_node
from tests.waiting import wait_until

FINISH = 60.0


def test_a_node_that_is_told_to_stop_finishes_what_runs(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """SIGTERM: the running task ends there, at its first and only attempt; the others go elsewhere."""
    cluster = start_cluster(executors=0)
    log = tmp_path / "executions"

    def slow(value: bytes) -> bytes:
        with log.open("ab") as file:
            file.write(value + b"\n")
        time.sleep(0.5)
        return value[::-1]

    node = join_node(cluster, "first", 1, tmp_path / "first")
    other: subprocess.Popen[bytes] | None = None
    try:
        with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
            session = client.create_session(slow, max_attempts=1)
            futures = [session.run(b"task %d" % number) for number in range(4)]
            wait_until(lambda: log.exists() and bool(log.read_text()), "the first start", FINISH)
            node.send_signal(signal.SIGTERM)
            other = join_node(cluster, "second", 1, tmp_path / "second")
            outputs = [future.result(timeout=FINISH) for future in futures]
            assert outputs == [(b"task %d" % number)[::-1] for number in range(4)]
            assert node.wait(timeout=20.0) == 0
            executed = sorted(log.read_text().splitlines())
            assert executed == [f"task {number}" for number in range(4)]  # none of them twice
    finally:
        for process in (node, other):
            if process is not None:
                process.kill()
                process.wait()


def test_a_session_manager_that_is_told_to_stop_keeps_what_it_accepted(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """SIGTERM under load; its supervisor starts the next one, and every future has its output."""
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session("flmping")
        futures = []
        for number in range(6_000):
            futures.append(session.run(b"%d" % number))
            if number in (2_000, 4_000):
                futures[number - 1_000].result(timeout=FINISH)
                before = cluster.pids["session-manager"]
                os.kill(before, signal.SIGTERM)
                wait_until(
                    lambda gone=before: cluster.pids["session-manager"] != gone,  # type: ignore[misc]
                    "a restart",
                )
        assert [f.result(timeout=FINISH) for f in futures] == [b"%d" % n for n in range(6_000)]
        assert session.info().succeeded == 6_000


def test_an_executor_manager_that_is_interrupted_twice_stops_at_once(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(executors=0)
    program = "import time; time.sleep(60)"
    node = join_node(cluster, "first", 1, tmp_path / "first")
    try:
        with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:

            def forever(value: bytes) -> bytes:
                subprocess.run([sys.executable, "-c", program], check=False)
                return value

            session = client.create_session(forever)
            future = session.run(b"x")
            wait_until(lambda: session.info().running == 1, "its start", FINISH)
            node.send_signal(signal.SIGINT)
            node.send_signal(signal.SIGTERM)
            began = time.monotonic()
            node.wait(timeout=20.0)
            assert time.monotonic() - began < 5.0
            future.cancel()
            session.close(cancel_running=True)
    finally:
        node.kill()
        node.wait()
