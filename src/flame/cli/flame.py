"""``flame``: a cluster on this machine, one that is only simulated, and which Flame this is."""

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from flame.cli.outcomes import Group, version_option
from flame.cli.simulate import simulate_command
from flame.cli.up import up

EXAMPLES = """
\b
Examples:
  flame up                      a cluster for everything on this machine
  flame up --executors 4 --storage memory
  flame simulate trace.yaml     how a cluster would share itself; no cluster needed
  flame version
"""


@click.group(cls=Group, epilog=EXAMPLES)
@version_option
def flame() -> None:
    """Flame: elastic sessions of many small tasks."""


@flame.command("version")
def show_version() -> None:
    """Print the version of Flame and of the Python it runs on."""
    try:
        number = version("flame")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"flame {number} (Python {platform.python_version()})")


flame.add_command(up)
flame.add_command(simulate_command)


def main() -> None:
    """Entry point."""
    flame(prog_name="flame")


if __name__ == "__main__":
    main()
