"""``flmctl create``, ``flmctl close`` and ``flmctl delete``."""

from collections.abc import Callable
from typing import Any

import click

import flame
from flame.cli.amounts import as_resources, instance_resources, slots_option
from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.documents.sessions import session_document
from flame.cli.outcomes import Command
from flame.cli.tables import document
from flame.model.errors import NotFound, WrongState
from flame.model.resources import Resources

CREATE_EXAMPLES = """
\b
Examples:
  flmctl create -a flmping
  flmctl create -a pi -p 10 -r cpu=2,mem=4g
  flmctl create -a train -r cpu=4,gpu=1 --batch-size 4 --require zone=a
  flmctl create -a render --min-instances 2 --prefer disk=ssd:2,zone=b
  flmctl create -a chat --standby 600
  flmctl create -a crawl --retry-on ConnectionError --retry-on 75 --retry-on-failure 4
"""

CLOSE_EXAMPLES = """
\b
Examples:
  flmctl close -s 4                     pending tasks are cancelled
  flmctl close -s 4 --cancel-running    running ones too
"""

DELETE_EXAMPLES = """
\b
Examples:
  flmctl delete -s 4                         a closed session, by its number
  flmctl delete -s flmping-x1y2z3 --force    an open one, too
  flmctl delete -s 4 -o json                 and print what it was
"""


def _session_option(
    completion: names.Completion,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "-s",
        "--session",
        metavar="SSN",
        shell_complete=completion,
        required=True,
        help="Its id, or its number.",
    )


def named_session(client: flame.Client, text: str) -> flame.Session:
    """Find a session by its id, or else by the number that ``flmctl list`` shows.

    Raises:
        NotFound: The tenant has neither; if another that the token is for has, it is named.
    """
    try:
        return client.get_session(text)
    except NotFound:
        number = int(text) if text.isascii() and text.isdigit() else None
        for info in client.list_sessions() if number is not None else ():
            if info.number == number:
                return client.get_session(info.name)
        for info in client.list_sessions(all_tenants=True):
            if info.number == number or info.name == text:
                raise NotFound(
                    f"session {text!r} is of another tenant, {info.tenant!r}: "
                    f"say --tenant {info.tenant}"
                ) from None
        raise


@click.command(cls=Command, epilog=CREATE_EXAMPLES)
@click.option(
    "-a",
    "--application",
    metavar="APP",
    shell_complete=names.applications,
    required=True,
    help="What it runs.",
)
@slots_option
@click.option("-r", "--resreq", callback=as_resources, help="Resources per instance: cpu=1,mem=1g.")
@click.option("-p", "--priority", type=click.IntRange(min=0), default=0, help="Higher goes first.")
@click.option("--min-instances", type=click.IntRange(min=0), help="Kept warm, idle too.")
@click.option("--max-instances", type=click.IntRange(min=1), help="At most so many executors.")
@click.option(
    "--standby",
    type=click.IntRange(min=0),
    metavar="SECONDS",
    help="How long its services stay warm without work while nobody else wants their room.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Executors come in gangs of so many."
)
@click.option("--require", metavar="LABELS", help="Only on nodes with these labels: zone=a.")
@click.option("--prefer", metavar="LABELS", help="Rather on nodes with these: disk=ssd:2,zone=a.")
@click.option("--near", multiple=True, metavar="NODE", help="Rather on this node.")
@click.option(
    "--retry-on-failure", type=click.IntRange(min=1), metavar="N", help="Try a failed task again."
)
@click.option(
    "--retry-on",
    multiple=True,
    metavar="KIND",
    help="Only if it failed of this exception, exit code or status; may be repeated.",
)
@form_option
@connection_options
def create(
    connection: Connection,
    *,
    application: str,
    slots: int | None,
    resreq: Resources | None,
    priority: int,
    form: str,
    **options: Any,
) -> None:
    """Create a session and print its id."""
    resources = instance_resources(slots, resreq)
    given = {name: value for name, value in options.items() if value or value == 0}
    with connection.open() as client:
        session = client.create_session(
            application, resources=resources, priority=priority, **given
        )
        info = session.info()
    if form == TABLE:
        click.echo(info.name)
    else:
        click.echo(document(session_document(info), form))


@click.command(cls=Command, epilog=CLOSE_EXAMPLES)
@_session_option(names.open_sessions)
@click.option("--cancel-running", is_flag=True, help="Also cancel tasks that are running.")
@connection_options
def close(connection: Connection, *, session: str, cancel_running: bool) -> None:
    """Close a session; tasks that are pending are cancelled."""
    with connection.open() as client:
        found = named_session(client, session)
        try:
            found.close(cancel_running=cancel_running)
        except WrongState as error:
            running = 0 if cancel_running else found.info().running
            if not running:
                raise
            tasks = "1 task runs" if running == 1 else f"{running:,} tasks run"
            raise WrongState(f"{error}: {tasks}; --cancel-running ends them, too") from error
    click.echo(f"Session {session} is closed.")


@click.command(cls=Command, epilog=DELETE_EXAMPLES)
@_session_option(names.closed_sessions)
@click.option(
    "--force", is_flag=True, help="If it is open, close it first; what runs is cancelled."
)
@form_option
@connection_options
def delete(connection: Connection, *, session: str, force: bool, form: str) -> None:
    """Forget a closed session with all of its tasks."""
    with connection.open() as client:
        found = named_session(client, session)
        info = found.close(cancel_running=True) if force else found.info()
        try:
            client.delete_session(found.name)
        except WrongState as error:
            raise WrongState(
                f"{error}: flmctl close -s {session}; or --force, which cancels its tasks"
            ) from error
    if form == TABLE:
        click.echo(f"Session {session} is deleted.")
    else:
        click.echo(document(session_document(info), form))
