"""Amounts as people write them: ``cpu=2,mem=4g,gpu=1``, ``64k``, ``1gib``."""

import re

from flame.model.errors import InvalidRequest
from flame.model.resources import Resources

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_FORM = "an amount looks like cpu=1,mem=2g,gpu=0"


def parse_bytes(text: str) -> int:
    """Read a number of bytes. K, M, G, T and P are binary, in either case, with or without ``iB``.

    Raises:
        InvalidRequest: It is not one.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{text!r} is not a size like 512, 64k, 16m or 2g")
    return int(float(match[1]) * _SCALE[match[2].lower()])


def parse_resources(text: str) -> Resources:
    """Read ``cpu=1,mem=2g,gpu=0``; what is left out is 0. CPUs and GPUs are whole.

    Raises:
        InvalidRequest: A key is unknown or there twice, a value is no amount, or all are 0.
    """
    amounts: dict[str, int] = {}
    for part in text.split(","):
        key, equals, value = (side.strip() for side in part.partition("="))
        key = {"memory": "mem"}.get(key.lower(), key.lower())
        if not equals or not value or key not in ("cpu", "mem", "gpu"):
            raise InvalidRequest(f"{part.strip()!r} in {text!r}: keys are cpu, mem, gpu; {_FORM}")
        if key in amounts:
            raise InvalidRequest(f"{key} is there twice in {text!r}; {_FORM}")
        if key == "mem":
            amounts[key] = parse_bytes(value)
        elif value.isascii() and value.isdigit():
            amounts[key] = int(value)
        else:
            raise InvalidRequest(f"{key} in {text!r} is {value!r}; it must be a whole number")
    resources = Resources(
        amounts.get("cpu", 0) * 1000, amounts.get("mem", 0), amounts.get("gpu", 0)
    )
    if resources == Resources():
        raise InvalidRequest(f"{text!r} asks for nothing; {_FORM}")
    return resources
