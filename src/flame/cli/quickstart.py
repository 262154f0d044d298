"""The first two minutes: ``make run``.

Starts a cluster on this machine, runs ``flmping`` and the pi example against it, shows what the
cluster remembers of them, stops everything, and looks whether anything was left behind.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import psutil

from flame.cli.outcomes import Command
from flame.model.errors import FlameError
from flame.sdk.local_cluster import LocalCluster

ROOT = Path(__file__).resolve().parents[3]
STEP_TIMEOUT = 120.0  # seconds
LEFT_OVER_TIMEOUT = 5.0  # seconds

#: What is shown, and what is run: the same programs, whether or not they are on the PATH.
STEPS = (
    ("flmping -t 10000", ["-m", "flame.cli.flmping", "-t", "10000"]),
    ("python examples/pi/client.py --check", [str(ROOT / "examples/pi/client.py"), "--check"]),
    ("flmctl list", ["-m", "flame.cli.flmctl", "list"]),
)


@click.command(cls=Command)
@click.option("--executors", type=click.IntRange(min=1), default=2, show_default=True)
@click.pass_context
def quickstart(ctx: click.Context, executors: int) -> None:
    """Start a cluster, run ten thousand tasks and an example on it, stop it."""
    begin = time.perf_counter()
    _say(f"Starting a cluster of {executors} executors on this machine ...")
    with LocalCluster(executors=executors) as cluster:
        _say(f"It listens on {cluster.endpoint} after {time.perf_counter() - begin:.1f} s.")
        environment = os.environ | {
            "FLAME_ENDPOINT": cluster.endpoint,
            "FLAME_TOKEN_FILE": str(cluster.token_file),
        }
        failed = [shown for shown, arguments in STEPS if not _run(shown, arguments, environment)]
        _say("Stopping everything ...")
    left = _left_over()
    if failed or left:
        for shown in failed:
            click.echo(f"Error: {shown} failed", err=True)
        for process in left:
            click.echo(f"Error: still running after the stop: {process}", err=True)
        ctx.exit(1)
    _say(f"All done after {time.perf_counter() - begin:.1f} s, and no process is left.")


def _run(shown: str, arguments: list[str], environment: Mapping[str, str]) -> bool:
    click.echo(f"\n$ {shown}")
    try:
        code = subprocess.call([sys.executable, *arguments], env=environment, timeout=STEP_TIMEOUT)
    except subprocess.TimeoutExpired:
        command = shlex.join(arguments)
        raise FlameError(f"python {command} did not end within {STEP_TIMEOUT:.0f} s") from None
    click.echo()
    return code == 0


def _left_over() -> list[str]:
    """What still runs of all that we started, once it has had the time to end."""
    processes = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs(processes, timeout=LEFT_OVER_TIMEOUT)
    return [f"{process.pid} {process.name()}" for process in alive]


def _say(sentence: str) -> None:
    click.echo(click.style(sentence, bold=True))


def main() -> None:
    """Entry point."""
    quickstart(prog_name="python -m flame.cli.quickstart")


if __name__ == "__main__":
    main()
