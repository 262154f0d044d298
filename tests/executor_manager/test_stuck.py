"""An executor manager whose loop hangs: it ends by itself, and at a second signal."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE = 30.0  # seconds

#: It spins as soon as it would look for its session manager.
_SPINS = """
from flame.executor_manager.agent import NodeAgent
from flame.executor_manager.main import main

async def spin(self):
    print("spinning", flush=True)
    while True:
        pass

NodeAgent.run = spin
main()
"""
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(limit: str) -> "subprocess.Popen[str]":
        token = tmp_path / "token"
        token.write_text("secret")
        token.chmod(0o600)
        process = subprocess.Popen(
            [sys.executable, "-c", _SPINS, "--endpoint", "http://127.0.0.1:1",
             "--token-file", str(token), "--node", "n", "--directory", str(tmp_path / "node"),
             "--stuck-after", limit],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "spinning\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


def test_it_ends_with_its_stacks(hanging: Start) -> None:
    process = hanging("1")
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "loop-stuck seconds=1" in told
    assert "in spin" in told


def test_a_second_signal_ends_it(hanging: Start) -> None:
    process = hanging("0")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.terminate()
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
