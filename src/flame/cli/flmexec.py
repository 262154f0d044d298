"""``flmexec``: run a shell or Python script as tasks.

Each task is the script once more. What the tasks print comes out in their order; those that fail
are named on stderr with what they said.
"""

import json
import sys
from pathlib import Path

import click

import flame
from flame.cli.amounts import as_resources, instance_resources
from flame.cli.connection import Connection, connection_options
from flame.cli.outcomes import Command
from flame.model.errors import FlameError, InvalidRequest, TaskError
from flame.model.resources import Resources

EXAMPLES = """
\b
Examples:
  flmexec -t 3 -c 'hostname'
  flmexec -l python -t 4 -c 'import os; print(os.getpid())'
  flmexec -t 1 -c 'wc -c' -i 'some text'
  flmexec -l python -c @analyse.py -i @table.csv
  flmexec -r bash -c 'echo ${RANDOM}'
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "-t",
    "--tasks",
    "--task-num",
    "tasks",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How often to run the script.",
)
@click.option(
    "-c", "--code", required=True, metavar="TEXT", help="The script; @FILE reads it, @- from stdin."
)
@click.option(
    "-l",
    "--language",
    type=click.Choice(["shell", "python"]),
    default="shell",
    show_default=True,
)
@click.option(
    "-r", "--runtime", metavar="PROGRAM", help="What runs the script, such as bash or python3.12."
)
@click.option(
    "-i", "--input", "stdin", metavar="TEXT", help="Given to each task on its stdin; @FILE, @-."
)
@click.option("-s", "--slots", type=click.IntRange(min=1), help="Unit executors per instance.")
@click.option("--resreq", callback=as_resources, help="Resources per instance: cpu=1,mem=1g.")
@click.option("-P", "--priority", type=click.IntRange(min=0), default=0, help="Higher goes first.")
@click.option(
    "--executors",
    type=click.IntRange(min=1),
    metavar="N",
    help="Start a cluster with N executors for this run instead of using a running one.",
)
@connection_options
@click.pass_context
def flmexec(
    ctx: click.Context,
    connection: Connection,
    *,
    tasks: int,
    code: str,
    language: str,
    runtime: str | None,
    stdin: str | None,
    slots: int | None,
    resreq: Resources | None,
    priority: int,
    executors: int | None,
) -> None:
    """Run a shell or Python script as tasks and print what they print, in order."""
    resources = instance_resources(slots, resreq)
    if code == "@-" and stdin == "@-":
        raise click.UsageError("only one of --code and --input can come from stdin")
    request = script_request(language, runtime, text_or_file(code), stdin and text_or_file(stdin))
    with connection.open(executors=executors) as client:
        session = client.create_session("flmexec", resources=resources, priority=priority)
        with session:
            failed = print_outputs([session.run(request) for _ in range(tasks)])
    if failed:
        click.echo(f"Error: {failed:,} of {tasks:,} tasks failed", err=True)
        ctx.exit(1)


def text_or_file(text: str) -> str:
    """The text itself, or what ``@FILE`` (``@-``: stdin) holds.

    Raises:
        InvalidRequest: The file cannot be read as text.
    """
    if not text.startswith("@"):
        return text
    name = text[1:]
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidRequest(f"cannot read {name}: {reason}") from error


def script_request(language: str, runtime: str | None, code: str, stdin: str | None) -> bytes:
    """The input of a task of the application ``flmexec``; bytes travel as lists of numbers."""
    request: dict[str, object] = {"language": language, "code": code}
    if runtime is not None:
        request["runtime"] = runtime
    if stdin is not None:
        request["input"] = list(stdin.encode())
    return json.dumps(request).encode()


def script_output(reply: bytes | None) -> bytes:
    """What the script printed.

    Raises:
        FlameError: The reply is not one of the application ``flmexec``.
    """
    try:
        return bytes(json.loads(reply or b"{}").get("data") or ())
    except (ValueError, TypeError, AttributeError) as error:
        raise FlameError(
            f"the service answered {reply!r:.80}, which is no script's output"
        ) from error


def print_outputs(futures: list[flame.Future]) -> int:
    """Print each output when all before it are printed; returns how many tasks failed."""
    failed = 0
    stdout = sys.stdout.buffer
    for position, future in enumerate(futures, start=1):
        try:
            output = script_output(future.result())
        except TaskError as error:
            failed += 1
            click.echo(f"task {error.task or position} failed: {error}", err=True)
            continue
        stdout.write(output)
        stdout.flush()
    return failed


def main() -> None:
    """Entry point."""
    flmexec(prog_name="flmexec")


if __name__ == "__main__":
    main()
