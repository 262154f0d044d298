"""Amounts as people write them: ``cpu=2,mem=4g,gpu=1``, ``64k``, ``1gib``."""

import re

from flame.model.errors import InvalidRequest
from flame.model.resources import Resources, extras

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_SCALE = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_CPU = re.compile(r"(\d+)(?:\.(\d{1,3}))?", re.ASCII)
_EXTRA = re.compile(r"[a-z][a-z0-9_.-]*(?:/[a-z0-9_.-]+)*", re.ASCII)
#: Never the name of an extra: somebody meant cpu, mem or gpu.
_MISSPELT = frozenset({"cpus", "core", "cores", "mems", "ram", "gpus", "slot", "slots"})
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
    """Read ``cpu=0.5,mem=2g,gpu=1,fpga=1``; what is left out is 0.

    CPUs may have three decimals, GPUs and extras (any other name) are whole.

    Raises:
        InvalidRequest: A name is malformed or there twice, a value is no amount, or all are 0.
    """
    amounts = parse_amounts(text)
    cpu, mem, gpu = (amounts.pop(name, 0) for name in ("cpu", "mem", "gpu"))
    resources = Resources(cpu, mem, gpu, extras(amounts))
    if resources == Resources():
        raise InvalidRequest(f"{text!r} asks for nothing; {_FORM}")
    return resources


def parse_amounts(text: str) -> dict[str, int]:
    """Read the same as what is named and how much: thousandths of a core, bytes, whole numbers.

    Raises:
        InvalidRequest: A name is malformed or there twice, or a value is no amount.
    """
    amounts: dict[str, int] = {}
    for part in text.split(","):
        key, equals, value = (side.strip() for side in part.partition("="))
        key = {"memory": "mem"}.get(key.lower(), key.lower())
        if not equals or not value or key in _MISSPELT or not _EXTRA.fullmatch(key):
            raise InvalidRequest(
                f"{part.strip()!r} in {text!r}: keys are cpu, mem, gpu, "
                f"or the name of an extra such as fpga or license/x; {_FORM}"
            )
        if key in amounts:
            raise InvalidRequest(f"{key} is there twice in {text!r}; {_FORM}")
        amounts[key] = _amount(key, value, text)
    return amounts


def check_extra(name: str, what: str) -> str:
    """Return the name if an extra may have it.

    Raises:
        InvalidRequest: It is malformed, or that of a resource which is no extra.
    """
    if name in _MISSPELT or name in ("cpu", "mem", "memory", "gpu") or not _EXTRA.fullmatch(name):
        raise InvalidRequest(
            f"{what}: {name!r} cannot name a resource; a name is like fpga or license/x, "
            "and none of cpu, mem and gpu"
        )
    return name


def format_resources(resources: Resources) -> str:
    """Write an amount exactly as :func:`parse_resources` reads it back; zeros are left out."""
    texts = [
        f"cpu={amount / 1000:g}"
        if name == "cpu" and amount % 1000
        else f"cpu={amount // 1000}"
        if name == "cpu"
        else f"{name}={amount}"
        for name, amount in resources.named()
        if amount
    ]
    return ",".join(texts)


def _amount(key: str, value: str, text: str) -> int:
    if key == "mem":
        return parse_bytes(value)
    if key == "cpu":
        match = _CPU.fullmatch(value)
        if match is None:
            raise InvalidRequest(
                f"cpu in {text!r} is {value!r}; it must be a number of cores like 2 or 0.5"
                " (three decimals at most)"
            )
        return int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    if value.isascii() and value.isdigit():
        return int(value)
    raise InvalidRequest(f"{key} in {text!r} is {value!r}; it must be a whole number")
