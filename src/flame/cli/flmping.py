"""``flmping``: is the cluster alive, and how fast is it?

Creates a session on the application ``flmping``, runs tasks whose payloads all differ, and checks
that every output is its own input.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

import flame
from flame.cli.amounts import as_bytes, as_resources, instance_resources, slots_option
from flame.cli.connection import Connection, connection_options, executors_option
from flame.cli.outcomes import Command, end_with, version_option
from flame.cli.progress import Progress
from flame.cli.tables import document, key_values
from flame.model.errors import InvalidRequest, TaskError
from flame.model.resources import Resources

MISMATCHES_SHOWN = 5

EXAMPLES = """
\b
Examples:
  flmping -t 10000                     ten thousand tasks of 16 bytes
  flmping -t 100000 --size 1k --perf   throughput with 1 KiB in and out
  flmping -t 100 -d 50                 tasks that take 50 ms each
  flmping --executors 2                no cluster needed: start one for this run
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to. ``seconds`` is from the first submit to the last checked result."""

    session: int
    created_seconds: float
    seconds: float
    tasks: int
    succeeded: int
    failed: int
    mismatched: int
    complaints: tuple[str, ...]

    @property
    def throughput(self) -> float:
        """Tasks per second."""
        return self.tasks / self.seconds if self.seconds else 0.0

    @property
    def is_good(self) -> bool:
        """Every task succeeded with the right output."""
        return self.succeeded == self.tasks and not self.mismatched


class Payloads:
    """The i-th payload, made when it is asked for, so that a million of them take no memory.

    Distinct while ``size`` has room for the number of tasks: the number itself, then a text.
    """

    _TAIL = b"flmping "

    def __init__(self, size: int) -> None:
        self._size = size
        self._tail = (self._TAIL * (size // len(self._TAIL) + 1))[: max(0, size - 8)]

    def __call__(self, index: int) -> bytes:
        return index.to_bytes(8, "little")[: self._size] + self._tail


@click.command(cls=Command, epilog=EXAMPLES)
@click.option(
    "-t",
    "--tasks",
    "--task-num",
    "tasks",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Tasks to run.",
)
@click.option(
    "--size", callback=as_bytes, default="16", show_default=True, help="Bytes of a payload."
)
@click.option(
    "-d",
    "--duration",
    type=click.IntRange(min=0),
    metavar="MS",
    help="Milliseconds that each task takes.",
)
@click.option("-m", "--memory", callback=as_bytes, help="Memory that each task takes, such as 64m.")
@slots_option
@click.option(
    "-r", "--resreq", callback=as_resources, help="Resources per instance, such as cpu=1,mem=1g."
)
@click.option(
    "-P",
    "--priority",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Higher goes first.",
)
@click.option("-c", "--common-data", metavar="JSON", help="A JSON object for the service.")
@click.option(
    "--durability",
    type=click.Choice(["durable", "sync", "memory"]),
    default="durable",
    show_default=True,
    help="What an acknowledged task survives.",
)
@click.option("-p", "--perf", is_flag=True, help="Print duration, counts and throughput.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "yaml"]),
    default="text",
    show_default=True,
)
@executors_option
@version_option
@connection_options
@click.pass_context
def flmping(
    ctx: click.Context,
    connection: Connection,
    *,
    tasks: int,
    size: int,
    perf: bool,
    form: str,
    executors: int | None,
    slots: int | None,
    resreq: Resources | None,
    duration: int | None,
    memory: int | None,
    common_data: str | None,
    priority: int,
    durability: str,
) -> None:
    """Run tasks that answer with their own input, and check every answer."""
    session_options: dict[str, Any] = {
        "resources": instance_resources(slots, resreq),
        "common_data": service_settings(common_data, duration, memory),
        "priority": priority,
        "durability": durability,
    }
    with connection.open(executors=executors) as client:
        report = ping(client, tasks, size, session_options, quiet=form != "text")
    if form != "text":
        click.echo(document(_document(report), form))
    else:
        _print_end(report, perf=perf)
    for complaint in report.complaints:
        click.echo(f"Error: {complaint}", err=True)
    if not report.is_good:
        ctx.exit(1)


def service_settings(
    common_data: str | None, duration: int | None, memory: int | None
) -> bytes | None:
    """What the ping service reads at the start of a session: a JSON object, or nothing.

    Raises:
        InvalidRequest: The user's text is no JSON object, so every binding would fail later.
    """
    if common_data is None and duration is None and memory is None:
        return None
    try:
        settings = json.loads(common_data or "{}")
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise InvalidRequest(
            f"--common-data is {common_data!r}; the ping service reads a JSON object, "
            'such as {"duration_ms": 10, "memory": 1048576}'
        )
    given = {"duration_ms": duration, "memory": memory}
    settings |= {key: value for key, value in given.items() if value is not None}
    return json.dumps(settings).encode()


def ping(
    client: flame.Client,
    tasks: int,
    size: int,
    session_options: dict[str, Any],
    *,
    quiet: bool = False,
) -> Report:
    """Create a session, run the tasks in it, close it. Ctrl-C closes it too."""
    begin = time.perf_counter()
    session = client.create_session("flmping", **session_options)
    created = time.perf_counter() - begin
    number = session.number
    try:
        with session:
            if not quiet:
                click.echo(
                    f"Session <{number}> was created in <{created * 1000:,.0f} ms>, "
                    f"start to run <{tasks:,}> tasks in the session:\n"
                )
            return _run(session, number, created, tasks, Payloads(size), quiet=quiet)
    except KeyboardInterrupt:
        state = "closed" if session.is_closed else "left open"
        click.echo(f"\nInterrupted: session <{number}> is {state}.", err=True)
        raise


def _run(
    session: flame.Session,
    number: int,
    created: float,
    tasks: int,
    payload: Payloads,
    *,
    quiet: bool,
) -> Report:
    succeeded = failed = mismatched = 0
    complaints: list[str] = []
    begin = time.perf_counter()
    futures = [session.run(payload(index)) for index in range(tasks)]
    for index, future in enumerate(Progress(tasks, quiet=quiet).follow(_take(futures))):
        try:
            output = future.result()
        except TaskError as error:
            failed += 1
            complaint = f"task {error.task or index + 1} failed: {error}"
        else:
            succeeded += 1
            if output == payload(index):
                continue
            mismatched += 1
            complaint = f"task {future.task_id} answered {output!r:.80}, not {payload(index)!r:.80}"
        if len(complaints) < MISMATCHES_SHOWN:
            complaints.append(complaint)
    seconds = time.perf_counter() - begin
    if failed + mismatched > len(complaints):
        complaints.append(f"... and {failed + mismatched - len(complaints):,} more like these")
    return Report(number, created, seconds, tasks, succeeded, failed, mismatched, tuple(complaints))


def _take(futures: list[flame.Future]) -> Iterator[flame.Future]:
    """Yield the futures in order and let go of each, so that its output can be freed."""
    futures.reverse()
    while futures:
        yield futures.pop()


def _print_end(report: Report, *, perf: bool) -> None:
    click.echo(f"\n<{report.tasks:,}> tasks was completed in <{report.seconds * 1000:,.0f} ms>.")
    if perf:
        click.echo()
        click.echo(
            key_values(
                [
                    ("Duration", f"{report.seconds:.3f} s"),
                    ("Succeeded", f"{report.succeeded:,}"),
                    ("Failed", f"{report.failed:,}"),
                    ("Throughput", f"{report.throughput:,.0f} tasks/s"),
                ]
            )
        )


def _document(report: Report) -> dict[str, object]:
    return {
        "session": report.session,
        "created_ms": round(report.created_seconds * 1000, 3),
        "duration_ms": round(report.seconds * 1000, 3),
        "tasks": report.tasks,
        "succeeded": report.succeeded,
        "failed": report.failed,
        "mismatched": report.mismatched,
        "throughput": round(report.throughput, 1),
    }


def main() -> None:
    """Entry point."""
    end_with(lambda: flmping(prog_name="flmping"))


if __name__ == "__main__":
    main()
