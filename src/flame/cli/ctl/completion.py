"""``flmctl completion``."""

import click
from click.shell_completion import get_completion_class

from flame.cli.outcomes import Command

PROGRAMS = ("flame", "flmctl", "flmping", "flmexec")

EXAMPLES = """
\b
Examples:
  eval "$(flmctl completion bash)"                          # in ~/.bashrc
  eval "$(flmctl completion zsh)"                           # in ~/.zshrc
  flmctl completion fish > ~/.config/fish/completions/flame.fish
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what a shell needs to complete our commands.

    They are flame, flmctl, flmping and flmexec.
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise click.UsageError(f"no completion for {shell}")
    for program in PROGRAMS:
        variable = f"_{program.upper()}_COMPLETE"
        click.echo(complete(ctx.find_root().command, {}, program, variable).source())
