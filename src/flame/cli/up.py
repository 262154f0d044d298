"""``flame up``: a whole cluster on this machine, in the foreground.

starting ──ready──▶ running ──Ctrl-C──▶ stopping ──Ctrl-C──▶ killed
                      └─ a session manager that dies is started again, where it was
"""

import os
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from flame.cli.connection import LOCAL_ENDPOINT
from flame.cli.outcomes import INTERRUPTED, Command
from flame.model.errors import InvalidRequest
from flame.sdk.local_cluster import LocalCluster

EXAMPLES = """
\b
Examples:
  flame up                                  two managers and as many executors as CPUs
  flame up --executors 0                    sessions and tasks wait; nodes may join
  flame up --storage memory --anonymous     for a try with a released SDK

\b
A second machine or process joins with
  flame-executor-manager --endpoint URL --token-file FILE
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "--executors",
    type=click.IntRange(min=0),
    metavar="N",
    help="Unit executors (1 cpu, 1 GiB) to offer; default: what this machine has.",
)
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option(
    "--storage",
    metavar="URL",
    help="sqlite:///FILE or memory; default: a file in the directory.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where the token, the database and the logs are; default ~/.flame.",
)
@click.option(
    "--anonymous",
    is_flag=True,
    help="Let in callers without a token, as released SDKs are; on loopback only.",
)
@click.pass_context
def up(
    ctx: click.Context,
    *,
    executors: int | None,
    listen: str,
    storage: str | None,
    directory: str | None,
    anonymous: bool,
) -> None:
    """Run a Flame cluster on this machine until Ctrl-C."""
