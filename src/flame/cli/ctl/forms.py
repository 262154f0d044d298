"""``-o table|json|yaml``, the same on every command that shows something."""

from collections.abc import Callable
from typing import Any

import click

TABLE = "table"


def form_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-o``; the command receives it as ``form``."""
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice([TABLE, "json", "yaml"]),
        default=TABLE,
        show_default=True,
        help="A table for people, or a document for programs.",
    )(function)
