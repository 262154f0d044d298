"""How an executor ended, for the session manager and for people."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from flame.executor_manager.cell import Running, ServiceEnd
from flame.executor_manager.watch import Overrun
from flame.model.attempts import Cause
from flame.runtime.processes import signal_name
from flame.wire import frames

STDERR_TAIL = 4096  # bytes
SERVICE_DIED = 70  # exit code of an executor whose service, a process of its own, has died

_VMSTAT = "/proc/vmstat"
_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when a process is gone.

    Attributes:
        status: As os.waitpid answers; None if it was lost with the guardian, which kills.
        assigned: Whether it had become its executor.
        stop_ordered: Whether the session manager, or our own shutdown, asked for it.
        killed_by_us: Whether its grace period was over.
        out_of_memory: How the kernel took a process of its for its memory; empty if it did not.
        overrun: Why we ended it ourselves, if we did.
        running: What its cell says.
        stderr: The end of what it wrote.
        log: What the task that ran had written to stdout and stderr until then.
        pid: Its process id on the node.
        service: How its service ended before it, if that was a program of its own.
    """

    status: int | None
    assigned: bool
    stop_ordered: bool
    killed_by_us: bool
    out_of_memory: str
    running: Running | None
    stderr: str
    pid: int = 0
    overrun: Overrun | None = None
    log: tuple[bytes, bytes] = (b"", b"")
    service: ServiceEnd | None = None


def report(executor: str, incarnation: int, ending: Ending) -> frames.ExecutorExited:
    """Name the cause, the task, and say it in a sentence with the end of stderr.

    The pid, exit code and signal are the service's where that was a program and its end was the cause.
    """
    who, pid = "executor", ending.pid
    code = -9 if ending.status is None else os.waitstatus_to_exitcode(ending.status)
    sentence = _how_it_ended(code)
    if ending.status is None:
        sentence = "was killed together with the guardian process of its node"
    out_of_memory = ending.out_of_memory if code in (-9, SERVICE_DIED) else ""
    if ending.stop_ordered:
        cause = Cause.STOPPED
        how = "did not end in time and was killed" if ending.killed_by_us else sentence
        sentence = f"was told to stop and {how}"
    elif ending.overrun is not None:
        cause = ending.overrun.cause
        sentence = f"{ending.overrun.sentence}, and was killed"
    elif not ending.assigned:
        cause = Cause.NEVER_STARTED
        sentence += " before it was ready"
    else:
        if ending.service is not None:
            who, pid, code = "service", ending.service.pid, ending.service.code
            sentence = _how_it_ended(code)
        cause = Cause.SIGNAL if code < 0 else Cause.EXIT
        if out_of_memory:
            cause = Cause.OUT_OF_MEMORY
            sentence += f", {out_of_memory}"
    running = ending.running
    if running is not None:
        sentence += f" while it ran task {running.task_id} (attempt {running.attempt})"
    detail = f"the {who} {sentence}"
    if ending.stderr and cause != Cause.STOPPED:
        detail += f"; the end of its stderr:\n{ending.stderr}"
    return frames.ExecutorExited(
        executor=executor,
        incarnation=incarnation,
        task_id=running.task_id if running else 0,
        attempt=running.attempt if running else 0,
        cause=cause,
        exit_code=max(code, 0),
        signal=max(-code, 0),
        detail=detail,
        pid=pid,
        stdout=ending.log[0],
        stderr=ending.log[1],
    )


def _how_it_ended(code: int) -> str:
    return f"exited with code {code}" if code >= 0 else f"was killed by {signal_name(-code)}"


def never_started(
    executor: str, incarnation: int, reason: str, cause: Cause = Cause.NEVER_STARTED
) -> frames.ExecutorExited:
    """Report an executor for which there was no process at all."""
    return frames.ExecutorExited(
        executor=executor,
        incarnation=incarnation,
        cause=cause,
        detail=f"the executor could not be started: {reason}",
    )


def tail(path: str, size: int = STDERR_TAIL) -> str:
    """Return the end of a text file; empty if there is none."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read(size).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def oom_kills(counters: str = "") -> int:
    """Return how many processes the kernel has killed for their memory; 0 if nobody counts.

    Args:
        counters: A file of a control group that says so; by default the whole machine, since it booted.
    """
    try:
        found = _OOM_KILL.search(Path(counters or _VMSTAT).read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
