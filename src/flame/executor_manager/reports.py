"""How an executor ended, for the session manager and for people."""

import os
from dataclasses import dataclass
from pathlib import Path

from flame.executor_manager.cell import Running
from flame.runtime.processes import signal_name
from flame.wire import frames

STDERR_TAIL = 4096  # bytes

EXIT = "exit"
SIGNAL = "signal"
OUT_OF_MEMORY = "out of memory"
NEVER_STARTED = "never started"
STOPPED = "stopped"

_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when a process is gone.

    Attributes:
        status: As os.waitpid answers; None if it was lost with the guardian, which kills.
        assigned: Whether it had become its executor.
        stop_ordered: Whether the session manager, or our own shutdown, asked for it.
        killed_by_us: Whether its grace period was over.
        out_of_memory: Whether the kernel took a process for its memory at about the same time.
        running: What its cell says.
        stderr: The end of what it wrote.
        pid: Its process id on the node.
    """

    status: int | None
    assigned: bool
    stop_ordered: bool
    killed_by_us: bool
    out_of_memory: bool
    running: Running | None
    stderr: str
    pid: int = 0


def report(executor: str, incarnation: int, ending: Ending) -> frames.ExecutorExited:
    """Name the cause, the task, and say it in a sentence with the end of stderr."""
    exit_code = signal = 0
    if ending.status is None:
        signal = 9
        sentence = "was killed together with the guardian process of its node"
    elif os.WIFSIGNALED(ending.status):
        signal = os.WTERMSIG(ending.status)
        sentence = f"was killed by {signal_name(signal)}"
    else:
        exit_code = os.waitstatus_to_exitcode(ending.status)
        sentence = f"exited with code {exit_code}"
    if ending.stop_ordered:
        cause = STOPPED
        how = "did not end in time and was killed" if ending.killed_by_us else sentence
        sentence = f"was told to stop and {how}"
    elif not ending.assigned:
        cause = NEVER_STARTED
        sentence += " before it was ready"
    elif signal == 9 and ending.out_of_memory:
        cause = OUT_OF_MEMORY
        sentence += ", as the kernel ran out of memory"
    else:
        cause = SIGNAL if signal else EXIT
    running = ending.running
    if running is not None:
        sentence += f" while it ran task {running.task_id} (attempt {running.attempt})"
    detail = f"the executor {sentence}"
    if ending.stderr and cause != STOPPED:
        detail += f"; the end of its stderr:\n{ending.stderr}"
    return frames.ExecutorExited(
        executor=executor,
        incarnation=incarnation,
        task_id=running.task_id if running else 0,
        attempt=running.attempt if running else 0,
        cause=cause,
        exit_code=exit_code,
        signal=signal,
        detail=detail,
        pid=ending.pid,
    )


def never_started(executor: str, incarnation: int, reason: str) -> frames.ExecutorExited:
    """Report an executor for which there was no process at all."""
    return frames.ExecutorExited(
        executor=executor,
        incarnation=incarnation,
        cause=NEVER_STARTED,
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


def oom_kills() -> int:
    """Return how many processes the kernel has killed for their memory since it booted."""
    try:
        text = _VMSTAT.read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0
