"""What a command that waits says on stderr when nobody answers it any more."""

import functools
import logging
import sys

import click

from flame.sdk import outage


class _ToStderr(logging.Handler):
    """Prints what the SDK logs of an outage, in the place of a bar that may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        way_out = ", Ctrl-C gives up" if record.msg == outage.GONE else ""
        click.echo(f"{clear}{record.getMessage()}{way_out}", err=True)


@functools.cache
def tell_of_outages() -> None:
    """Have outages told from now on."""
    outage.log.addHandler(_ToStderr())
