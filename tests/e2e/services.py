"""Services for the end-to-end tests. Each execution is logged where a test can count it."""

import ctypes
import gc
import os

import flame
from flame.executor_manager.hand import Hand


def transform(value: bytes) -> bytes:
    """f(input), for checking every output."""
    return value[::-1] + b"!"


class LoggingService(flame.FlameService):
    """Transforms its input; appends (task, attempt, pid) to the file named in common data."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self._log = os.open(context.common_data or b"", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        line = f"{context.task_id} {context.attempt} {os.getpid()}\n"
        os.write(self._log, line.encode())
        return transform(context.input or b"")

    def on_session_leave(self) -> None:
        os.close(self._log)


class HostileService(flame.FlameService):
    """Does what its input says: raise, exit, return nonsense, or be good."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        match context.input:
            case b"raise":
                raise ValueError("this task was told to raise")
            case b"exit":
                os._exit(7)
            case b"nonsense":
                return 42  # type: ignore[return-value]
            case b"large":
                return b"x" * (17 * 1024 * 1024)
            case value:
                return transform(value or b"")


class Poisoned(flame.FlameService):
    """Returns which attempt of the task this is; the task ``poison`` is a segmentation fault."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        if context.input == b"poison":
            hands = [each for each in gc.get_objects() if isinstance(each, Hand)]
            ahead = sum(len(hand.tasks) for hand in hands)
            os.write(2, b"last words of attempt %d, %d ahead\n" % (context.attempt, ahead))
            ctypes.string_at(0)
        return b"%d" % context.attempt


class NeverEnters(flame.FlameService):
    """Cannot be bound."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        raise RuntimeError("the database is down")

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        return b""
