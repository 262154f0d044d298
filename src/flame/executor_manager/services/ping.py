"""``flmping``: answers every task, to see that a cluster works and how fast.

Common data, if any, is JSON: ``{"duration_ms": 10, "memory": 1048576}`` makes every task take that
long and touch that many bytes.
"""

import json
import time

from flame.model.errors import InvalidRequest
from flame.model.service import FlameService, SessionContext, TaskContext


class PingService(FlameService):
    """Echoes a task's input; without one, says that the task is done."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._memory = 0

    def on_session_enter(self, context: SessionContext) -> None:
        """Read how much work a task shall pretend to be.

        Raises:
            InvalidRequest: The common data is not as described above.
        """
        if not context.common_data:
            return
        try:
            wanted = json.loads(context.common_data)
            self._seconds = float(wanted.get("duration_ms", 0) or 0) / 1000
            self._memory = int(wanted.get("memory", 0) or 0)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidRequest(
                "flmping's common data must be JSON with the numbers duration_ms and memory, "
                f"not {context.common_data[:80]!r}: {error}"
            ) from error

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        if self._memory:
            _touch(self._memory)
        if self._seconds:
            time.sleep(self._seconds)
        if context.input is None:
            return f"Task <{context.task_id}> completed".encode()
        return context.input


def _touch(size: int) -> None:
    """Use that much memory, every page of it, for a moment."""
    block = bytearray(size)
    block[::4096] = b"\1" * len(range(0, size, 4096))
