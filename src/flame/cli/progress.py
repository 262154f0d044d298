"""The progress bars of ``flmping`` and ``flmexec``.

    [ 42%] ==================                              4200/10000

``Progress`` is on stdout: on a terminal it moves; in a pipe the final line is printed once, so that a
log stays a log. ``StderrBar`` stands below what is printed meanwhile: only on a terminal, only while
the work takes longer than a second, and gone at its end.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
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

    def __rich__(self) -> "Text":
        from rich.text import Text

        return Text(bar_line(self.done, self.total), no_wrap=True, overflow="crop")

    def follow(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, each counted as done when the next one is asked for."""
        if self._quiet:
            yield from self._count(items)
        elif sys.stdout.isatty():
            # Loading them takes longer than many a run.
            from rich.console import Console
            from rich.live import Live

            with Live(self, console=Console(highlight=False), refresh_per_second=10):
                yield from self._count(items)
        else:
            yield from self._count(items)
            click.echo(bar_line(self.done, self.total))

    def _count(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            self.done += 1


class StderrBar:
    """A bar on the last line of the terminal that stderr is, if it is one.

    Args:
        total: How many tasks there are; None: nobody knows.

    Attributes:
        shown: Whether there is a terminal for it.
    """

    AFTER = 1.0  # seconds
    EVERY = 0.2  # seconds

    def __init__(self, total: int | None) -> None:
        self.shown = sys.stderr.isatty()
        self._total = total
        self._done = 0
        self._drawn = False
        self._next = time.monotonic() + self.AFTER

    def advance_if_shown(self) -> Callable[[], None] | None:
        """Return what counts a task as done; None if nobody looks. Any one thread may call it."""
        return self._advance if self.shown else None

    def _advance(self) -> None:
        self._done += 1

    def stand_at(self, done: int, total: int) -> None:
        """Show that so much is done."""
        self._done, self._total = done, total
        self.draw()

    def draw(self) -> None:
        """Show how far it is, unless that was shown just now."""
        now = time.monotonic()
        if not self.shown or now < self._next:
            return
        self._next = now + self.EVERY
        text = f"{self._done} done" if self._total is None else bar_line(self._done, self._total)
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        self._drawn = True

    def clear(self) -> None:
        """Make room for a line of something else."""
        if self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._drawn = False

    def __enter__(self) -> "StderrBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()
