"""Options whose value is an amount: ``--size 64k``, ``--resreq cpu=2,mem=4g,gpu=1``."""

from collections.abc import Callable
from typing import TypeVar

import click

from flame.model.errors import InvalidRequest
from flame.model.resource_text import parse_bytes, parse_resources
from flame.model.resources import UNIT, Resources

Value = TypeVar("Value")
Callback = Callable[[click.Context, click.Parameter, str | None], Value | None]


def _read_with(parse: Callable[[str], Value]) -> Callback[Value]:
    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Value | None:
        try:
            return None if value is None else parse(value)
        except InvalidRequest as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


#: Callbacks for ``click.option``: a wrong amount is a usage error that says what is allowed.
as_bytes = _read_with(parse_bytes)
as_resources = _read_with(parse_resources)

slots_option = click.option(
    "-s", "--slots", type=click.IntRange(min=1), help="Unit executors per instance."
)


def instance_resources(slots: int | None, resreq: Resources | None) -> Resources | None:
    """What an instance takes, said as unit executors or in full; None leaves it to the cluster.

    Raises:
        UsageError: Both are given.
    """
    if slots is None:
        return resreq
    if resreq is not None:
        raise click.UsageError("--slots and --resreq both say what an instance takes; give one")
    return UNIT * slots
