"""The services that experiments run. Each execution is written down before anything else happens."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import flame


def transform(value: bytes) -> bytes:
    """f(input), for checking every output."""
    return value[::-1] + b"!"


class ChaosService(flame.FlameService):
    """Does what its input's first word says, then returns f(input).

    Its common data is JSON: ``log``, the directory of the log; ``enter`` and ``leave``, a way to die
    there, as often as ``times`` says.
    """

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self._options = json.loads(context.common_data or b"{}")
        directory = self._options["log"]
        path = os.path.join(directory, f"{os.getpid()}.log")
        self._log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._die_sometimes("enter")

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        line = f"{context.session_id} {context.task_id} {context.attempt} {os.getpid()}\n"
        os.write(self._log, line.encode())
        value = context.input or b""
        word = value.split(b" ")[0].decode()
        match word:
            case "ok" | "x" | "":
                pass
            case "ms":
                time.sleep(int(value.split(b" ")[1]) / 1000)
            case "polite":
                end = time.monotonic() + int(value.split(b" ")[1]) / 1000
                while time.monotonic() < end and not context.cancelled:
                    time.sleep(0.002)
            case "stubborn":
                time.sleep(3600)
            case "fork":
                _double_fork()
            case _:
                die(word)
        return transform(value)

    def on_session_leave(self) -> None:
        self._die_sometimes("leave")

    def _die_sometimes(self, where: str) -> None:
        way, times = self._options.get(where), self._options.get("times", 0)
        if not way:
            return
        directory = Path(self._options["log"])
        for number in range(times):  # one process dies for each of the numbers
            try:
                (directory / f"{where}-{number}.died").touch(exist_ok=False)
            except FileExistsError:
                continue
            die(way)


def die(way: str) -> None:
    """End the process."""
    sys.stderr.write(f"last words before {way}\n")
    sys.stderr.flush()
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "segfault":
        ctypes.string_at(0)
    elif way == "exit":
        os._exit(7)
    elif way == "sysexit":
        sys.exit(9)
    elif way == "oom":
        block = os.urandom(
            1 << 20
        )  # more than the 1 GiB that its session asks for, and really used
        kept = [block * 64 for _ in range(24)]
        time.sleep(5.0)  # where its node only watches, the look comes a moment later
        kept.clear()
    elif way == "memory":
        # What a limit on memory does to a program that does not expect it.
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, before[1]))
        try:
            bytearray(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    time.sleep(10.0)  # until the signal arrives
    raise AssertionError(f"{way} did not end this process")


def _double_fork() -> None:
    """Leave a process behind that has neither our session nor our parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(3600)
        os._exit(0)
    time.sleep(0.005)
