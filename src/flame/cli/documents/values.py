"""What the documents of all things are made of: times, states, payloads, resources, events."""

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from flame.model.resources import Resources
from flame.model.specs import Event, EventCode

Document = dict[str, Any]


def present(**values: Any) -> Document:
    return {key: value for key, value in values.items() if value is not None}


def clock_time(milliseconds: int | None) -> str | None:
    """The local time of day (``%T``) of milliseconds since the epoch."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%H:%M:%S")


def date_time(milliseconds: int | None) -> str | None:
    """Local date and time, to the millisecond, with the offset from UTC."""
    if not milliseconds:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")


def state_name(state: Any) -> str:
    """``NOT_READY`` as people read it: ``NotReady``."""
    return "".join(part.capitalize() for part in str(state.name).split("_"))


def payload(value: bytes | None) -> Any:
    """Bytes for a document: their text where they are text, else base64 under a key that says so."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return {"base64": base64.b64encode(value).decode("ascii")}


def resources_document(resources: Resources) -> Document:
    """Cores, bytes, GPUs, and what else the site counts."""
    cores = resources.cpu_millis / 1000
    return {
        "cpu": int(cores) if cores == int(cores) else cores,
        "memory": resources.memory_bytes,
        "gpu": resources.gpus,
        **dict(resources.extras),
    }


def event_lines(events: Sequence[Event]) -> str:
    """Lines for people, in the order in which it happened, and nothing twice.

    Why a task is lost is told with all its attempts, which are events, too; and once more for released
    clients.
    """
    attempts = [event for event in events if event.code == EventCode.ATTEMPT_SPENT]
    lines: dict[tuple[int, str], str] = {}
    for event in [*attempts, *(event for event in events if event not in attempts)]:
        message = event.message
        if event not in attempts:
            for attempt in attempts:
                message = message.replace(f"\n{attempt.message}", "")
            message = message.removesuffix("\nbefore this:")
        when = date_time(event.created_ms) or "-"
        line = f"{when}  {_event_name(event.code)}  {message}"
        lines.setdefault((event.created_ms, message), line)
    return "\n".join(line for _, line in sorted(lines.items(), key=lambda entry: entry[0][0]))


def event_documents(events: Iterable[Event]) -> list[Document] | None:
    return [
        present(
            code=int(event.code),
            name=_event_name(event.code),
            message=event.message,
            executor=event.executor or None,
            created=date_time(event.created_ms),
        )
        for event in events
    ] or None


def _event_name(code: int) -> str:
    """What people read in place of the code; a number that only a newer manager knows stays one."""
    try:
        return state_name(EventCode(code))
    except ValueError:
        return str(code)
