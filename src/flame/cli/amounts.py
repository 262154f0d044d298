"""Amounts as people type them: ``cpu=2,mem=4g,gpu=1``, ``64k``, ``1g``."""

import re
from typing import Any

import click

from flame.model.errors import InvalidRequest
from flame.model.resources import UNIT, Resources

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SCALE = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def parse_bytes(text: str) -> int:
    """Read a number of bytes; K, M, G and T are binary.

    Raises:
        InvalidRequest: It is not one.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is not a size like 512, 64k, 16m or 1g")
    return int(float(match[1]) * _SCALE[match[2].lower()])


def parse_resources(text: str) -> Resources:
    """Read ``cpu=1,mem=1g,gpu=0``; what is left out is as in a unit executor.

    Raises:
        InvalidRequest: Another key, a value that is no amount, or nothing at all.
    """
    cpu_millis, memory_bytes, gpus = UNIT.cpu_millis, UNIT.memory_bytes, UNIT.gpus
    for part in text.split(","):
        key, _, value = (side.strip() for side in part.partition("="))
        try:
            if key == "cpu":
                cpu_millis = round(float(value) * 1000)
            elif key in ("mem", "memory"):
                memory_bytes = parse_bytes(value)
            elif key == "gpu":
                gpus = int(value)
            else:
                raise InvalidRequest(
                    f"resources {text!r}: {key!r} is not one of cpu, mem, gpu (as in cpu=1,mem=1g)"
                )
        except ValueError as error:
            if isinstance(error, InvalidRequest) and key not in ("mem", "memory"):
                raise
            raise InvalidRequest(f"resources {text!r}: {key} cannot be {value!r}") from error
    if cpu_millis < 0 or gpus < 0 or not (cpu_millis or memory_bytes or gpus):
        raise InvalidRequest(f"resources {text!r} are not an amount that an executor can take")
    return Resources(cpu_millis, memory_bytes, gpus)


class SizeType(click.ParamType):
    """A number of bytes on the command line."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_bytes(value)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)


class ResourcesType(click.ParamType):
    """An amount of resources on the command line."""

    name = "resources"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Resources:
        if isinstance(value, Resources):
            return value
        try:
            return parse_resources(value)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)
