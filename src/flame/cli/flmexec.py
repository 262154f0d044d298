"""``flmexec``: run a shell or Python script as tasks, as often as said or once for each item.

What the tasks print comes out in their order, as soon as it can; those that fail are named on stderr
with what they said.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import flame
from flame.cli.amounts import as_resources, instance_resources, slots_option
from flame.cli.connection import Connection, connection_options, executors_option
from flame.cli.follow import Follow, Submitted
from flame.cli.items import fill, has_places, numbered, read_items, with_place
from flame.cli.outcomes import Command, end_with, version_option
from flame.cli.progress import StderrBar
from flame.model.errors import FlameError, InvalidRequest, TaskCancelled, TaskError
from flame.model.resources import Resources

DEFAULT_TASKS = 10

EXAMPLES = """
\b
Examples:
  flmexec -t 3 -c 'hostname'
  flmexec -c 'gzip -9' $PWD/*.log               one task for each file
  ls $PWD/*.wav | flmexec -c 'lame {} {.}.mp3'  one task for each line
  flmexec --tag --halt 1 -c "$PWD/check" -a hosts.txt
  flmexec -l python -t 4 -c 'import os; print(os.getpid())'
  flmexec -l python -c @analyse.py -a tables.txt -o json
  flmexec -t 1 -c 'wc -c' -i 'some text'

\b
In a shell script, for the item ./a/b.wav of the third task:
  {} ./a/b.wav   {.} ./a/b   {/} b.wav   {//} ./a   {/.} b   {#} 3   $1 ./a/b.wav
A command of one line that has none of these gets the item at its end.
Lines of stdin are items if the script has one of these, or with -a -.
A Python script finds it in sys.argv[1]. Scripts run on a node, in a directory
of their own: name files by their whole paths.

The exit code is 1 if a task failed.
"""


class Halted(FlameError):
    """So many tasks failed that the others were cancelled."""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("items", nargs=-1)
@click.option(
    "-c", "--code", required=True, metavar="TEXT", help="The script; @FILE reads it, @- from stdin."
)
@click.option(
    "-t",
    "--tasks",
    "--task-num",
    "tasks",
    type=click.IntRange(min=0),
    help=f"How often to run the script, if there are no items.  [default: {DEFAULT_TASKS}]",
)
@click.option(
    "-a", "--args", "file", metavar="FILE", help="A file with an item in each line; - is stdin."
)
@click.option("-0", "--null", is_flag=True, help="The items of the file end with NUL.")
@click.option(
    "-l",
    "--language",
    type=click.Choice(["shell", "python"]),
    default="shell",
    show_default=True,
    help="What the script is written in.",
)
@click.option(
    "-r", "--runtime", metavar="PROGRAM", help="What runs the script, such as bash or python3.12."
)
@click.option(
    "-i", "--input", "stdin", metavar="TEXT", help="Given to each task on its stdin; @FILE, @-."
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="At most so many at a time.")
@click.option("--unordered", is_flag=True, help="Print what tasks print as they finish.")
@click.option("--tag", is_flag=True, help="Begin each line with the item (the task) it is of.")
@click.option(
    "--halt", type=click.IntRange(min=1), metavar="N", help="Cancel the rest when N have failed."
)
@click.option(
    "--retries", type=click.IntRange(min=0), default=0, help="Try a failed task so often again."
)
@click.option("--timeout", type=click.FloatRange(min=0.001), help="Seconds that a task may run.")
@click.option("--dry-run", is_flag=True, help="Print the scripts instead of running them.")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="json: an object for each task, one a line.",
)
@slots_option
@click.option("--resreq", callback=as_resources, help="Resources per instance: cpu=1,mem=1g.")
@click.option("-P", "--priority", type=click.IntRange(min=0), default=0, help="Higher goes first.")
@executors_option
@version_option
@connection_options
@click.pass_context
def flmexec(
    ctx: click.Context,
    connection: Connection,
    *,
    items: tuple[str, ...],
    code: str,
    tasks: int | None,
    file: str | None,
    null: bool,
    language: str,
    runtime: str | None,
    stdin: str | None,
    jobs: int | None,
    unordered: bool,
    tag: bool,
    halt: int | None,
    retries: int,
    timeout: float | None,
    dry_run: bool,
    form: str,
    slots: int | None,
    resreq: Resources | None,
    priority: int,
    executors: int | None,
) -> None:
    """Run a shell or Python script as tasks and print what they print, in order.

    There is a task for each of the ITEMS, or for each line of a file or (if the script says {}) of
    stdin; or else the script runs as often as --tasks says.
    """
    resources = instance_resources(slots, resreq)
    unsaid = file is None and not items and tasks is None
    if unsaid and language == "shell" and "@-" not in (code, stdin) and has_places(code):
        file = None if sys.stdin.isatty() else "-"
    if (tasks is not None) + (file is not None) + bool(items) > 1:
        raise click.UsageError("say one of --tasks, --args and ITEMS")
    if (code == "@-") + (stdin == "@-") + (file == "-") > 1:
        raise click.UsageError("only one of --code, --input and --args can come from stdin")
    script = Script(language, runtime, text_or_file(code), stdin and text_or_file(stdin))
    inputs: Iterator[tuple[str | None, Script]]
    if file is None and not items:
        total: int | None = DEFAULT_TASKS if tasks is None else tasks
        inputs = script.times(total or 0)
    else:
        total = len(items) if file is None else None
        inputs = script.of_items(iter(items) if file is None else read_items(file, null=null))
    if dry_run:
        for _, each in inputs:
            click.echo(each.code)
        return
    show = Show(as_json=form == "json", tag=tag, halt=halt, bar=StderrBar(total))
    with connection.open(executors=executors) as client:
        session = client.create_session(
            "flmexec",
            resources=resources,
            priority=priority,
            max_instances=jobs,
            retry_on_failure=retries,
            task_timeout=timeout,
        )
        requests = ((item, each.request()) for item, each in inputs)
        follow = Follow(
            session, requests, ordered=not unordered, finished=show.bar.advance_if_shown()
        )
        try:
            with session, show.bar:
                for task in follow:
                    show.task(task)
        except Halted:
            pass  # the session has cancelled the others
        finally:
            follow.stop()
    if show.failed:
        click.echo(f"Error: {show.sentence()}", err=True)
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


class Script:
    """What a task runs, and how: the input of a task of the application ``flmexec``."""

    def __init__(
        self,
        language: str,
        runtime: str | None,
        code: str,
        stdin: str | None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.language = language
        self.runtime = runtime
        self.code = code
        self.stdin = stdin
        self.arguments = arguments

    def of_items(self, items: Iterator[str]) -> "Iterator[tuple[str, Script]]":
        """Yield each item with the script for it."""
        code = with_place(self.code) if self.language == "shell" else self.code
        for number, item in enumerate(items, start=1):
            filled = fill(code, item, number) if self.language == "shell" else code
            yield item, Script(self.language, self.runtime, filled, self.stdin, (item,))

    def times(self, count: int) -> "Iterator[tuple[None, Script]]":
        """Yield it so many times, with the task's number in its place."""
        for number in range(1, count + 1):
            code = numbered(self.code, number) if self.language == "shell" else self.code
            yield None, Script(self.language, self.runtime, code, self.stdin)

    def request(self) -> bytes:
        """The task's input."""
        request: dict[str, object] = {"language": self.language, "code": self.code}
        if self.runtime is not None:
            request["runtime"] = self.runtime
        if self.stdin is not None:
            request["input"] = self.stdin
        if self.arguments:
            request["arguments"] = self.arguments
        return json.dumps({**request, "reply": "streams"}).encode()


def streams(reply: bytes | None) -> tuple[bytes, bytes]:
    """What a script printed, on stdout and on stderr.

    Raises:
        FlameError: The reply is not one of the application ``flmexec``.
    """
    head, line, rest = (reply or b"").partition(b"\n")
    if not (line and head.isdigit() and int(head) <= len(rest)):
        raise FlameError(f"the service answered {reply!r:.80}, which is no script's output")
    return rest[: int(head)], rest[int(head) :]


class Show:
    """Prints what became of each task, and counts.

    Attributes:
        failed: How many tasks did not succeed.
    """

    def __init__(self, *, as_json: bool, tag: bool, halt: int | None, bar: StderrBar) -> None:
        self.bar = bar
        self.failed = 0
        self._total = 0
        self._as_json = as_json
        self._tag = tag
        self._halt = halt

    def task(self, task: Submitted) -> None:
        """Wait for a task and print it.

        Raises:
            Halted: As many failed as may.
        """
        self._total += 1
        error, stdout, stderr = None, b"", b""
        try:
            stdout, stderr = streams(self._result(task.future))
        except TaskError as failure:
            self.failed += 1
            error = failure
        if self._as_json:
            self._write(self._line(task, stdout, stderr, error))
        else:
            self._print(task, stdout, stderr, error)
        if error is not None and self.failed == self._halt:
            raise Halted

    def sentence(self) -> str:
        """Say how many failed."""
        if self._halt is not None and self.failed >= self._halt:
            return (
                f"{self.failed:,} of the first {self._total:,} tasks failed; the rest was cancelled"
            )
        return f"{self.failed:,} of {self._total:,} tasks failed"

    def _result(self, future: flame.Future) -> bytes | None:
        while self.bar.shown:
            try:
                return future.result(timeout=self.bar.EVERY)
            except TimeoutError:
                self.bar.draw()
        return future.result()

    def _print(
        self, task: Submitted, stdout: bytes, stderr: bytes, error: TaskError | None
    ) -> None:
        if self._tag:
            tag = (task.item or str(task.number)).encode() + b"\t"
            stdout, stderr = (
                b"".join(tag + line for line in text.splitlines(keepends=True))
                for text in (stdout, stderr)
            )
        if stderr or error is not None:
            self.bar.clear()
            click.echo(stderr, nl=False, err=True)
            if error is not None:
                item = "" if task.item is None else f" ({task.item})"
                click.echo(f"task {error.task or task.number}{item} failed: {error}", err=True)
        if stdout:
            self._write(stdout)

    def _write(self, data: bytes) -> None:
        self.bar.clear()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _line(
        self, task: Submitted, stdout: bytes, stderr: bytes, error: TaskError | None
    ) -> bytes:
        state = "Succeed"
        if error is not None:
            state = "Cancelled" if isinstance(error, TaskCancelled) else "Failed"
        shown = {
            "task": task.future.task_id or task.number,
            "item": task.item,
            "state": state,
            "stdout": stdout.decode("utf-8", "replace"),
            "stderr": stderr.decode("utf-8", "replace"),
            "message": None if error is None else str(error),
        }
        return json.dumps(shown, ensure_ascii=False).encode() + b"\n"


def main() -> None:
    """Entry point."""
    end_with(lambda: flmexec(prog_name="flmexec"))


if __name__ == "__main__":
    main()
