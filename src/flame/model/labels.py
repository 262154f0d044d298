"""Labels of nodes, and what sessions ask of them: ``zone=a,disk=ssd``."""

import re

from flame.model.errors import InvalidRequest

#: Sorted by name, each name once.
Labels = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?", re.ASCII)


def parse_labels(text: str, what: str = "labels") -> Labels:
    """Read ``zone=a,disk=ssd``; the empty text has none.

    Raises:
        InvalidRequest: A name or value is malformed, or a name is there twice.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (side.strip() for side in part.partition("="))
        if not equals:
            raise InvalidRequest(f"{what}: {part!r} is not name=value, as in zone=a,disk=ssd")
        if name in pairs:
            raise InvalidRequest(f"{what}: {name} is there twice in {text!r}")
        pairs[name] = value
    return check_labels(tuple(sorted(pairs.items())), what)


def check_labels(labels: Labels, what: str = "labels") -> Labels:
    """Return the labels if every name and value may be one.

    Raises:
        InvalidRequest: One is empty, too long, or has other characters than letters, digits, _./-.
    """
    for name, value in labels:
        for text in (name, value):
            if not _NAME.fullmatch(text):
                raise InvalidRequest(
                    f"{what}: {text!r} in {name}={value}: 1 to 63 letters, digits, '_', '.', '/' "
                    "or '-' are allowed, the first and last a letter or digit"
                )
    return labels


def format_labels(labels: Labels) -> str:
    """Write labels as :func:`parse_labels` reads them."""
    return ",".join(f"{name}={value}" for name, value in labels)


def match(required: Labels, labels: Labels) -> bool:
    """Whether ``labels`` has everything that is required."""
    return all(pair in labels for pair in required)
