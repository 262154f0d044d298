"""How a command ends when it does not simply succeed.

    0    done
    1    Flame refused or a task failed; one sentence on stderr says why
    2    the command line itself was wrong
    130  Ctrl-C, SIGTERM or SIGHUP, after the command has cleaned up; a second one ends the clean-up
    141  the reader of our output went away

Nobody sees a traceback, except for a bug in Flame.
"""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from flame.model.errors import FlameError, IllegalTransition

INTERRUPTED = 130
READER_GONE = 141


def end_with(command: Callable[[], object]) -> None:
    """Run a command and end the process as it says, without tearing the interpreter down.

    That would take 25 ms, for nothing: the command has closed what it had to.
    """
    try:
        command()
    except SystemExit as end:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                os._exit(READER_GONE)
        if end.code is None or isinstance(end.code, int):
            os._exit(end.code or 0)
        raise


#: ``--version``, the same for every command.
version_option = click.version_option(
    package_name="flame", prog_name="flame", message="%(prog)s %(version)s"
)


class Failure(click.ClickException):
    """An error of Flame as the command line shows it."""

    def show(self, file: Any = None) -> None:
        """Print the sentence on stderr."""
        click.echo(f"Error: {self.format_message()}", file=file or sys.stderr)


class _Ending(click.Command):
    """A command whose endings are those of this module, with ``-h`` beside ``--help``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _stoppable():
                return super().invoke(ctx)
        except IllegalTransition:
            raise
        except FlameError as error:
            raise Failure(str(error) or type(error).__name__) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno != errno.EPIPE:
                if error.filename is None:
                    raise
                # A file or directory that somebody named: no bug of ours.
                raise Failure(f"{os.fsdecode(error.filename)}: {error.strerror}") from error
            # Python flushes stdout once more at exit; give it something that takes the bytes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(READER_GONE) from None


@contextmanager
def _stoppable() -> Iterator[None]:
    """Have SIGTERM and SIGHUP do what Ctrl-C does, unless they are ignored, as under ``nohup``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, _like_ctrl_c) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _like_ctrl_c(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Command(_Ending):
    """A command of ours."""


class Group(_Ending, click.Group):
    """A group of our commands."""

    command_class = Command
