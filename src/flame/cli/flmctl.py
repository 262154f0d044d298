"""``flmctl``: look at a cluster's sessions, applications, executors and nodes, and change them."""

import click

from flame.cli.ctl.applications import register, unregister, update
from flame.cli.ctl.completion import completion
from flame.cli.ctl.deploy import deploy
from flame.cli.ctl.listing import list_
from flame.cli.ctl.logs import logs
from flame.cli.ctl.nodes import cordon, drain, uncordon
from flame.cli.ctl.sessions import close, create, delete
from flame.cli.ctl.storage import backup, migrate
from flame.cli.ctl.tenants import tenant
from flame.cli.ctl.tokens import token
from flame.cli.ctl.view import view
from flame.cli.outcomes import Group, end_with, version_option

EXAMPLES = """
\b
Examples:
  flmctl list                        sessions, open ones first
  flmctl list -e -o json             executors, for a program
  flmctl view -s flmping-x1y2z3      one session
  flmctl logs -s flmping-x1y2z3 -t 1 what its first task wrote
  flmctl register -f pi.yaml         what may be run
  flmctl deploy examples/packages/words   from a directory to an application
  flmctl create -a pi -s 2           a session of two-slot instances
  flmctl tenant list                 who gets what it deserves
  flmctl token create --for research a token for a user of that tenant
  flmctl drain node-1                move its work elsewhere
  flmctl backup -u sqlite:///flame.db -f copy.db
  eval "$(flmctl completion bash)"   completion for this shell
"""


@click.group(cls=Group, epilog=EXAMPLES)
@version_option
def flmctl() -> None:
    """Look at a Flame cluster and change it."""


for command in (
    list_,
    view,
    logs,
    create,
    close,
    delete,
    register,
    unregister,
    update,
    deploy,
    tenant,
    token,
    cordon,
    uncordon,
    drain,
    migrate,
    backup,
    completion,
):
    flmctl.add_command(command)


def main() -> None:
    """Entry point."""
    end_with(lambda: flmctl(prog_name="flmctl"))


if __name__ == "__main__":
    main()
