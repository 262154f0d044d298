"""The shipped commands, as programs, against a real cluster."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.processes import command
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 20.0  # seconds


class Commands:
    """Runs the commands of this environment against one cluster."""

    def __init__(self, endpoint: str, token_file: Path | str | None, directory: Path) -> None:
        self.environment: Mapping[str, str] = {
            **{key: value for key, value in os.environ.items() if not key.startswith("FLAME_")},
            "FLAME_CONFIG_DIR": str(directory),
            "FLAME_ENDPOINT": endpoint,
            **({} if token_file is None else {"FLAME_TOKEN_FILE": str(token_file)}),
        }

    def __call__(
        self, program: str, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"flame.cli.{program}", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
        )

    def good(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """The output of a command that must succeed and complain about nothing."""
        result = self(program, *arguments, stdin=stdin)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout


@pytest.fixture
def commands(cluster: LocalCluster, tmp_path: Path) -> Commands:
    return Commands(cluster.endpoint, cluster.token_file, tmp_path)


def test_flmping_prints_the_lines_of_the_mission_and_flmctl_the_table(commands: Commands) -> None:
    output = commands.good("flmping", "-t", "10000")
    matched = re.fullmatch(
        r"Session <(\d+)> was created in <[\d,]+ ms>, start to run <10,000> tasks in the session:\n"
        r"\n"
        r"\[100%\] =============================================   10000/10000\n"
        r"\n"
        r"<10,000> tasks was completed in <[\d,]+ ms>.\n",
        output,
    )
    assert matched
    header, *lines = commands.good("flmctl", "list").splitlines()
    assert header == (
        "ID        State     App            Slots     Pending   Running   Succeed   Failed    Created"
    )
    [line] = [line for line in lines if line.split()[0] == matched[1]]
    assert re.fullmatch(
        rf"{matched[1]:<10}Closed    flmping        1         0         0         10000     "
        r"0         \d\d:\d\d:\d\d",
        line,
    )


def test_flmping_measures_and_answers_a_program(commands: Commands) -> None:
    report = json.loads(commands.good("flmping", "-t", "500", "--size", "1k", "-o", "json"))
    assert (report["tasks"], report["succeeded"], report["failed"]) == (500, 500, 0)
    assert "Throughput:" in commands.good("flmping", "-t", "100", "--perf")


def test_flmping_can_start_a_cluster_of_its_own(commands: Commands) -> None:
    environment = dict(commands.environment)
    del environment["FLAME_ENDPOINT"]
    result = subprocess.run(
        [sys.executable, "-m", "flame.cli.flmping", "--executors", "1", "-t", "100"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "<100> tasks was completed" in result.stdout


@contextmanager
def pinging(commands: Commands, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A flmping that has made its session, and that one's number."""
    with subprocess.Popen(
        [sys.executable, "-m", "flame.cli.flmping", *options],
        env=commands.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        number = re.search(r"<(\d+)>", process.stdout.readline())
        assert number
        yield process, number[1]


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_flmping_closes_its_session_when_told_to_stop(
    commands: Commands, asked: signal.Signals
) -> None:
    with pinging(commands, "-t", "100000", "-d", "1000") as (process, number):
        process.send_signal(asked)
        _, errors = process.communicate(timeout=COMMAND_TIMEOUT)
    assert process.returncode == 130
    assert f"Interrupted: session <{number}> is closed." in errors
    assert "Traceback" not in errors
    session = json.loads(commands.good("flmctl", "view", "-s", number, "-o", "json"))
    assert session["status"]["state"] == "Closed"
    assert session["status"]["pending"] == 0


def test_flmexec_prints_outputs_and_names_what_failed(commands: Commands) -> None:
    assert commands.good("flmexec", "-t", "3", "-c", "echo hi") == "hi\nhi\nhi\n"
    code = "import sys; print(sys.stdin.read().upper())"
    assert commands.good("flmexec", "-t", "1", "-l", "python", "-c", code, "-i", "text") == "TEXT\n"
    assert commands.good("flmexec", "-c", "echo {#} {}", stdin="a\nb c\n") == "1 a\n2 b c\n"
    result = commands("flmexec", "-t", "2", "-c", "echo oops >&2; exit 3")
    assert result.returncode == 1
    assert "task 1 failed:" in result.stderr
    assert "task 2 failed:" in result.stderr
    assert "oops" in result.stderr
    assert "Error: 2 of 2 tasks failed" in result.stderr


def test_a_session_can_be_created_looked_at_and_closed(commands: Commands) -> None:
    name = commands.good("flmctl", "create", "-a", "flmping", "-p", "4", "-s", "2").strip()
    session = json.loads(commands.good("flmctl", "view", "-s", name, "-o", "json"))
    assert session["spec"]["priority"] == 4
    assert session["status"]["slots"] == 2
    assert name in commands.good("flmctl", "list", "-s")
    assert commands.good("flmctl", "close", "-s", name) == f"Session {name} is closed.\n"
    again = json.loads(commands.good("flmctl", "view", "-s", name, "-o", "json"))
    assert again["status"]["state"] == "Closed"


def test_a_session_is_deleted_once_it_is_closed(commands: Commands) -> None:
    name = commands.good("flmctl", "create", "-a", "flmping").strip()
    refused = commands("flmctl", "delete", "-s", name)
    assert refused.returncode == 1
    assert f"flmctl close -s {name}; or --force" in refused.stderr
    commands.good("flmctl", "close", "-s", name)
    assert commands.good("flmctl", "delete", "-s", name) == f"Session {name} is deleted.\n"
    assert commands("flmctl", "view", "-s", name).returncode == 1


def test_an_open_session_can_be_deleted_by_force_with_a_task_that_runs(commands: Commands) -> None:
    with pinging(commands, "-t", "1", "-d", "60000") as (running, number):

        def runs() -> bool:
            shown = commands.good("flmctl", "view", "-s", number, "-o", "json")
            return bool(json.loads(shown)["status"]["running"])

        wait_until(runs, "its task runs")
        deleted = commands.good("flmctl", "delete", "-s", number, "--force", "-o", "json")
        assert json.loads(deleted)["status"]["state"] == "Closed"
        _, errors = running.communicate(timeout=COMMAND_TIMEOUT)
    assert running.returncode == 1
    assert "Traceback" not in errors
    assert commands("flmctl", "view", "-s", number).returncode == 1


def test_a_task_can_be_looked_at(commands: Commands) -> None:
    report = json.loads(commands.good("flmping", "-t", "3", "-o", "json"))
    task = json.loads(
        commands.good("flmctl", "view", "-s", str(report["session"]), "-t", "2", "-o", "json")
    )
    assert task["status"]["state"] == "Succeeded"
    assert task["spec"]["input"] == task["spec"]["output"]


def test_an_application_goes_round_register_view_update_unregister(
    commands: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(
        "metadata: {name: e2e-ping}\n"
        "spec:\n"
        "  shim: Python\n"
        "  entry_point: flame.executor_manager.services.ping:PingService\n"
        "  labels: [test]\n"
    )
    commands.good("flmctl", "register", "-f", str(path))
    assert "e2e-ping" in commands.good("flmctl", "list", "-a")
    shown = commands.good("flmctl", "view", "-a", "e2e-ping", "-o", "yaml")
    commands.good("flmctl", "update", "-a", "-", stdin=shown.replace("- test", "- tested"))
    application = json.loads(commands.good("flmctl", "view", "-a", "e2e-ping", "-o", "json"))
    assert application["spec"]["labels"] == ["tested"]
    commands.good("flmctl", "unregister", "-a", "e2e-ping")
    result = commands("flmctl", "view", "-a", "e2e-ping")
    assert result.returncode == 1
    assert "e2e-ping" in result.stderr


def test_executors_and_nodes_are_listed(commands: Commands) -> None:
    [node, *_] = json.loads(commands.good("flmctl", "list", "-n", "-o", "json"))
    assert node["status"]["state"] == "Ready"
    name = node["metadata"]["name"]
    assert name in commands.good("flmctl", "view", "-n", name)
    assert commands.good("flmctl", "list", "-e").startswith("ID")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["view", "-s", "no-such-session"], "no-such-session"),
        (["view", "-a", "no-such-application"], "no-such-application"),
        (["view", "-n", "no-such-node"], "no-such-node"),
        (["create", "-a", "no-such-application"], "no-such-application"),
        (["unregister", "-a", "no-such-application"], "no-such-application"),
        (["close", "-s", "no-such-session"], "no-such-session"),
        (["delete", "-s", "no-such-session"], "no-such-session"),
    ],
)
def test_what_is_not_there_is_one_sentence_on_stderr(
    commands: Commands, arguments: list[str], told: str
) -> None:
    result = commands("flmctl", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_the_token_nobody_is_let_in(start_cluster: StartCluster, tmp_path: Path) -> None:
    result = Commands(start_cluster(executors=0).endpoint, None, tmp_path)("flmctl", "list")
    assert (result.returncode, result.stdout) == (1, "")
    assert "token" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_cluster_that_is_not_there_is_told_soon(tmp_path: Path) -> None:
    result = Commands("http://127.0.0.1:1", None, tmp_path)("flmctl", "list")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert result.stderr.count("\n") == 1


# --- flame up ----------------------------------------------------------------------------------


class Up:
    """A ``flame up`` in a directory of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "flame.cli.flame", "up"),
                *("--listen", "127.0.0.1:0", "--directory", str(directory)),
                *("--executors", "1", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        matched = re.search(r"http://127\.0\.0\.1:\d+", self.ready_line)
        assert matched, (self.ready_line, self.process.stderr and self.process.stderr.read())
        self.endpoint = matched[0]
        self.commands = Commands(self.endpoint, directory / "token", directory)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with started(tmp_path / "flame") as running:
        yield running


@contextmanager
def started(directory: Path, *options: str) -> Iterator[Up]:
    running = Up(directory, *options)
    with running.process as process:
        yield running
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def test_flame_up_serves_until_ctrl_c_and_leaves_no_process(up: Up) -> None:
    token = up.directory / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    up.commands.good("flmping", "-t", "100")
    tree = up.tree()
    assert tree
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(STOP_TIMEOUT) in (0, 130)
    _, alive = psutil.wait_procs(tree, timeout=STOP_TIMEOUT)
    assert alive == []


def test_flame_up_restarts_a_session_manager_that_dies(up: Up) -> None:
    number = json.loads(up.commands.good("flmping", "-t", "10", "-o", "json"))["session"]
    [manager] = [
        process
        for process in up.tree()
        if any("flame.session_manager" in part for part in command(process))
    ]
    manager.kill()
    manager.wait(STOP_TIMEOUT)
    session = json.loads(up.commands.good("flmctl", "view", "-s", str(number), "-o", "json"))
    assert session["status"]["succeeded"] == 10
    up.commands.good("flmping", "-t", "10")


def test_a_command_that_waits_says_that_the_session_manager_is_away_and_back(
    tmp_path: Path,
) -> None:
    directory, told = tmp_path / "flame", tmp_path / "told"
    with started(directory) as up, told.open("w") as stderr:
        endpoint = up.endpoint
        waiting = subprocess.Popen(
            [sys.executable, "-m", "flame.cli.flmping", "-t", "3", "-d", "2000", "-o", "json"],
            env=up.commands.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        wait_until(lambda: "Open" in up.commands.good("flmctl", "list"), "its session is open")
    try:
        gone = f"the session manager at {endpoint} does not answer; waiting for it, Ctrl-C gives up"
        wait_until(lambda: gone in told.read_text(), "it says that it waits")
        with started(directory, "--listen", endpoint.removeprefix("http://")):
            stdout, _ = waiting.communicate(timeout=COMMAND_TIMEOUT)
    finally:
        waiting.kill()
    assert json.loads(stdout)["succeeded"] == 3
    back = f"the session manager at {endpoint} answers again"
    assert told.read_text() == f"{gone}\n{back}\n"


def test_ctrl_c_ends_a_command_soon_after_its_session_manager_has_gone(tmp_path: Path) -> None:
    with started(tmp_path / "flame") as up:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "flame.cli.flmping", "-t", "1000", "-d", "1000", "-o", "json"],
            env=up.commands.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with waiting:
            wait_until(lambda: "Open" in up.commands.good("flmctl", "list"), "its session is open")
            tree = up.tree()
            up.process.kill()
            _, alive = psutil.wait_procs(tree, timeout=STOP_TIMEOUT)
            assert alive == []
            began = time.monotonic()
            waiting.send_signal(signal.SIGINT)
            _, told = waiting.communicate(timeout=COMMAND_TIMEOUT)
            took = time.monotonic() - began
    assert waiting.returncode == 130
    assert took < 10, "not the retry time, which is 30 s"
    assert "stays open and its tasks go on" in told
    assert "Interrupted: session <1> is left open." in told


def test_a_port_in_use_is_told_and_nothing_keeps_running(up: Up, tmp_path: Path) -> None:
    port = up.endpoint.rpartition(":")[2]
    result = subprocess.run(
        [
            *(sys.executable, "-m", "flame.cli.flame", "up"),
            *("--listen", f"127.0.0.1:{port}", "--directory", str(tmp_path / "second")),
        ],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
    )
    assert result.returncode == 1
    assert port in result.stderr
    assert "Traceback" not in result.stderr
