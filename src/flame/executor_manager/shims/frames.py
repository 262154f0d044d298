"""Questions and answers on a program's stdin and stdout: how they are cut, and kept within bounds."""

import base64
import binascii
import json
import os
import re
import select
import subprocess
import time
from dataclasses import dataclass
from typing import Protocol

from flame.executor_manager.shims.notes import said_of, word_of
from flame.model.service import TaskContext

CHUNK = 256 * 1024
HEADER = 64  # bytes of a frame's line, at most
SLACK = 64 * 1024  # bytes that a failure's text or a line's JSON may have besides the output

_ANSWER = re.compile(rb"(OK|FAIL) (-|[0-9]{1,18})(?: ([0-9]{1,18}))?")
_ANSWERS = "OK <length> or FAIL <length>, and may add the task's id"


class Breach(Exception):
    """The program broke the rules, or kept us waiting: this text says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program says; ``task`` is the one that it says it answers."""

    ok: bool
    data: bytes | None
    task: int | None = None

    def text(self) -> str:
        """Return why something failed."""
        return (self.data or b"").decode("utf-8", "replace") or "the service said no reason"


class Framing(Protocol):
    """How questions are written and answers are read."""

    def enter(self, common_data: bytes | None) -> bytes: ...

    def task(self, context: TaskContext) -> bytes: ...

    def leave(self) -> bytes: ...

    def reset(self) -> None:
        """What comes next is the first byte of a new program."""

    def cut(self, buffer: bytearray, limit: int) -> Answer | None:
        """Take the answer at the beginning of what came; None while it is not complete.

        Raises:
            Breach: It is none, or too large.
        """


class LengthFraming:
    """A line that ends with a length, then so many bytes."""

    def enter(self, common_data: bytes | None) -> bytes:
        return self._frame("ENTER", common_data)

    def task(self, context: TaskContext) -> bytes:
        words = f"TASK {context.task_id} {word_of(context)}"
        return self._frame(words.rstrip(), context.input)

    def leave(self) -> bytes:
        return self._frame("LEAVE", None)

    def reset(self) -> None:
        pass

    def cut(self, buffer: bytearray, limit: int) -> Answer | None:
        end = buffer.find(b"\n", 0, HEADER)
        if end < 0:
            if len(buffer) >= HEADER:
                raise _garbage(buffer, _ANSWERS)
            return None
        match = _ANSWER.fullmatch(buffer[:end])
        if match is None:
            raise _garbage(buffer, _ANSWERS)
        ok, length, task = match[1] == b"OK", match[2], int(match[3]) if match[3] else None
        if length == b"-":
            del buffer[: end + 1]
            return Answer(ok, None, task)
        size = int(length)
        if size > (limit if ok else max(limit, SLACK)):
            raise _too_large(size, limit)
        if len(buffer) < end + 1 + size:
            return None
        data = bytes(memoryview(buffer)[end + 1 : end + 1 + size])
        del buffer[: end + 1 + size]
        return Answer(ok, data, task)

    def _frame(self, words: str, data: bytes | None) -> bytes:
        if data is None:
            return f"{words} -\n".encode()
        return f"{words} {len(data)}\n".encode() + data


class LineFraming:
    """A JSON object a line."""

    def __init__(self) -> None:
        self._seen = 0

    def enter(self, common_data: bytes | None) -> bytes:
        return _line({"enter": {"common_data": _base64(common_data)}})

    def task(self, context: TaskContext) -> bytes:
        task = {"id": context.task_id, "attempt": context.attempt, **said_of(context)}
        return _line({"task": {**task, "input": _base64(context.input)}})

    def leave(self) -> bytes:
        return _line({"leave": {}})

    def reset(self) -> None:
        self._seen = 0

    def cut(self, buffer: bytearray, limit: int) -> Answer | None:
        end = buffer.find(b"\n", self._seen)
        if end < 0:
            self._seen = len(buffer)
            if buffer and not buffer.startswith(b"{"):
                raise _garbage(buffer, 'a line like {"ok": "aGVsbG8="}')
            if len(buffer) > limit * 4 // 3 + SLACK:
                raise _too_large(len(buffer), limit)
            return None
        self._seen = 0
        line = bytes(buffer[:end])
        try:
            answer: object = json.loads(line)
            task = answer.get("id") if isinstance(answer, dict) else None
            if task is not None and type(task) is not int:
                raise ValueError("an id is a number")
            match answer:
                case {"ok": None}:
                    return Answer(True, None, task)
                case {"ok": str(text)}:
                    return Answer(True, base64.b64decode(text, validate=True), task)
                case {"failed": str(text)}:
                    return Answer(False, text.encode("utf-8", "replace"), task)
        except (ValueError, RecursionError, binascii.Error):
            pass
        finally:
            del buffer[: end + 1]
        raise _garbage(line, 'a line like {"ok": "aGVsbG8="}')


class FrameConversation:
    """Asks a program one thing after another, without ever waiting for one of its pipes alone.

    Args:
        limit: The largest answer in bytes.
    """

    def __init__(self, process: subprocess.Popen[bytes], framing: Framing, limit: int) -> None:
        framing.reset()
        if process.stdin is None or process.stdout is None:
            raise ValueError("the program's stdin and stdout must be pipes")
        self._framing = framing
        self._limit = limit
        self._stdin = process.stdin.fileno()
        self._stdout = process.stdout.fileno()
        self._buffer = bytearray()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._poll = select.poll()

    def ask(self, question: bytes, timeout: float | None, task: int | None = None) -> Answer | None:
        """Put a question, of a task if it is of one; return its answer, None if the program closed its end.

        Raises:
            Breach: See :meth:`Framing.cut`; or there was no answer in time, or one unasked, or one that
                says it is another task's.
        """
        self._read_unasked()
        deadline = None if timeout is None else time.monotonic() + timeout
        rest = memoryview(question)
        while True:
            if rest:
                try:
                    rest = rest[os.write(self._stdin, rest[:CHUNK]) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    return None
            if not self._wait(bool(rest), deadline):
                raise Breach(f"no answer within {timeout:g} s")
            try:
                data = os.read(self._stdout, CHUNK)
            except BlockingIOError:
                continue
            if not data:
                return None
            self._buffer += data
            answer = self._framing.cut(self._buffer, self._limit)
            if answer is not None:
                if rest:
                    raise Breach("the service answered before it had read the whole question")
                if answer.task is not None and answer.task != task:
                    asked = f"task {task} was" if task is not None else "no task was"
                    raise Breach(f"the service answered task {answer.task}, but {asked} asked")
                return answer

    def _read_unasked(self) -> None:
        """An answer that nobody asked for would become the next task's."""
        try:
            self._buffer += os.read(self._stdout, CHUNK)
        except BlockingIOError:
            pass
        if self._buffer:
            raise _garbage(self._buffer, "nothing before it is asked")

    def _wait(self, writing: bool, deadline: float | None) -> bool:
        """Wait until there is something to read, or room to write if that is wanted."""
        self._poll.register(self._stdout, select.POLLIN)
        if writing:
            self._poll.register(self._stdin, select.POLLOUT)
        try:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            return bool(self._poll.poll(left))
        finally:
            if writing:
                self._poll.unregister(self._stdin)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _garbage(seen: bytes | bytearray, allowed: str) -> Breach:
    return Breach(f"the service wrote {bytes(seen[:60])!r} to stdout; it must write {allowed}")


def _too_large(size: int, limit: int) -> Breach:
    return Breach(
        f"the output has {size} bytes or more; at most {limit} are allowed: "
        "return a reference to large data instead of the data"
    )
