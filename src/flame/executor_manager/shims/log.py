"""The log shim: it writes down what it is asked and does nothing, to see what reaches an executor.

The lines are in the executor's stdout, which its manager keeps. Tasks succeed without output.
"""

import json
import sys

from flame.executor_manager.shims import ShimRequest
from flame.executor_manager.shims.notes import said_of
from flame.executor_manager.shims.options import Options
from flame.model.service import SessionContext, TaskContext

SHOWN = 64  # bytes of an input


class LogShim:
    """No service at all."""

    def __init__(self, request: ShimRequest) -> None:
        Options(request.application.shim_options).end()

    def enter(self, session: SessionContext) -> None:
        _write(
            f"enter session={session.session_id} application={session.application.name} "
            f"common_data={_shown(session.common_data)}"
        )

    def invoke(self, context: TaskContext) -> None:
        """Do nothing; see :class:`flame.executor_manager.shims.Shim`."""
        _write(
            f"task session={context.session_id} task={context.task_id} "
            f"attempt={context.attempt} input={_shown(context.input)}"
            + "".join(f" {name}={json.dumps(value)}" for name, value in said_of(context).items())
        )

    def leave(self) -> None:
        _write("leave")

    def close(self) -> None:
        """Nothing to do."""


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _shown(data: bytes | None) -> str:
    if data is None:
        return "none"
    more = "..." if len(data) > SHOWN else ""
    return f"{data[:SHOWN]!r}{more} ({len(data)} bytes)"
