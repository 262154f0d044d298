"""What operators do to a running cluster, by the commands as they are documented."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import flame
from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.e2e.test_faults import join_node
from tests.waiting import wait_until

FINISH = 60.0
TASKS = 600
FLMCTL = Path(sys.executable).with_name("flmctl")


def flmctl(
    cluster: LocalCluster, *arguments: str, token: str | None = None, fails: bool = False
) -> str:
    """Run the command as the cluster's operator, or with a token; return what it printed."""
    environment = {**os.environ, "FLAME_ENDPOINT": str(cluster.endpoint)}
    if token is None:
        environment["FLAME_TOKEN_FILE"] = str(cluster.token_file)
    else:
        environment["FLAME_TOKEN"] = token
    done = subprocess.run(
        [FLMCTL, *arguments], env=environment, capture_output=True, text=True, timeout=FINISH
    )
    assert (done.returncode == 1) is fails, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def node_states(cluster: LocalCluster) -> dict[str, str]:
    rows = [line.split() for line in flmctl(cluster, "list", "-n").splitlines()[1:]]
    return {row[0]: row[2] for row in rows}


def test_a_node_is_drained_under_load_and_no_task_is_lost_or_pays(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(executors=0, storage=f"sqlite:///{tmp_path}/flame.db")
    log, hurry = tmp_path / "executions", tmp_path / "hurry"

    def slow(value: bytes) -> bytes:
        with log.open("ab") as file:
            file.write(value + b"\n")
        if not hurry.exists():
            time.sleep(0.1)
        return value[::-1]

    nodes = [join_node(cluster, name, 2, tmp_path / name) for name in ("one", "two")]
    try:
        with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
            session = client.create_session(slow, max_attempts=1)
            futures = [session.run(b"task %d" % number) for number in range(TASKS)]

            def on_nodes() -> dict[str, int]:
                return dict(Counter(e.node for e in client.list_executors()))

            wait_until(lambda: on_nodes() == {"one": 2, "two": 2}, "executors on both", FINISH)
            futures[20].result(timeout=FINISH)
            printed = flmctl(cluster, "drain", "one", "--timeout", "30").splitlines()
            assert printed[-1] == "Node one is drained."
            assert sum(future.done() for future in futures) < TASKS  # it was under load
            hurry.touch()
            assert set(on_nodes()) == {"two"}
            assert node_states(cluster) == {"one": "Ready,drained", "two": "Ready"}

            # What is drained stays so when the session manager is started again.
            os.kill(cluster.pids["session-manager"], 9)
            outputs = [future.result(timeout=FINISH) for future in futures]
            assert outputs == [(b"task %d" % number)[::-1] for number in range(TASKS)]
            assert set(on_nodes()) <= {"two"}
            wait_until(lambda: "one" in node_states(cluster), "a node without work is back", FINISH)
            assert node_states(cluster)["one"] == "Ready,drained"
            assert all(task.attempt <= 1 for task in session.list_tasks())
            executed = sorted(log.read_text().splitlines())
            assert executed == sorted(f"task {number}" for number in range(TASKS))  # none twice

            # Nothing is left: the session waits, and says why.
            flmctl(cluster, "cordon", "two")
            flmctl(cluster, "cordon", "one")
            other = client.create_session("flmping", name="waiting")
            future = other.run(b"x")
            wait_until(lambda: bool(other.info().waiting), "an explanation", FINISH)
            assert "cordoned" in flmctl(cluster, "view", "-s", "waiting")
            assert flmctl(cluster, "uncordon", "one") == "Node one is used again.\n"
            assert future.result(timeout=FINISH) == b"x"
            assert node_states(cluster) == {"one": "Ready", "two": "Ready,cordoned"}
            assert "no node 'three'" in flmctl(cluster, "drain", "three", fails=True)
    finally:
        for process in nodes:
            process.kill()
            process.wait()


def test_a_drain_says_at_its_deadline_what_is_left(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        (node,) = client.list_nodes()
        release = tmp_path / "release"

        def wait(_value: bytes) -> bytes:
            while not release.exists():
                time.sleep(0.02)
            return b"done"

        session = client.create_session(wait, name="long")
        future = session.run(b"")
        wait_until(lambda: session.info().running == 1, "the task to run", FINISH)
        told = flmctl(cluster, "drain", node.name, "--timeout", "0.5", fails=True)
        assert "is not empty after 0.5 s: 1 executor left; 1 task runs, of default/long" in told
        release.touch()
        assert future.result(timeout=FINISH) == b"done"
        assert flmctl(cluster, "drain", node.name).endswith("is drained.\n")


def test_tenants_and_tokens_are_managed_by_the_commands(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(executors=2, storage=f"sqlite:///{tmp_path}/flame.db")
    created = flmctl(cluster, "tenant", "create", "research", "--weight", "3", "--limit", "cpu=2")
    assert created == "Tenant research is created.\n"
    flmctl(cluster, "tenant", "create", "trading", "--max-queued-tasks", "3")
    told = flmctl(cluster, "tenant", "create", "research/x", "--weight", "0", fails=True)
    assert "weight is 0; it must be above 0" in told
    flmctl(cluster, "tenant", "update", "research", "--weight", "2", "--limit", "none")
    (document,) = [
        tenant
        for tenant in json.loads(flmctl(cluster, "tenant", "list", "-o", "json"))
        if tenant["metadata"]["name"] == "research"
    ]
    assert document["spec"] == {"weight": 2, "lends": True, "borrows": True}

    token = flmctl(cluster, "token", "create", "--for", "trading", "--note", "Ada").strip()
    listed = flmctl(cluster, "token", "list")
    assert "Ada" in listed
    assert token not in listed
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("flame.db*"))
    assert token.rpartition(".")[2].encode() not in stored

    os.kill(cluster.pids["session-manager"], 9)  # all of this survives
    with flame.connect(cluster.endpoint, token=token) as client:
        session = client.create_session("flmping", name="s")
        assert session.invoke(b"hello") == b"hello"
        assert session.info().tenant == "trading"
        with pytest.raises(flame.PermissionDenied):
            client.admin.list_tokens()
        flmctl(cluster, "cordon", flmctl(cluster, "list", "-n").splitlines()[1].split()[0])
        session.close()
        waiting = client.create_session("flmping", name="waiting")
        futures = [waiting.run(b"%d" % number) for number in range(5)]
        refused = [f for f in futures if isinstance(_error(f), flame.ResourceExhausted)]
        assert len(refused) == 2
        assert "at most 3 may be (max_queued_tasks)" in str(_error(refused[0]))
        assert "waiting" in flmctl(cluster, "list", "-s", token=token)
        assert "waiting" not in flmctl(cluster, "list", "-s")
        assert "waiting" in flmctl(cluster, "list", "-s", "--tenant", "trading")
        assert "waiting" in flmctl(cluster, "list", "-s", "--all-tenants")
        told = flmctl(cluster, "view", "-s", str(waiting.number), fails=True)
        assert "is of another tenant, 'trading': say --tenant trading" in told
        told = flmctl(cluster, "view", "-s", "17", fails=True)
        assert "there is no session '17' of tenant 'default'" in told
        flmctl(cluster, "token", "revoke", flmctl(cluster, "token", "list").split()[5])
    with pytest.raises(flame.Unauthenticated):
        flame.connect(cluster.endpoint, token=token, timeout=5.0)
    told = flmctl(cluster, "tenant", "delete", "trading", fails=True)
    assert "1 open sessions, 'waiting' among them; close them first" in told
    shown = tmp_path / "tenants.yaml"
    shown.write_text(flmctl(cluster, "tenant", "list", "-o", "yaml"))
    assert "research is as the file says" in flmctl(cluster, "tenant", "apply", "-f", str(shown))


def _error(future: "flame.Future") -> BaseException | None:
    try:
        return future.exception(timeout=1.0)
    except TimeoutError:
        return None
