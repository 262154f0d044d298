"""``flmctl token``: who is let in."""

import os
from pathlib import Path

import click

from flame.cli.connection import Connection, connection_options
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.documents.tenants import TOKENS, token_document, token_row
from flame.cli.outcomes import Command, Group
from flame.cli.tables import document, table
from flame.model.errors import InvalidConfiguration

EXAMPLES = """
\b
Examples:
  flmctl token create --for research --note Ada      a user of one tenant
  flmctl token create --for research --for trading -f ada.token
  flmctl token create --operator --note "night shift"
  flmctl token list
  flmctl token revoke 3f2a9c0d41b7e865

\b
A token is shown once, when it is made; of what is kept of it nobody can make it again.
Its holder sets FLAME_TOKEN, or FLAME_TOKEN_FILE, or gives --token-file.
"""


@click.group("token", cls=Group, epilog=EXAMPLES)
def token() -> None:
    """Make, list and revoke tokens."""


@token.command(cls=Command, epilog="\b\nExample:\n  flmctl token create --for research --note Ada")
@click.option(
    "--for", "tenants", metavar="TENANT", multiple=True, help="Whom it acts for; may be repeated."
)
@click.option("--operator", is_flag=True, help="It opens everything, for any tenant.")
@click.option("--note", default="", help="Whose it is.")
@click.option("-f", "--file", "path", metavar="FILE", help="Write it to a new file of yours only.")
@connection_options
def create(
    connection: Connection,
    *,
    tenants: tuple[str, ...],
    operator: bool,
    note: str,
    path: str | None,
) -> None:
    """Make a token and print it, for the only time.

    A user's token opens sessions, tasks and applications of its tenants and of those below them.
    """
    if operator == bool(tenants):
        raise click.UsageError("say whose it is: --for TENANT, or --operator")
    if path is not None and Path(path).exists():
        raise InvalidConfiguration(f"{path} exists; name a new file")
    with connection.open() as client:
        made = client.admin.create_token("operator" if operator else "user", tenants, note=note)
    if path is None:
        click.echo(made.secret)
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(made.secret + "\n")
    click.echo(f"Token {made.info.id} is in {path}.")


@token.command("list", cls=Command, epilog="\b\nExample:\n  flmctl token list -o json")
@form_option
@connection_options
def list_(connection: Connection, *, form: str) -> None:
    """List tokens, without what is secret."""
    with connection.open() as client:
        found = client.admin.list_tokens()
    if form == TABLE:
        click.echo(table(TOKENS, [token_row(info) for info in found]))
    else:
        click.echo(document([token_document(info) for info in found], form))


@token.command(cls=Command, epilog="\b\nExample:\n  flmctl token revoke 3f2a9c0d41b7e865")
@click.argument("id")
@connection_options
def revoke(connection: Connection, *, id: str) -> None:
    """Let a token's holder in no more.

    Clients that are connected with it are cut.
    """
    with connection.open() as client:
        client.admin.revoke_token(id)
    click.echo(f"Token {id} is revoked.")
