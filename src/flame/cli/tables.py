"""Tables for people and documents for programs.

Tables are plain text with fixed columns, the same on a terminal and in a pipe, so that ``grep`` and
``awk`` work on what one sees. A column grows when a cell needs more than its usual width.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GAP = 2  # blanks between a long cell and the next column


def table(columns: Mapping[str, int], rows: Iterable[Sequence[object]]) -> str:
    """Lay out rows under a header, with no blanks at the ends of lines.

    Args:
        columns: Title and usual width, gap included, of each column.
        rows: One value per column; None prints as ``-``.
    """
    lines = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [
        max(usual, GAP + max(len(line[index]) for line in lines))
        if any(len(line[index]) >= usual for line in lines)
        else usual
        for index, usual in enumerate(columns.values())
    ]
    return "\n".join(
        "".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def key_values(pairs: Iterable[tuple[str, object]]) -> str:
    """Lay out one thing's properties, a line each; continuation lines are indented under the value."""
    shown = [(f"{key}:", _text(value)) for key, value in pairs]
    width = GAP + max((len(key) for key, _ in shown), default=0)
    return "\n".join(
        f"{key.ljust(width)}{value.replace(chr(10), chr(10) + ' ' * width)}".rstrip()
        for key, value in shown
    )


def document(value: Any, form: str) -> str:
    """Write plain values (dicts, lists, texts, numbers) as ``json`` or ``yaml``."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    import yaml  # takes longer to load than many a command runs

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n")


def _text(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _cell(value: object) -> str:
    # One thing, one line: whatever a name or command holds, the table keeps its shape.
    return " ".join(_text(value).splitlines())
