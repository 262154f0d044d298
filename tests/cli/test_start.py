"""What a command loads before it does anything, which every run of it waits for."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import click
import pytest

from flame.cli.flame import flame
from flame.cli.flmctl import flmctl
from flame.cli.flmexec import flmexec
from flame.cli.flmping import flmping
from flame.executor_manager.main import main as executor_manager
from flame.session_manager.main import main as session_manager
from tests.cli.conftest import Run

#: Each takes 20 to 80 ms to load, and most runs need none of them.
SLOW = ("google.protobuf.internal.python_message", "rich", "yaml")


@pytest.mark.parametrize("command", ["flmctl", "flmexec", "flmping"])
def test_a_command_starts_without_what_few_runs_need(command: str) -> None:
    script = (
        f"import sys, flame.cli.{command}, flame.sdk.client\n"
        f"print(*sorted(set({SLOW!r}) & set(sys.modules)), 'grpc' in sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["True"]


@pytest.mark.parametrize("command", ["flame", "flmctl", "flmexec", "flmping"])
def test_ctrl_c_while_a_command_is_loaded_ends_it_without_a_word(command: str) -> None:
    script = f"""
import signal, sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupted())
from flame.cli import start
start.{command}()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def groups(command: click.Command, *path: str) -> Iterator[tuple[str, click.Group]]:
    if isinstance(command, click.Group):
        yield " ".join(path), command
        for name, below in command.commands.items():
            yield from groups(below, *path, name)


@pytest.mark.parametrize(("path", "group"), [*groups(flame, "flame"), *groups(flmctl, "flmctl")])
def test_help_says_in_one_whole_sentence_what_each_command_does(
    path: str, group: click.Group
) -> None:
    shown = group.get_help(click.Context(group, info_name=path, terminal_width=80))
    assert not [
        line for line in shown.splitlines() if line.startswith("  ") and line.endswith("...")
    ]
    for command in group.commands.values():
        assert not command.params or "Example" in (command.epilog or ""), command.name


def test_every_command_says_its_version(run: Run) -> None:
    commands = (flame, flmctl, flmping, flmexec, session_manager, executor_manager)
    said = {run(command, "--version").stdout for command in commands}
    assert said == {f"flame {version('flame')}\n"}
