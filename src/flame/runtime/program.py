"""What a long-running program is told by whoever starts and watches it, and tells it."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from flame.runtime.watchdog import STUCK_AFTER

log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

#: For click: ``-h`` is help everywhere.
SETTINGS = {"help_option_names": ["-h", "--help"]}


def options_of_its_starter(command: Command) -> Command:
    """Add options to a command, which gets ``ready_fd``, ``stuck_after`` and ``parent`` of them.

    ``parent`` is the process to end with, or None.
    """
    for option in (
        click.option(
            "--die-with-parent",
            "parent",
            is_flag=False,
            flag_value="0",
            type=click.IntRange(min=0),
            callback=lambda _context, _option, pid: os.getppid() if pid == 0 else pid,
            metavar="[PID]",
            help="End when the process that started this one does. With its PID also if it has ended "
            "already.",
        ),
        click.option(
            "--stuck-after",
            type=click.FloatRange(min=0.0),
            default=STUCK_AFTER,
            show_default=True,
            metavar="SECONDS",
            help="End, with all stacks in the log, when the event loop hangs for so long; 0: never.",
        ),
        click.option(
            "--ready-fd", type=int, metavar="N", help="Write a line of JSON here when ready."
        ),
    ):
        command = option(command)
    return command


class Readiness:
    """Tells once, on a file descriptor, that the program is ready."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def tell(self, line: Mapping[str, object]) -> bool:
        """Write the line, with this process's pid, unless one is written.

        Returns:
            Whether nobody waits for it in vain: False once, if who wanted to know is gone.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return True
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(json.dumps({**line, "pid": os.getpid()}) + "\n")
        except OSError as error:
            log.warning("ready-line-not-written fd=%d error=%s", descriptor, error.strerror)
            return False
        return True
