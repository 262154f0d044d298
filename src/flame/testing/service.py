"""The service that simulated executors host: what an input makes of its task.

ok:...     returns the input backwards
fail:...   raises
slow:...   the same as ok, after a while
poison:... kills its executor
stuck:...  never returns, unless it looks whether it was cancelled
"""

from flame.model.specs import EventCode, Failure, TaskState

KINDS = ("ok", "fail", "slow", "poison", "stuck")


def expected(value: bytes | None) -> bytes | Failure | None:
    """Return a task's output, or why it fails."""
    if value is None:
        return None
    if value.startswith(b"fail:"):
        return (TaskState.FAILED, int(EventCode.FAILED), f"ValueError: {value.decode()}")
    return value[::-1]
