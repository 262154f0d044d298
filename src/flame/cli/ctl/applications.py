"""``flmctl register``, ``flmctl unregister`` and ``flmctl update``."""

import click

from flame.cli.application_files import read_applications
from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.outcomes import Command

REGISTER_EXAMPLES = """
\b
Examples:
  flmctl register -f pi.yaml
  flmctl view -a pi -o yaml | sed s/pi/pi2/ | flmctl register -f -

\b
A file holds one or more of these, separated by `---`:
  metadata:
    name: pi
  spec:
    shim: Host                    # or Python, with entry_point: package.module:Service
    command: /opt/pi/service
    arguments: [--quiet]
    environments: {SEED: "1"}
"""


@click.command(cls=Command, epilog=REGISTER_EXAMPLES)
@click.option("-f", "--file", "path", metavar="FILE", required=True, help="YAML; - for stdin.")
@connection_options
def register(connection: Connection, *, path: str) -> None:
    """Register the applications of a file."""
    applications = read_applications(path)
    with connection.open() as client:
        for name, spec in applications:
            client.register_application(name, spec)
            click.echo(f"Application {name} is registered.")


@click.command(cls=Command, epilog="\b\nExample:\n  flmctl update -f pi.yaml")
@click.option(
    "-f",
    "--file",
    "-a",
    "--application",
    "path",
    metavar="FILE",
    required=True,
    help="YAML; - for stdin.",
)
@connection_options
def update(connection: Connection, *, path: str) -> None:
    """Replace the applications of a file.

    Open sessions keep the specification that they were opened with.
    """
    applications = read_applications(path)
    with connection.open() as client:
        for name, spec in applications:
            client.update_application(name, spec)
            click.echo(f"Application {name} is updated.")


@click.command(cls=Command, epilog="\b\nExample:\n  flmctl unregister -a pi")
@click.option(
    "-a",
    "--application",
    metavar="APP",
    shell_complete=names.applications,
    required=True,
    help="Its name.",
)
@connection_options
def unregister(connection: Connection, *, application: str) -> None:
    """Forget an application; it must have no open session."""
    with connection.open() as client:
        client.unregister_application(application)
    click.echo(f"Application {application} is unregistered.")
