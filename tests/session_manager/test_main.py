"""The session manager as a process: how it starts, refuses to start, and stops."""

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from flame.wire import v1
from flame.wire.channels import Endpoint, bearer

PATIENCE = 30.0  # seconds


class Started:
    """A session manager that serves."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str) -> None:
        self.process = process
        self.endpoint = Endpoint.parse(endpoint)


class Launcher:
    """Starts session managers in a directory of their own, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = os.environ | {"FLAME_CONFIG_DIR": str(directory / "flame")}
        self._processes: list[subprocess.Popen[str]] = []

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "flame.session_manager", *options]

    def serve(self, *options: str) -> Started:
        """Start one and wait until it serves."""
        reading, writing = os.pipe()
        process = subprocess.Popen(
            self.command("--listen", "127.0.0.1:0", "--ready-fd", str(writing), *options),
            cwd=self.directory,
            env=self.environment,
            pass_fds=[writing],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        os.close(writing)
        line = read_line(reading)
        assert line, process.communicate(timeout=PATIENCE)[1]
        ready = json.loads(line)
        assert ready["pid"] == process.pid
        return Started(process, ready["endpoint"])

    def refuse(self, *options: str) -> str:
        """Start one that must not start; return what it says."""
        done = subprocess.run(
            self.command(*options),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("flame-session-")]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return lines[0]

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=PATIENCE)


def read_line(descriptor: int) -> str:
    """The one line that a process writes, or nothing if it ends without."""
    with os.fdopen(descriptor) as file:
        assert select.select([file], [], [], PATIENCE)[0], "not ready in time"
        return file.readline()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    found = Launcher(tmp_path)
    yield found
    found.close()


def applications(started: Started, token: str | None) -> list[str]:
    """The names of the registered applications, as a client sees them."""
    method = v1.FRONTEND["ListApplication"]
    with grpc.insecure_channel(started.endpoint.target) as channel:
        call = channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=v1.ApplicationList.FromString,
        )
        listed = call(v1.ListApplicationRequest(), metadata=bearer(token), timeout=PATIENCE)
        return [application.metadata.name for application in listed.applications]


def test_it_serves_with_a_token_that_it_made_and_stops_when_told(launcher: Launcher) -> None:
    started = launcher.serve("--storage", "memory")
    token_file = launcher.directory / "flame" / "token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    token = token_file.read_text().strip()
    assert sorted(applications(started, token)) == ["flmexec", "flmping"]
    with pytest.raises(grpc.RpcError) as caught:
        applications(started, None)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    started.process.send_signal(signal.SIGTERM)
    _, said = started.process.communicate(timeout=PATIENCE)
    assert started.process.returncode == 0
    assert "Traceback" not in said
    assert token not in said


def test_anonymous_lets_clients_in_without_a_token(launcher: Launcher) -> None:
    started = launcher.serve("--storage", "memory", "--anonymous")
    assert sorted(applications(started, None)) == ["flmexec", "flmping"]


def test_default_applications_survive_a_restart(launcher: Launcher) -> None:
    for _ in range(2):
        started = launcher.serve("--storage", "sqlite://flame.db", "--anonymous")
        assert sorted(applications(started, None)) == ["flmexec", "flmping"]
        started.process.kill()
        started.process.wait(PATIENCE)


def test_a_port_in_use_is_said_so(launcher: Launcher) -> None:
    started = launcher.serve("--storage", "memory")
    said = launcher.refuse("--storage", "memory", "--listen", started.endpoint.target)
    assert f"cannot listen on {started.endpoint.target}: address already in use" in said
    assert "a session manager takes the port after its own as well" in said
    assert "--listen HOST:PORT" in said


def test_two_managers_on_one_database_are_refused(launcher: Launcher) -> None:
    launcher.serve("--storage", "sqlite://flame.db")
    said = launcher.refuse("--storage", "sqlite://flame.db", "--listen", "127.0.0.1:0")
    assert "flame.db" in said
    assert "in use" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--listen", "0.0.0.0:0"], "without TLS"),
        (["--listen", "0.0.0.0:0", "--anonymous"], "lets everybody in"),
        (["--listen", "here"], "--listen here: must be HOST:PORT"),
        (["--storage", "redis://x", "--listen", "127.0.0.1:0"], "allowed are memory, sqlite"),
        (["--config", "absent.yaml"], "absent.yaml: No such file"),
        (["--tls-cert", "c.pem"], "--tls-cert and --tls-key go together"),
        (
            ["--tls-cert", "c.pem", "--tls-key", "k.pem", "--listen", "127.0.0.1:0"],
            "--tls-key k.pem: No such file",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence_and_exit_code_2(
    launcher: Launcher, options: list[str], told: str
) -> None:
    assert told in launcher.refuse(*options)


def test_the_usual_configuration_file_is_found_and_the_command_line_wins(
    launcher: Launcher,
) -> None:
    directory = launcher.directory / "flame"
    directory.mkdir()
    (directory / "flame-cluster.yaml").write_text(
        "cluster: {name: x, endpoint: 'http://0.0.0.0:1', storage: 'redis://x'}"
    )
    assert "allowed are memory" in launcher.refuse("--listen", "127.0.0.1:0")
    launcher.serve("--storage", "memory")


def test_it_ends_with_the_process_that_started_it(launcher: Launcher, tmp_path: Path) -> None:
    """A shell starts it in the background and is killed; the pipe that it holds then closes."""
    reading, writing = os.pipe()
    alive_reading, alive_writing = os.pipe()
    options = ["--storage", "memory", "--listen", "127.0.0.1:0", "--die-with-parent"]
    child = launcher.command(*options, "--ready-fd", str(writing))
    parent = subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT, str(writing), str(alive_writing), *child],
        cwd=tmp_path,
        env=launcher.environment,
        pass_fds=[writing, alive_writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    os.close(alive_writing)
    assert json.loads(read_line(reading))["pid"] != parent.pid
    parent.kill()
    parent.wait(PATIENCE)
    with os.fdopen(alive_reading) as alive:
        assert select.select([alive], [], [], PATIENCE)[0], "it outlived its parent"
        assert alive.read() == ""


# --- a loop that hangs ---------------------------------------------------------------------------

#: A session manager whose loop begins to spin when its stdin closes.
_SPINS = """
import select, sys
from flame.session_manager.shell import Shell
from flame.session_manager.main import main

async def spin_when_told(self):
    import asyncio
    while not select.select([0], [], [], 0)[0]:
        await asyncio.sleep(0.02)
    print("spinning", flush=True)
    while True:
        pass

Shell._beat = spin_when_told
main()
"""


@pytest.fixture
def hanging(launcher: Launcher) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a session manager and have its loop hang."""
    started: list[subprocess.Popen[str]] = []

    def hang(*options: str) -> subprocess.Popen[str]:
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", _SPINS, "--storage", "memory", "--listen", "127.0.0.1:0",
             "--ready-fd", str(writing), *options],
            cwd=launcher.directory, env=launcher.environment, pass_fds=[writing], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        os.close(writing)
        assert read_line(reading)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdin = None
        assert process.stdout.readline() == "spinning\n"
        return process

    yield hang
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_a_loop_that_hangs_ends_the_process_with_its_stacks(
    hanging: Callable[..., subprocess.Popen[str]],
) -> None:
    process = hanging("--stuck-after", "1")
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "loop-stuck seconds=1" in told
    assert "in spin_when_told" in told


def test_a_process_that_stood_still_is_not_taken_for_one_that_hangs(launcher: Launcher) -> None:
    started = launcher.serve("--storage", "memory", "--stuck-after", "1")
    started.process.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    started.process.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        started.process.wait(3.0)
    started.process.terminate()
    assert started.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_a_process_whose_loop_hangs(
    hanging: Callable[..., subprocess.Popen[str]],
) -> None:
    process = hanging("--stuck-after", "0")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.terminate()
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_hanging_process_does_not_outlive_its_parent(launcher: Launcher) -> None:
    alive_reading, alive_writing = os.pipe()
    options = ["--storage", "memory", "--listen", "127.0.0.1:0", "--die-with-parent"]
    parent = subprocess.Popen(
        [sys.executable, "-c", _START_AND_WAIT, str(alive_writing), str(alive_writing),
         sys.executable, "-c", _SPINS, *options],
        cwd=launcher.directory, env=launcher.environment, pass_fds=[alive_writing], text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(alive_writing)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "spinning\n"
    parent.kill()
    parent.communicate(timeout=PATIENCE)
    with os.fdopen(alive_reading) as alive:
        assert select.select([alive], [], [], PATIENCE)[0], "it outlived its parent"
        assert alive.read() == ""


_START_AND_WAIT = """
import subprocess, sys
ready, alive, *command = sys.argv[1:]
subprocess.Popen(command, pass_fds=[int(ready), int(alive)]).wait()
"""


def test_a_socket_that_does_not_listen_takes_the_port_too(launcher: Launcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = launcher.refuse("--storage", "memory", "--listen", f"127.0.0.1:{port}")
        assert "address already in use" in said
