"""``flmexec`` as a program against a real cluster: how it ends when its tasks do not simply succeed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flame.sdk.local_cluster import LocalCluster
from tests.e2e.test_commands import COMMAND_TIMEOUT, Commands
from tests.processes import is_alive
from tests.waiting import wait_until


@pytest.fixture
def commands(cluster: LocalCluster, tmp_path: Path) -> Commands:
    return Commands(cluster.endpoint, cluster.token_file, tmp_path)


def begun(directory: Path) -> list[int]:
    """The numbers of the processes that have written them into files of this directory."""
    numbers = [path.read_text() for path in directory.glob("*.pid")]
    return [int(text) for text in numbers if text.endswith("\n")]


def running(directory: Path) -> list[int]:
    """Those of them that still are."""
    return [number for number in begun(directory) if is_alive(number)]


def newest_session(commands: Commands) -> dict[str, object]:
    [*_, newest] = sorted(
        json.loads(commands.good("flmctl", "list", "-o", "json")),
        key=lambda session: int(session["metadata"]["number"]),
    )
    status: dict[str, object] = newest["status"]
    return status


#: A script that says who it is and then runs for ever, as a program and not as a shell.
FOREVER = "sh -c 'echo $$ >\"$0.pid\"; exec sleep 1000' {}"


@pytest.mark.parametrize("runtime", [[], ["-r", "bash"]])
def test_ctrl_c_leaves_no_task_and_no_process(
    commands: Commands, tmp_path: Path, runtime: list[str]
) -> None:
    items = [str(tmp_path / str(number)) for number in range(20)]
    process = subprocess.Popen(
        [sys.executable, "-m", "flame.cli.flmexec", *runtime, "-c", FOREVER, *items],
        env=commands.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has it ignored, which a child inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        wait_until(lambda: len(begun(tmp_path)) == 2, "two tasks have begun")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=COMMAND_TIMEOUT)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
    wait_until(lambda: not running(tmp_path), "no script runs")
    status = newest_session(commands)
    assert (status["state"], status["pending"], status["running"]) == ("Closed", 0, 0)
    assert len(begun(tmp_path)) == 2  # none of the others began


def test_a_task_that_runs_too_long_is_ended_and_named(commands: Commands, tmp_path: Path) -> None:
    items = [str(tmp_path / "slow"), "quick"]
    code = f"case {{}} in quick) echo quick;; *) {FOREVER};; esac"
    result = commands("flmexec", "--timeout", "0.5", "-c", code, *items)
    assert (result.returncode, result.stdout) == (1, "quick\n")
    assert f"task 1 ({items[0]}) failed: " in result.stderr
    assert result.stderr.endswith("Error: 1 of 2 tasks failed\n")
    assert begun(tmp_path)
    wait_until(lambda: not running(tmp_path), "the script is gone")


def test_halt_cancels_the_rest_after_so_many_failures(commands: Commands, tmp_path: Path) -> None:
    code = f"case {{#}} in 1) echo one;; 2) exit 7;; *) {FOREVER};; esac"
    items = [str(tmp_path / str(number)) for number in range(20)]
    result = commands("flmexec", "--halt", "1", "-c", code, *items)
    assert (result.returncode, result.stdout) == (1, "one\n")
    assert f"task 2 ({items[1]}) failed: the script ended with code 7" in result.stderr
    assert result.stderr.endswith("Error: 1 of the first 2 tasks failed; the rest was cancelled\n")
    wait_until(lambda: not running(tmp_path), "no script runs")
    status = newest_session(commands)
    assert (status["state"], status["succeeded"]) == ("Closed", 1)
