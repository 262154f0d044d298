"""One process of a local cluster: how it is started, found ready, and ended."""

import json
import logging
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flame.model.errors import FlameError, Unavailable

_log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  # seconds from the start of a process to its ready line

Readiness = Mapping[str, Any]


class PortTaken(Unavailable):
    """The session manager found its port in use."""


class Child:
    """A Flame program as a child process, its log and its ready line.

    Args:
        name: What it is called in texts; its log is ``NAME.log`` in the directory.
        command: What to say to this Python, without ``--ready-fd``.
    """

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_fd = -1
        self._log_start = 0
        self._started = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def age(self) -> float:
        return time.monotonic() - self._started

    def start(self) -> None:
        """Start it, once or again. The caller waits for its ready line next."""
        self.close()
        self._ready_fd, theirs = os.pipe()
        ours = ("--die-with-parent", str(os.getpid()))  # not at its making: we may be a fork
        try:
            with open(self.log, "ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [*self._command, *ours, "--ready-fd", str(theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs,),
                    env=child_environment(),
                    # A Ctrl-C in the terminal is for us; we stop our children in order.
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        self._started = time.monotonic()

    def wait_ready(self, deadline: float) -> Readiness:
        """Return the ready line.

        Raises:
            PortTaken: It ended, as its port is in use.
            Unavailable: It ended or said nothing in time; the text has the log's last lines.
        """
        line = b""
        ready = select.poll()  # select() knows no file beyond the 1024th
        ready.register(self._ready_fd, select.POLLIN)
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            readable = ready.poll(left * 1000)
            chunk = os.read(self._ready_fd, 4096) if readable else b""
            if not chunk:
                raise self._did_not_start(timed_out=not readable)
            line += chunk
        self.close()
        answer: Readiness = json.loads(line)
        return answer

    def _did_not_start(self, *, timed_out: bool) -> FlameError:
        if timed_out:
            what = f"was not ready within {START_TIMEOUT:g} s"
        else:
            code = self._process and self._process.wait()  # it closed the pipe: it ends
            what = f"ended at its start with exit code {code}"
        said = self._last_lines()
        text = f"the {self.name} {what}; it wrote (in {self.log}):\n{said}"
        return (PortTaken if "in use" in said else Unavailable)(text)

    def _last_lines(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(max(self._log_start, os.fstat(log.fileno()).st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-12:]) or "    (nothing)"

    def wait(self) -> int:
        return self._process.wait() if self._process else 0

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline: float, *, late: int = logging.WARNING) -> None:
        """Wait for the end of a terminated process; kill it at the deadline, and say so at a level."""
        if self._process is not None:
            try:
                self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.log(late, "process-killed name=%s pid=%d", self.name, self.pid)
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """Close the pipe of the ready line; nobody may be in :meth:`wait_ready`."""
        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1


def child_environment() -> dict[str, str]:
    """Return our environment, with what we can import importable for services too."""
    library = sysconfig.get_path("platstdlib")
    own = {sysconfig.get_path("stdlib"), library, os.path.join(library, "lib-dynload")}
    ours = [
        os.path.abspath(path)
        for path in sys.path
        if path not in own
        and os.path.basename(path) not in ("site-packages", "dist-packages")
        and not path.endswith(".zip")
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(ours))}
