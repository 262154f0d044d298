"""What a command that waits says on stderr when nobody answers it any more."""

import functools
import logging
import sys

import click

from flame.sdk import outage

_WAYS_OUT = {outage.GONE: ", Ctrl-C gives up", outage.CLOSING: ", Ctrl-C leaves it open"}


class _ToStderr(logging.Handler):
    """Prints what the SDK logs of an outage, in the place of a bar that may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        click.echo(f"{clear}{record.getMessage()}{_WAYS_OUT.get(record.msg, '')}", err=True)


@functools.cache
def tell_of_outages() -> None:
    """Have outages told from now on."""
    outage.log.addHandler(_ToStderr())
