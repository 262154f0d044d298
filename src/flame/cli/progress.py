"""The progress bar of ``flmping`` and ``flmexec``.

    [ 42%] ==================                              4200/10000

On a terminal it moves; in a pipe the final line is printed once, so that a log stays a log.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

BAR = 45  # characters

Item = TypeVar("Item")


def bar_line(done: int, total: int) -> str:
    """The bar as it stands."""
    percent = 100 * done // total if total else 100
    filled = "=" * (BAR * done // total if total else BAR)
    return f"[{percent:>3}%] {filled:<{BAR}} {done:>7}/{total}"


class Progress:
    """Counts what is done and shows it; ``quiet`` shows nothing."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self.total = total
        self.done = 0
        self._quiet = quiet

    def __rich__(self) -> Text:
        return Text(bar_line(self.done, self.total), no_wrap=True, overflow="crop")

    def follow(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, each counted as done when the next one is asked for."""
        if self._quiet:
            yield from self._count(items)
        elif sys.stdout.isatty():
            with Live(self, console=Console(highlight=False), refresh_per_second=10):
                yield from self._count(items)
        else:
            yield from self._count(items)
            click.echo(bar_line(self.done, self.total))

    def _count(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            self.done += 1
