"""The quick start and the examples, as a newcomer runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 100.0  # seconds


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python somewhere else, with nothing of Flame configured."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLAME_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment | {"FLAME_CONFIG_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.slow
def test_the_quick_start_runs_everything_and_leaves_nothing(tmp_path: Path) -> None:
    result = run(tmp_path, "-m", "flame.cli.quickstart")
    assert (result.returncode, result.stderr) == (0, "")
    assert "<10,000> tasks was completed" in result.stdout
    assert "pi is about 3.139472" in result.stdout
    assert "no process is left" in result.stdout


def test_pi_is_the_same_and_right_on_every_run(tmp_path: Path) -> None:
    command = [str(ROOT / "examples/pi/client.py"), "--check", "--tasks", "20"]
    first, second = run(tmp_path, *command), run(tmp_path, *command)
    assert (first.returncode, first.stderr) == (0, "")
    assert re.match(r"20 tasks of 10,000 points: pi is about 3\.1\d+ ", first.stdout)
    assert first.stdout == second.stdout


def test_hello_greets_in_order(tmp_path: Path) -> None:
    result = run(tmp_path, str(ROOT / "examples/hello/hello.py"))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "hello, ada\nhello, grace\nhello, edsger\n"
