"""What is wrong with a configuration file, in the file's words.

msgspec says what is wrong and where, in its own words and its own types' names. Here the place becomes
a dotted key, and what is allowed there is read from the types of the file's blocks.
"""

import re
from typing import Any, get_args, get_origin

import msgspec

Steps = list[str | int]  # keys and indices, from the top of the file

_AT = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<at>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")


def explain(text: str, data: Any, file: type[msgspec.Struct]) -> str:
    """Say msgspec's complaint in the file's words: dotted key, what was seen, what is allowed.

    Args:
        text: The complaint.
        data: What the file holds.
        file: What it should hold.
    """
    match = _AT.fullmatch(text)
    what, steps = (match["what"], _steps(match["at"] or "", data, file)) if match else (text, [])
    unknown = _UNKNOWN.fullmatch(what)
    if unknown:
        allowed = ", ".join(sorted(_fields(_type_at(steps, file))))
        return f"{_dotted([*steps, unknown['key']])} is not known; allowed here are {allowed}"
    if "required field" in what:
        return f"{_dotted([*steps, what.rpartition('field ')[2].strip('`')])} is missing"
    seen = _value_at(steps, data)
    choices = _choices(_type_at(steps, file))
    hint = f"; allowed are {', '.join(choices)}" if choices else f": {what}"
    return f"{_dotted(steps) or 'the file'} cannot be {seen!r}{hint}"


def _steps(at: str, data: Any, file: Any) -> Steps:
    """Take a place apart. Of mappings msgspec does not say which entry it is: the first that is wrong."""
    steps: Steps = []
    for index, name in _STEP.findall(at):
        if index == "...":
            steps.append(_wrong_entry(_value_at(steps, data), get_args(_type_at(steps, file))[1]))
        else:
            steps.append(int(index) if index else name)
    return steps


def _wrong_entry(entries: dict[str, Any], kind: Any) -> str:
    for name, value in entries.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return str(name)
    raise AssertionError(f"each of {', '.join(entries)} is as it should be")


def _dotted(steps: Steps) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).lstrip(".")


def _type_at(steps: Steps, file: Any) -> Any:
    found = file
    for step in steps:
        if get_origin(found) is dict:
            found = get_args(found)[1]
            continue
        fields = _fields(found)
        if not fields:
            break  # inside a list
        found = fields.get(str(step))
    return found


def _fields(kind: Any) -> dict[str, Any]:
    """Return the types of a block's keys; nothing if it is no block."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return {field.encode_name: field.type for field in msgspec.structs.fields(candidate)}
    return {}


def _choices(kind: Any) -> list[str]:
    """Return the texts of a ``Literal``, or of a list of one."""
    for candidate in (kind, *get_args(kind)):
        values = get_args(candidate)
        if values and all(isinstance(value, str) for value in values):
            return list(values)
    return []


def _value_at(steps: Steps, data: Any) -> Any:
    for step in steps:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return data
