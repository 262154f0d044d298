"""flame up and flame version, with a cluster that only pretends."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flame.cli.flame import flame
from flame.model.errors import Unavailable
from tests.cli.conftest import Run


class FakeCluster:
    """Stands in for LocalCluster: is ready at once, and interrupted where the test says."""

    made: "list[FakeCluster]"
    interrupted_in: str | None
    refused: Unavailable | None

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: list[str] = []
        self.directory = Path(options["directory"]).absolute()
        self.token_file = self.directory / "token"
        self.endpoint = f"http://{options['listen']}"
        FakeCluster.made.append(self)

    def start(self) -> None:
        self.calls.append("start")
        if FakeCluster.refused:
            raise FakeCluster.refused

    def wait(self) -> None:
        self.calls.append("wait")
        raise KeyboardInterrupt

    def stop(self) -> None:
        self.calls.append("stop")
        if FakeCluster.interrupted_in == "stop":
            raise KeyboardInterrupt

    def kill(self) -> None:
        self.calls.append("kill")


@pytest.fixture(autouse=True)
def clusters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[FakeCluster]]:
    monkeypatch.setattr("flame.cli.up.LocalCluster", FakeCluster)
    FakeCluster.made = []
    FakeCluster.interrupted_in = None
    FakeCluster.refused = None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield FakeCluster.made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def home(client: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FLAME_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_up_says_where_it_is_and_stops_on_ctrl_c(
    run: Run, home: Path, clusters: list[FakeCluster]
) -> None:
    result = run(flame, "up", "--executors", "2")
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "Flame is ready on http://127.0.0.1:8080, with 2 executors. Ctrl-C stops it.\n"
    )
    assert "export" not in result.stdout, "the commands find this one by themselves"
    assert f"The token is in {home}/token" in result.stdout
    assert clusters[0].calls == ["start", "wait", "stop"]


def test_up_says_how_to_reach_a_cluster_that_is_elsewhere(
    run: Run, home: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "other"
    result = run(flame, "up", "--listen", "127.0.0.1:9999", "--directory", str(directory))
    assert "export FLAME_ENDPOINT=http://127.0.0.1:9999\n" in result.stdout
    assert f"export FLAME_TOKEN_FILE={directory}/token\n" in result.stdout


def test_a_second_ctrl_c_stops_at_once(run: Run, home: Path, clusters: list[FakeCluster]) -> None:
    FakeCluster.interrupted_in = "stop"
    assert run(flame, "up").exit_code == 130
    assert clusters[0].calls == ["start", "wait", "stop", "kill"]


def test_a_cluster_that_does_not_start_is_told(run: Run, home: Path) -> None:
    FakeCluster.refused = Unavailable("port 8080 is in use")
    result = run(flame, "up")
    assert (result.exit_code, result.stderr) == (1, "Error: port 8080 is in use\n")


def test_options_of_up_reach_the_cluster(run: Run, home: Path, clusters: list[FakeCluster]) -> None:
    file = home / "flame-cluster.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("cluster: {name: c, endpoint: 'http://127.0.0.1:1'}")
    run(flame, "up", "--storage", "memory", "--anonymous", "--config", str(file))
    assert clusters[0].options == {
        "executors": None,
        "listen": "127.0.0.1:8080",
        "storage": "memory",
        "directory": home,
        "anonymous": True,
        "config": str(file),
    }


def test_help_says_that_another_port_is_taken(run: Run) -> None:
    said = " ".join(run(flame, "up", "--help").stdout.split())
    assert "Takes the port after it as well" in said


def test_version_names_flame_and_python(run: Run) -> None:
    assert run(flame, "version").stdout.startswith("flame ")


@pytest.mark.parametrize("arguments", [["up", "--executors", "-1"], ["down"]])
def test_a_wrong_command_line_exits_with_2(run: Run, arguments: list[str]) -> None:
    assert run(flame, *arguments).exit_code == 2
