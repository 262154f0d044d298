"""A limit on a process's memory that the kernel enforces, where this user may set one."""

import os
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
PREFIX = "flame-chaos-"
LIMIT = 64 * 1024 * 1024


def _root() -> tuple[Path, str] | None:
    if (_V1 / "memory.limit_in_bytes").exists():
        return _V1, "memory.limit_in_bytes"
    try:
        if "memory" in (_V2 / "cgroup.subtree_control").read_text().split():
            return _V2, "memory.max"
    except OSError:
        pass
    return None


def can_limit() -> bool:
    """Whether this machine lets us make a group of processes with a limit."""
    root = _root()
    if root is None:
        return False
    trial = root[0] / f"{PREFIX}trial-{os.getpid()}"
    try:
        trial.mkdir()
        (trial / root[1]).write_text(str(LIMIT))
        trial.rmdir()
    except OSError:
        return False
    return True


def use_up() -> None:
    """Put this process into a group with little memory, and use more than that."""
    root = _root()
    if root is None:
        return
    group = root[0] / f"{PREFIX}{os.getpid()}"
    group.mkdir()
    (group / root[1]).write_text(str(LIMIT))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    kept = []
    while True:
        kept.append(os.urandom(1024 * 1024))


def clean_up() -> None:
    """Remove the groups of processes that are gone."""
    root = _root()
    if root is not None:
        for group in root[0].glob(f"{PREFIX}*"):
            try:
                group.rmdir()
            except OSError:
                continue  # somebody is still in it
