"""The service that simulated executors host: what an input makes of its task.

ok:...     returns the input backwards
fail:...   raises a ValueError
break:...  raises a ConnectionError
slow:...   the same as ok, after a while
poison:... kills its executor
stuck:...  never returns, unless it looks whether it was cancelled

An input that ends in ``:<timeout>:<deadline>`` is submitted with those limits, in milliseconds.
"""

from flame.model.specs import EventCode, Failure, TaskLimits, TaskState

RAISES: dict[bytes, type[Exception]] = {b"fail": ValueError, b"break": ConnectionError}


def expected(value: bytes | None) -> bytes | Failure | None:
    """Return a task's output, or why it fails."""
    if value is None:
        return None
    error = raised_by(value)
    if error is not None:
        message = f"{error.__name__}: {value.decode()}"
        return (TaskState.FAILED, int(EventCode.FAILED), message)
    return value[::-1]


def raised_by(value: bytes | None) -> type[Exception] | None:
    """Return what the service raises, if it does."""
    return RAISES.get(value.split(b":")[0]) if value is not None else None


def limits_of(value: bytes | None) -> TaskLimits | None:
    """Return the limits that the task has of its own."""
    parts = value.split(b":") if value is not None else []
    return TaskLimits(int(parts[3]), int(parts[4])) if len(parts) == 5 else None
