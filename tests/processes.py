"""What processes are and do, asked while any of them may end between two questions."""

from collections.abc import Iterable

import psutil


def command(process: psutil.Process) -> list[str]:
    """The words of its command line; none once it has ended, whether or not it was reaped."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def works_in(process: psutil.Process) -> str:
    """The directory where it runs; nowhere (an empty text) once it has ended."""
    try:
        return process.cwd()
    except psutil.NoSuchProcess:
        return ""


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended."""
    return [process for process in processes if _state(process) not in ("", psutil.STATUS_ZOMBIE)]


def is_alive(pid: int) -> bool:
    try:
        return bool(alive([psutil.Process(pid)]))
    except psutil.NoSuchProcess:
        return False


def named(name: str, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of that name, such as ``flame-zygote``, that have not ended."""
    found = []
    for process in alive(processes):
        try:
            if process.name() == name:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _state(process: psutil.Process) -> str:
    try:
        return process.status() if process.is_running() else ""
    except psutil.NoSuchProcess:
        return ""
