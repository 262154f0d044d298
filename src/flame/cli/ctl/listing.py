"""``flmctl list``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

import flame
from flame.cli.connection import Connection, connection_options
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.documents import applications, nodes, sessions
from flame.cli.documents.values import Document
from flame.cli.outcomes import Command
from flame.cli.tables import document, table
from flame.sdk.views import SessionInfo

EXAMPLES = """
\b
Examples:
  flmctl list                sessions by number, open ones first
  flmctl list -s             sessions by id, with resources and priority
  flmctl list --all-tenants  sessions of every tenant that the token is for
  flmctl list -a -o yaml     applications, as `flmctl register -f` reads them
  flmctl list -m             session managers, and which of them leads
"""


@dataclass(frozen=True, slots=True)
class Listing:
    """How one kind of thing is fetched and shown."""

    fetch: Callable[[flame.Client], Iterable[Any]]
    columns: Mapping[str, int]
    row: Callable[[Any], Sequence[object]]
    document: Callable[[Any], Document]

    def of_all_tenants(self) -> "Listing":
        """The same sessions' columns, with the tenant as the second, for the sessions of them all."""
        (first, width), *others = self.columns.items()

        def row(info: SessionInfo) -> list[object]:
            head, *rest = self.row(info)
            return [head, info.tenant, *rest]

        return replace(
            self,
            fetch=lambda client: sessions.open_first(client.list_sessions(all_tenants=True)),
            columns={first: width, "Tenant": 15, **dict(others)},
            row=row,
        )


LISTINGS = {
    "": Listing(
        lambda client: sessions.open_first(client.list_sessions()),
        sessions.SESSIONS,
        sessions.session_row,
        sessions.session_document,
    ),
    "sessions": Listing(
        lambda client: sessions.open_first(client.list_sessions()),
        sessions.SESSIONS_IN_FULL,
        sessions.session_row_in_full,
        sessions.session_document,
    ),
    "applications": Listing(
        lambda client: sorted(client.list_applications(), key=lambda item: item.name),
        applications.APPLICATIONS,
        applications.application_row,
        applications.application_document,
    ),
    "executors": Listing(
        lambda client: sorted(client.list_executors(), key=lambda item: (item.node, item.id)),
        nodes.EXECUTORS,
        nodes.executor_row,
        nodes.executor_document,
    ),
    "nodes": Listing(
        lambda client: sorted(client.list_nodes(), key=lambda item: item.name),
        nodes.NODES,
        nodes.node_row,
        nodes.node_document,
    ),
}

#: Asked for themselves: none of them may lead.
MANAGERS = Listing(lambda _client: (), nodes.MANAGERS, nodes.manager_row, nodes.manager_document)


@click.command("list", cls=Command, epilog=EXAMPLES)
@click.option("-s", "--sessions", is_flag=True, help="Sessions, with resources and priority.")
@click.option("-a", "--applications", is_flag=True, help="Applications.")
@click.option("-e", "--executors", is_flag=True, help="Executors.")
@click.option("-n", "--nodes", is_flag=True, help="Nodes.")
@click.option(
    "-m",
    "--managers",
    is_flag=True,
    help="The session managers of --endpoint, and which one leads.",
)
@click.option(
    "--all-tenants",
    is_flag=True,
    help="Sessions of every tenant that the token is for; an operator's is for all.",
)
@form_option
@connection_options
def list_(connection: Connection, *, form: str, all_tenants: bool, **flags: bool) -> None:
    """List sessions, applications, executors, nodes or managers."""
    chosen = [name for name, given in flags.items() if given]
    if len(chosen) > 1:
        raise click.UsageError(f"one list at a time, not {' and '.join(chosen)}")
    if all_tenants and chosen not in ([], ["sessions"]):
        raise click.UsageError(f"--all-tenants is for sessions, not for {chosen[0]}")
    if chosen == ["managers"]:
        listing, items = MANAGERS, connection.list_managers()
    else:
        listing = LISTINGS[chosen[0] if chosen else ""]
        if all_tenants:
            listing = listing.of_all_tenants()
        with connection.open() as client:
            items = list(listing.fetch(client))
    if form == TABLE:
        click.echo(table(listing.columns, [listing.row(item) for item in items]))
    else:
        click.echo(document([listing.document(item) for item in items], form))
