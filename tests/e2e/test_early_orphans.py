"""Processes whose parent ends in the moment in which it starts them."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE = 30.0

#: Starts a program that is told who its parent is, and ends long before that program can look.
_STARTS_AND_LEAVES = """
import os, subprocess, sys
alive, *command = sys.argv[1:]
subprocess.Popen([*command, "--die-with-parent", str(os.getpid())], pass_fds=[int(alive)])
os._exit(0)
"""


@pytest.mark.parametrize(
    "command",
    [
        ("flame.session_manager", "--listen", "127.0.0.1:0", "--storage", "memory"),
        ("flame.executor_manager", "--endpoint", "http://127.0.0.1:9", "--directory", "node"),
    ],
    ids=lambda command: command[0],
)
def test_a_manager_notices_that_its_parent_ended_before_it_could_look(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    subprocess.run(
        [sys.executable, "-c", _STARTS_AND_LEAVES, str(writing), sys.executable, "-m", *command],
        cwd=tmp_path,
        env=os.environ | {"FLAME_CONFIG_DIR": str(tmp_path), "FLAME_TOKEN": "secret"},
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.close(writing)
    with os.fdopen(reading) as alive:
        assert select.select([alive], [], [], PATIENCE)[0], "it outlived its parent"
        assert alive.read() == ""
