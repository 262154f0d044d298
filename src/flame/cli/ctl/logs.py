"""``flmctl logs``: what tasks wrote to their standard output and standard error."""

import sys
from collections.abc import Iterable
from typing import BinaryIO

import click

import flame
from flame.cli.connection import Connection, connection_options
from flame.cli.ctl import names
from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.ctl.sessions import named_session
from flame.cli.documents.values import Document
from flame.cli.outcomes import Command
from flame.cli.tables import document
from flame.model.ids import parse_task_id
from flame.model.logs import KEPT_LOG_BYTES

EXAMPLES = """
\b
Examples:
  flmctl logs -s 4 -t 17             what task 17 wrote: its stdout here on stdout, its stderr on stderr
  flmctl logs -s 4 -t 17 -f          while it runs, until it has finished
  flmctl logs -s 4                   what all tasks wrote, their ids before each line
  flmctl logs -s 4 -f                as they finish, until the session is closed
  flmctl logs -s 4 -o json           for a program
  flmctl logs -e EXECUTOR            all that an executor wrote (flmctl list -e); -f: until it ends
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "-s", "--session", metavar="SSN", shell_complete=names.sessions, help="Its id, or its number."
)
@click.option("-t", "--task", metavar="TASK", help="One task of it; otherwise all that wrote.")
@click.option(
    "-e",
    "--executor",
    metavar="ID",
    shell_complete=names.executors,
    help="An executor's files, in place of tasks.",
)
@click.option("-f", "--follow", is_flag=True, help="Show what is written from now on, too.")
@form_option
@connection_options
def logs(
    connection: Connection,
    *,
    session: str | None,
    task: str | None,
    executor: str | None,
    follow: bool,
    form: str,
) -> None:
    """Show what tasks, or an executor, wrote.

    Of a task that wrote much the beginning and the end are kept.
    """
    if (session is None) == (executor is None):
        raise click.UsageError("either --session or --executor is needed")
    if executor is not None:
        if task is not None or form != TABLE:
            raise click.UsageError("--executor goes with neither --task nor -o")
        with connection.open() as client:
            _show_pieces(client.admin.executor_logs(executor, follow=follow))
        return
    task_id = None if task is None else parse_task_id(task)
    if follow and task_id is None and form != TABLE:
        raise click.UsageError(
            f"-o {form} is one document, which --follow without --task never ends"
        )
    with connection.open() as client:
        found = named_session(client, str(session))
        if task_id is not None:
            _show_task(found, task_id, follow, form)
        elif follow:
            for result in found.results(follow=True):
                _show_prefixed(result.task_id, found.logs(result.task_id))
        elif form == TABLE:
            for log in found.list_logs():
                _show_prefixed(log.task_id, flame.Logs(log.stdout, log.stderr))
        else:
            shown = [
                _document(log.task_id, flame.Logs(log.stdout, log.stderr))
                for log in found.list_logs()
            ]
            click.echo(document(shown, form))
        if task_id is None and found.has_dropped_logs():
            click.echo(
                f"The session's tasks wrote more than {KEPT_LOG_BYTES >> 20} MiB; the oldest is gone.",
                err=True,
            )


def _show_pieces(pieces: Iterable[flame.Logs]) -> None:
    for piece in pieces:
        for stream, data in (sys.stdout.buffer, piece.stdout), (sys.stderr.buffer, piece.stderr):
            stream.write(data)
            stream.flush()


def _show_task(session: flame.Session, task_id: int, follow: bool, form: str) -> None:
    if follow and form == TABLE:
        _show_pieces(session.follow_logs(task_id))
        return
    if follow:
        for _ in session.watch_task(task_id):
            pass
    written = session.logs(task_id)
    if form != TABLE:
        click.echo(document(_document(task_id, written), form))
        return
    sys.stdout.buffer.write(written.stdout)
    sys.stderr.buffer.write(written.stderr)


def _show_prefixed(task_id: int, written: flame.Logs) -> None:
    streams: Iterable[tuple[BinaryIO, bytes]] = (
        (sys.stdout.buffer, written.stdout),
        (sys.stderr.buffer, written.stderr),
    )
    for stream, data in streams:
        for line in data.splitlines():
            stream.write(b"%d: %b\n" % (task_id, line))
        stream.flush()


def _document(task_id: int, written: flame.Logs) -> Document:
    return {
        "task": task_id,
        "stdout": written.stdout.decode("utf-8", "replace"),
        "stderr": written.stderr.decode("utf-8", "replace"),
    }
