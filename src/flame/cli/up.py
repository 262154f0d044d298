"""``flame up``: a whole cluster on this machine, in the foreground.

starting ──ready──▶ running ──Ctrl-C──▶ stopping ──Ctrl-C──▶ killed
                      └─ a session manager that dies is started again, where it was
"""

import logging

import click

from flame.cli.connection import LOCAL_ENDPOINT
from flame.cli.outcomes import INTERRUPTED, Command
from flame.runtime.directory import configuration_directory
from flame.sdk.local_cluster import LocalCluster

EXAMPLES = """
\b
Examples:
  flame up                                  two managers and as many executors as CPUs
  flame up --executors 0                    sessions and tasks wait; nodes may join
  flame up --storage memory --anonymous     for a try with a released SDK
  flame up --config flame-cluster.yaml      with its tenants, policies, labels and resources
  flame up --listen 127.0.0.1:8090 --directory ~/.flame-2   a second one beside it

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
@click.option(
    "--listen",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="On loopback. Takes the port after it as well, if that is free; port 0 picks one.",
)
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
@click.option(
    "--config",
    type=click.Path(dir_okay=False, exists=True),
    metavar="FILE",
    help="A flame-cluster.yaml; its endpoint and storage are not used.",
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
    config: str | None,
) -> None:
    """Run a Flame cluster on this machine until Ctrl-C.

    A second Ctrl-C stops it at once.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    cluster = LocalCluster(
        executors=executors,
        listen=listen,
        storage=storage,
        directory=directory or configuration_directory(),
        anonymous=anonymous,
        config=config,
    )
    cluster.start()
    try:
        _greet(cluster, executors, anonymous=anonymous)
        cluster.wait()
    except KeyboardInterrupt:
        click.echo("\nStopping; Ctrl-C again stops at once.", err=True)
    try:
        cluster.stop()
    except KeyboardInterrupt:
        cluster.kill()
        ctx.exit(INTERRUPTED)


def _greet(cluster: LocalCluster, executors: int | None, *, anonymous: bool) -> None:
    offered = "" if executors is None else f", with {executors} executors"
    click.echo(f"Flame is ready on {cluster.endpoint}{offered}. Ctrl-C stops it.\n")
    # What the commands look for by themselves need not be said.
    if cluster.endpoint != LOCAL_ENDPOINT:
        click.echo(f"  export FLAME_ENDPOINT={cluster.endpoint}")
    if cluster.directory != configuration_directory().absolute():
        click.echo(f"  export FLAME_TOKEN_FILE={cluster.token_file}")
    click.echo("  flmping -t 10000\n  flmctl list\n")
    click.echo(f"The token is in {cluster.token_file}; logs and data are beside it.")
    if anonymous:
        click.echo("Callers on this machine are let in without it (--anonymous).")
