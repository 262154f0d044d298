"""``flmctl view``."""

import click

from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.ctl.sessions import named_session
from flame.cli.documents import applications, nodes, sessions
from flame.cli.outcomes import Command
from flame.cli.tables import document, key_values
from flame.model.ids import parse_task_id

EXAMPLES = """
\b
Examples:
  flmctl view -a flmping            an application
  flmctl view -s 4                  a session, by number or id
  flmctl view -s 4 -t 17            one of its tasks, with input, output and events
  flmctl view -n node-1 -o json     a node
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "-a", "--application", metavar="APP", shell_complete=names.applications, help="An application."
)
@click.option(
    "-s",
    "--session",
    metavar="SSN",
    shell_complete=names.sessions,
    help="A session: its id, or its number.",
)
@click.option("-t", "--task", metavar="TASK", help="A task of that session.")
@click.option("-n", "--node", metavar="NODE", shell_complete=names.nodes, help="A node.")
@form_option
@connection_options
def view(
    connection: Connection,
    *,
    application: str | None,
    session: str | None,
    task: str | None,
    node: str | None,
    form: str,
) -> None:
    """Show one application, session, task or node in full."""
    if sum(name is not None for name in (application, session, node)) != 1:
        raise click.UsageError("say what to view: one of --application, --session, --node")
    if task is not None and session is None:
        raise click.UsageError("--task needs --session: tasks are numbered within their session")
    task_id = None if task is None else parse_task_id(task)
    properties: list[tuple[str, object]]
    with connection.open() as client:
        if application is not None:
            found = client.get_application(application)
            properties = applications.application_properties(found)
            shown = applications.application_document(found)
        elif node is not None:
            machine = client.get_node(node)
            properties = nodes.node_properties(machine)
            shown = nodes.node_document(machine)
        elif task_id is None:
            info = named_session(client, session or "").info()
            properties = sessions.session_properties(info)
            shown = sessions.session_document(info)
        else:
            one = named_session(client, session or "").get_task(task_id)
            properties = sessions.task_properties(one)
            shown = sessions.task_document(one)
    click.echo(key_values(properties) if form == TABLE else document(shown, form))
