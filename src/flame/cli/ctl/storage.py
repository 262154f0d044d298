"""``flmctl migrate`` and ``flmctl backup``: the stored data itself, with or without a cluster."""

from pathlib import Path

import click

from flame.cli.outcomes import Command

MIGRATE_EXAMPLES = """
\b
Examples:
  flmctl migrate -u sqlite:////var/lib/flame/flame.db
  flmctl migrate -u postgresql://flame@db.example.com/flame

A session manager migrates by itself when it starts; stop it before you migrate by hand.
"""

BACKUP_EXAMPLES = """
\b
Example:
  flmctl backup -u sqlite:////var/lib/flame/flame.db -f flame-2026-11-23.db

To restore it, stop the session manager and start it with `--storage sqlite:///...` of the copy.
Where the copy takes the place of the damaged file, remove that file's -wal, -shm and .tail first.
"""

url_option = click.option(
    "-u", "--url", metavar="URL", required=True, help="What the session manager's --storage says."
)


@click.command(cls=Command, epilog=MIGRATE_EXAMPLES)
@url_option
def migrate(*, url: str) -> None:
    """Bring stored data to the form of this version.

    There is no way back.
    """
    from flame.storage.migrate import migrate as migrate_store  # no other command needs a database

    before, after = migrate_store(url)
    if before == after:
        click.echo(f"The schema is at version {after} already.")
    else:
        click.echo(f"The schema went from version {before} to version {after}.")


@click.command(cls=Command, epilog=BACKUP_EXAMPLES)
@url_option
@click.option("-f", "--file", "path", metavar="FILE", required=True, help="The copy; a new file.")
def backup(*, url: str, path: str) -> None:
    """Copy the database beside the session manager that uses it."""
    from flame.storage.backup import backup as back_up_store  # no other command needs a database

    size = back_up_store(url, Path(path))
    click.echo(f"{path} holds the database as it was a moment ago ({size:,} bytes).")
