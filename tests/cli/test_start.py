"""What a command loads before it does anything, which every run of it waits for."""

import subprocess
import sys

import pytest

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
