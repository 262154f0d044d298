"""Distinct types for distinct ids, and the rules for the texts that clients choose.

A session is a never-reused number inside the cluster; the text a client gives it is a *name*,
unique per tenant. Tasks are numbered from 1 within their session. An executor is a slot with a
UUID; each binding of it is a new *incarnation*.
"""

from typing import NewType

from flame.model.errors import InvalidRequest

SessionNumber = NewType("SessionNumber", int)
TaskId = NewType("TaskId", int)
ExecutorId = NewType("ExecutorId", str)
NodeName = NewType("NodeName", str)
Tenant = NewType("Tenant", str)

DEFAULT_TENANT = Tenant("default")

MAX_NAME_LENGTH = 256
MAX_TASK_ID = 2**63 - 1


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it may name a ``what`` (an application, a session).

    Raises:
        InvalidRequest: It is empty, longer than 256 characters, or not printable.
    """
    if not text:
        raise InvalidRequest(f"the {what} needs a name: 1 to {MAX_NAME_LENGTH} characters")
    if len(text) > MAX_NAME_LENGTH:
        raise InvalidRequest(
            f"the {what} name has {len(text)} characters; at most {MAX_NAME_LENGTH} are allowed"
        )
    if not text.isprintable():
        raise InvalidRequest(f"the {what} name {text!r} has characters that cannot be printed")
    return text


def parse_task_id(text: str) -> TaskId:
    """Read the decimal text of a task id.

    Raises:
        InvalidRequest: It is not a whole number from 1 to 2**63 - 1.
    """
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) <= MAX_TASK_ID:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise InvalidRequest(f"task id {shown!r} is not a whole number from 1 to {MAX_TASK_ID}")
    return TaskId(int(text))
