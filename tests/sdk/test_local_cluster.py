"""A cluster of this process's own: real processes, started, killed, restarted, stopped."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.model.errors import FlameError, InvalidRequest
from flame.sdk.child import Child, Readiness
from flame.sdk.local_cluster import LocalCluster
from tests.processes import is_alive
from tests.waiting import wait_until

ROOT = Path(flame.__file__).parents[2]


def reverse(data: bytes | None) -> bytes | None:
    return data and data[::-1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(executors=1) as running:
        yield running


def test_a_token_that_only_its_user_can_read_opens_it(cluster: LocalCluster) -> None:
    assert cluster.token_file.stat().st_mode & 0o777 == 0o600
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        assert [node.name for node in client.list_nodes()]
    with pytest.raises(flame.Unauthenticated):
        flame.connect(cluster.endpoint, token="wrong")


def test_a_killed_session_manager_comes_back_where_it_was_and_nobody_notices(
    cluster: LocalCluster,
) -> None:
    with flame.connect(cluster.endpoint, token=cluster.token) as client:
        session = client.create_session(reverse)
        inputs = [str(index).encode() for index in range(5000)]
        futures = [session.run(data) for data in inputs]
        session.flush()
        before = cluster.pids["session-manager"]
        os.kill(before, signal.SIGKILL)
        assert [future.result(60) for future in futures] == [data[::-1] for data in inputs]
        assert session.info().succeeded == 5000
        assert cluster.pids["session-manager"] != before
        session.close()


def test_what_runs_when_a_cluster_is_stopped_ends_as_usual(tmp_path: Path) -> None:
    """Its executor would wait for a session manager that is gone, until it is killed."""
    began = tmp_path / "began"

    def slow(data: bytes | None) -> bytes | None:
        began.touch()
        time.sleep(2.0)
        return data and data[::-1]

    directory = tmp_path / "cluster"
    with LocalCluster(executors=1, directory=directory) as cluster:
        client = flame.connect(cluster.endpoint, token=cluster.token)
        session = client.create_session(slow, name="s")
        future = session.run(b"abc")
        wait_until(began.exists, "the start of the task")
        client.close()
    assert "cause=stopped code=0 signal=0" in (directory / "executor-manager.log").read_text()
    with (
        LocalCluster(executors=0, directory=directory) as cluster,
        flame.connect(cluster.endpoint, token=cluster.token) as client,
    ):
        assert client.get_session("s").result_of(future.task_id or 0, 60.0) == b"cba"


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "flame.db").mkdir()  # where the database should be
    cluster = LocalCluster(executors=0, directory=tmp_path)
    with pytest.raises(
        FlameError, match=r"(?s)session-manager ended at its start.*flame\.db"
    ) as caught:
        cluster.start()
    assert "session-manager.log" in str(caught.value)
    assert cluster.wait(0)


def test_interrupted_during_its_start_it_ends_in_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = LocalCluster(executors=1)
    pids: list[int] = []

    def interrupted(child: Child, deadline: float) -> Readiness:
        pids.extend(cluster.pids.values())
        raise KeyboardInterrupt

    monkeypatch.setattr(Child, "wait_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


def test_a_port_in_use_is_refused_by_its_number(cluster: LocalCluster) -> None:
    port = cluster.endpoint.rpartition(":")[2]
    with pytest.raises(FlameError, match=port):
        LocalCluster(executors=0, listen=f"127.0.0.1:{port}").start()


def test_clients_share_the_embedded_cluster_and_the_last_one_takes_it_along() -> None:
    with flame.connect(executors=1, storage="memory") as first:
        with flame.connect() as second:
            assert second.endpoint == first.endpoint
            with pytest.raises(InvalidRequest, match="executors=1"):
                flame.connect(executors=2)
        assert first.embedded is not None
        pids = list(first.embedded.pids.values())
        with first.create_session(reverse) as session:
            assert session.invoke(b"ab", timeout=30) == b"ba"
    wait_until(lambda: not any(map(is_alive, pids)), "the cluster's processes have ended")


def test_an_embedded_cluster_is_not_asked_for_together_with_an_endpoint() -> None:
    with pytest.raises(InvalidRequest, match="executors and storage"):
        flame.connect("http://127.0.0.1:1", executors=1)


ABANDON = """
import flame, os, signal, sys
client = flame.connect(executors=1)
session = client.create_session("flmping")
session.invoke(b"x", timeout=30)
print(*client.embedded.pids.values(), client.embedded.directory, flush=True)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["leave", "kill"])
def test_the_embedded_cluster_ends_with_its_process_however_that_ends(how: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", ABANDON, how],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if how == "leave" else -signal.SIGKILL), done.stderr
    *pids, directory = done.stdout.split()
    assert len(pids) == 2
    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids), "its processes have ended")
    if how == "leave":
        assert not Path(directory).exists()


def test_a_directory_that_a_killed_process_left_is_removed_by_the_next_cluster() -> None:
    left = Path(tempfile.mkdtemp(prefix="flame-cluster-"))
    (left / "lock").touch()
    (left / "flame.db").touch()
    with LocalCluster(executors=0, storage="memory"):
        assert not left.exists()


SERVICE = """
import flame

class Upper(flame.FlameService):
    def on_session_enter(self, context):
        self.suffix = context.common_data or b""

    def on_task_invoke(self, context):
        if context.input == b"bad":
            raise ValueError("a bad task")
        return context.input and context.input.upper() + self.suffix

flame.run_service(Upper())
"""


def test_a_program_can_be_a_service(cluster: LocalCluster, tmp_path: Path) -> None:
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    spec = flame.ApplicationSpec(
        shim=flame.ShimKind.HOST, command=sys.executable, arguments=(str(program),)
    )
    with flame.connect(cluster.endpoint, token=cluster.token) as client:
        client.register_application("upper", spec)
        with client.create_session("upper", common_data=b"!") as session:
            assert session.invoke(b"ab", timeout=30) == b"AB!"
            assert session.invoke(None, timeout=30) is None
            with pytest.raises(flame.TaskFailed, match="ValueError: a bad task"):
                session.invoke(b"bad", timeout=30)


def test_run_service_outside_an_executor_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLAME_INSTANCE_ENDPOINT", raising=False)
    with pytest.raises(flame.InvalidConfiguration, match="FLAME_INSTANCE_ENDPOINT is not set"):
        flame.run_service(flame.FlameService())
    with pytest.raises(InvalidRequest, match=r"run_service\(Service\(\)\)"):
        flame.run_service(flame.FlameService)  # type: ignore[arg-type]


def test_importing_flame_is_quick_and_loads_no_grpc() -> None:
    program = "import sys, flame; print('grpc' in sys.modules, 'click' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    begin = time.monotonic()
    done = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
    assert done.split() == ["False", "False"]
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("address", ["here", "127.0.0.1:99999", "127.0.0.1"])
def test_an_address_to_listen_on_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(InvalidRequest, match=f"listen is '{address}'; it must be HOST:PORT, like"):
        LocalCluster(listen=address)
