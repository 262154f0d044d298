"""``flmctl cordon``, ``uncordon`` and ``drain``."""

import click

from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.outcomes import Command
from flame.model.errors import FlameError
from flame.sdk.admin_calls import DrainProgress

DRAIN_EXAMPLES = """
\b
Examples:
  flmctl drain node-1                  returns when the node is empty
  flmctl drain node-1 --timeout 300    or says after five minutes what is left
  flmctl uncordon node-1               afterwards, or to think better of it

\b
Running tasks end as usual; what executors there have not started goes to other nodes, and no attempt
is spent. The node stays drained, also over restarts, until it is uncordoned.
"""


@click.command(cls=Command, epilog="\b\nExample:\n  flmctl cordon node-1")
@click.argument("node", shell_complete=names.nodes)
@connection_options
def cordon(connection: Connection, *, node: str) -> None:
    """Start nothing new on NODE; what runs there goes on."""
    with connection.open() as client:
        client.admin.cordon_node(node)
    click.echo(f"Node {node} is cordoned.")


@click.command(cls=Command, epilog="\b\nExample:\n  flmctl uncordon node-1")
@click.argument("node", shell_complete=names.nodes)
@connection_options
def uncordon(connection: Connection, *, node: str) -> None:
    """Use NODE again after a cordon or a drain."""
    with connection.open() as client:
        client.admin.uncordon_node(node)
    click.echo(f"Node {node} is used again.")


@click.command(cls=Command, epilog=DRAIN_EXAMPLES)
@click.argument("node", shell_complete=names.nodes)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer; the drain itself goes on.",
)
@connection_options
def drain(connection: Connection, *, node: str, timeout: float | None) -> None:
    """Have executors leave NODE, and wait until it is empty."""
    told = ""
    left: DrainProgress | None = None
    with connection.open() as client:
        for left in client.admin.drain_node(node, timeout):
            line = _line(left)
            if line != told and left.executors and not left.timed_out:
                click.echo(line)
                told = line
    if left is not None and left.executors:
        raise FlameError(
            f"node {node} is not empty after {timeout:g} s: {_line(left)}. The drain goes on; "
            f"`flmctl drain {node}` waits for it, `flmctl uncordon {node}` ends it"
        )
    click.echo(f"Node {node} is drained.")


def _line(left: DrainProgress) -> str:
    executors = "1 executor" if left.executors == 1 else f"{left.executors} executors"
    tasks = "1 task runs" if left.running == 1 else f"{left.running} tasks run"
    waited = f", of {', '.join(left.sessions)}" if left.sessions else ""
    return f"{executors} left; {tasks}{waited}"
