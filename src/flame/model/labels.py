"""Labels of nodes, and what sessions require and prefer of them: ``zone=a``, ``disk=ssd:2``."""

import re

from flame.model.errors import InvalidRequest

#: Sorted by name, each name once.
Labels = tuple[tuple[str, str], ...]
#: Name, value and weight of labels that are wished for: the heavier, the more it counts.
Preferences = tuple[tuple[str, str, int], ...]

#: Of a session or node.
MAX_LABELS = 64
MAX_WEIGHT = 1000

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
        InvalidRequest: There are too many, a name is there twice, or a text is empty, too long, or
            has other characters than letters, digits, _./-.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"{what}: {len(labels)} labels; at most {MAX_LABELS} are allowed")
    names = [name for name, _ in labels]
    for name, value in labels:
        if names.count(name) > 1:
            raise InvalidRequest(f"{what}: {name} is there twice; a label has one value")
        for text in (name, value):
            if not _NAME.fullmatch(text):
                raise InvalidRequest(
                    f"{what}: {text!r} in {name}={value}: 1 to 63 letters, digits, '_', '.', '/' "
                    "or '-' are allowed, the first and last a letter or digit"
                )
    return labels


def parse_preferences(text: str, what: str = "prefer") -> Preferences:
    """Read ``disk=ssd:2,zone=a``: each label may have a weight, 1 if it has none.

    Raises:
        InvalidRequest: A label is malformed, or a weight is not a whole number from 1 to 1000.
    """
    found: list[tuple[str, str, int]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        label, colon, weight = part.partition(":")
        if colon and not (weight.isascii() and weight.isdigit()):
            raise InvalidRequest(
                f"{what}: the weight in {part!r} must be a whole number from 1 to {MAX_WEIGHT}"
            )
        found += [(*pair, int(weight) if colon else 1) for pair in parse_labels(label, what)]
    return check_preferences(tuple(found), what)


def check_preferences(preferences: Preferences, what: str = "prefer") -> Preferences:
    """Return what is preferred, in the order of names; several values of a name are allowed.

    Raises:
        InvalidRequest: A label is malformed or there twice, or a weight is out of range.
    """
    pairs = [(name, value) for name, value, _ in preferences]
    if len(pairs) > MAX_LABELS:
        raise InvalidRequest(f"{what}: {len(pairs)} labels; at most {MAX_LABELS} are allowed")
    for name, value, weight in preferences:
        check_labels(((name, value),), what)
        if pairs.count((name, value)) > 1:
            raise InvalidRequest(f"{what}: {name}={value} is there twice")
        if not 1 <= weight <= MAX_WEIGHT:
            raise InvalidRequest(
                f"{what}: the weight of {name}={value} is {weight}; 1 to {MAX_WEIGHT} are allowed"
            )
    return tuple(sorted(preferences))


def format_preferences(preferences: Preferences) -> str:
    """Write what is preferred as :func:`parse_preferences` reads it."""
    return ",".join(
        f"{name}={value}" if weight == 1 else f"{name}={value}:{weight}"
        for name, value, weight in preferences
    )


def format_labels(labels: Labels) -> str:
    """Write labels as :func:`parse_labels` reads them."""
    return ",".join(f"{name}={value}" for name, value in labels)


def match(required: Labels, labels: Labels) -> bool:
    """Whether ``labels`` has everything that is required."""
    return all(pair in labels for pair in required)
