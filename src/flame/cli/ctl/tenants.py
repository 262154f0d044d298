"""``flmctl tenant``: who shares the cluster, and how well each is served."""

from collections.abc import Callable
from typing import Any

import click

from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.documents.tenants import (
    TENANTS,
    tenant_document,
    tenant_properties,
    tenant_row,
)
from flame.cli.outcomes import Group
from flame.cli.tables import document, key_values, table
from flame.cli.tenant_files import read_tenants
from flame.model.tenant_text import FIELDS, read_tenant

EXAMPLES = """
\b
Examples:
  flmctl tenant create research --weight 3 --quota cpu=8,mem=16g
  flmctl tenant create research/credit-risk --limit cpu=4 --max-queued-tasks 100000
  flmctl tenant list                          who gets what it deserves
  flmctl tenant update research --weight 2    the rest stays as it is
  flmctl tenant view research -o yaml | flmctl tenant apply -f -

\b
Tenants that the configuration file lists (cluster.tenants) are changed there.
"""

APPLY_EXAMPLES = """
\b
Example:
  flmctl tenant apply -f tenants.yaml

\b
A file holds one or more of these, separated by `---`, parents first:
  metadata:
    name: research
  spec:
    weight: 3
    quota: cpu=8,mem=16g
    limit: cpu=16
    lends: true
    borrows: true
    max_sessions: 100
    max_queued_tasks: 1000000
    max_queued_bytes: 4g
"""


@click.group("tenant", cls=Group, epilog=EXAMPLES)
def tenant() -> None:
    """Create, change and look at tenants."""


def _specification_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--max-queued-bytes", metavar="SIZE", help="The size of their inputs."),
        click.option("--max-queued-tasks", metavar="N", help="Tasks waiting for an executor."),
        click.option("--max-sessions", metavar="N", help="Open sessions."),
        click.option(
            "--borrows/--no-borrows", default=None, help="It may use more than its quota."
        ),
        click.option(
            "--lends/--no-lends", default=None, help="Others may use its quota while it does not."
        ),
        click.option("--limit", metavar="AMOUNT", help="Never exceeded, as cpu=16; or none."),
        click.option("--quota", metavar="AMOUNT", help="Guaranteed, as cpu=8,mem=16g; or none."),
        click.option("--weight", type=float, help="Its part, relative to its siblings."),
    ):
        command = option(command)
    return command


def _said(options: dict[str, Any]) -> dict[str, Any]:
    return {field: options[field] for field in FIELDS if options[field] is not None}


@tenant.command(epilog="\b\nExample:\n  flmctl tenant create research --weight 3 --quota cpu=8")
@click.argument("name")
@_specification_options
@connection_options
def create(connection: Connection, *, name: str, **options: Any) -> None:
    """Create a tenant; NAME is its path, as in research/credit-risk."""
    spec = read_tenant(name, _said(options))
    with connection.open() as client:
        client.admin.put_tenant(spec, must_be_new=True)
    click.echo(f"Tenant {name} is created.")


@tenant.command(epilog="\b\nExample:\n  flmctl tenant update research --weight 2 --limit none")
@click.argument("name", shell_complete=names.tenants)
@_specification_options
@connection_options
def update(connection: Connection, *, name: str, **options: Any) -> None:
    """Change what is given of a tenant; the rest stays as it is."""
    said = _said(options)
    if not said:
        raise click.UsageError("say what to change, such as --weight 2; see --help")
    with connection.open() as client:
        spec = read_tenant(name, said, client.admin.get_tenant(name).spec)
        client.admin.put_tenant(spec, must_exist=True)
    click.echo(f"Tenant {name} is updated.")


@tenant.command(epilog=APPLY_EXAMPLES)
@click.option("-f", "--file", "path", metavar="FILE", required=True, help="YAML; - for stdin.")
@connection_options
def apply(connection: Connection, *, path: str) -> None:
    """Create or replace the tenants of a file."""
    specs = read_tenants(path)
    with connection.open() as client:
        for spec in specs:
            client.admin.put_tenant(spec)
            click.echo(f"Tenant {spec.name} is as the file says.")


@tenant.command(epilog="\b\nExample:\n  flmctl tenant delete research/credit-risk")
@click.argument("name", shell_complete=names.tenants)
@connection_options
def delete(connection: Connection, *, name: str) -> None:
    """Forget a tenant that nothing uses any more.

    It must have no tenant below it, no open session and no token.
    """
    with connection.open() as client:
        client.admin.delete_tenant(name)
    click.echo(f"Tenant {name} is deleted.")


@tenant.command("list", epilog="\b\nExample:\n  flmctl tenant list -o json")
@form_option
@connection_options
def list_(connection: Connection, *, form: str) -> None:
    """List tenants with what they have, deserve and are waiting for.

    Shares are parts of the cluster. RATIO is got over deserved: 1 is fair.
    """
    with connection.open() as client:
        found = client.admin.list_tenants()
    if form == TABLE:
        click.echo(table(TENANTS, [tenant_row(info) for info in found]))
    else:
        click.echo(document([tenant_document(info) for info in found], form))


@tenant.command(epilog="\b\nExample:\n  flmctl tenant view research")
@click.argument("name", shell_complete=names.tenants)
@form_option
@connection_options
def view(connection: Connection, *, name: str, form: str) -> None:
    """Show a tenant with all that is known of it."""
    with connection.open() as client:
        info = client.admin.get_tenant(name)
    if form == TABLE:
        click.echo(key_values(tenant_properties(info)))
    else:
        click.echo(document(tenant_document(info), form))
