"""What executors may take of their node, and how that is seen to.

One of two levels is in force, decided when the executor manager starts:

    cgroups   where this user may make control groups: memory, weight of the CPUs, number of processes
    watch     elsewhere: a look every second at memory; nothing else is as strict (docs/isolation.md)

The number of open files is limited, and the disk watched, in both.
"""

import logging
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from flame.executor_manager.control_groups import MIN_MEMORY, ControlGroups
from flame.executor_manager.reports import oom_kills
from flame.executor_manager.watch import DiskWatch, Overrun, Watched, memory_overruns
from flame.model.errors import InvalidConfiguration
from flame.model.resources import Resources, format_bytes

log = logging.getLogger(__name__)

LEVELS = ("auto", "cgroups", "watch", "off")
DEFAULT_PROCESSES = 4096
DEFAULT_OPEN_FILES = 65536

#: What all executors together leave of the machine's memory: a twentieth, but not less than this.
MIN_RESERVE = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LimitOptions:
    """What the operator says.

    Attributes:
        level: One of :data:`LEVELS`.
        processes: Of an executor, threads counted, where control groups are.
        open_files: Of each process.
        disk_bytes: Of an executor's files; None: it may have all but the reserve.
    """

    level: str = "auto"
    processes: int = DEFAULT_PROCESSES
    open_files: int = DEFAULT_OPEN_FILES
    disk_bytes: int | None = None


class Limits:
    """The limits of a node's executors, by the number of their process.

    Args:
        capacity: Of the node.
        directory: Where executors work: its file system is watched.

    Attributes:
        description: What is in force, for people.
        watches_memory: Whether somebody has to look at memory.
        disk: What looks at the disk; None: nobody does.

    Raises:
        InvalidConfiguration: The level that is asked for cannot be had here.
    """

    def __init__(self, options: LimitOptions, capacity: Resources, directory: str) -> None:
        self._options = options
        self._memory: dict[int, int] = {}
        self._groups: ControlGroups | None = None
        reason = "as told"
        if options.level in ("auto", "cgroups"):
            total = psutil.virtual_memory().total
            reserve = min(max(total // 20, MIN_RESERVE), total // 2)
            cpus = max(1, capacity.cpu_millis // 1000)
            self._groups, reason = ControlGroups.claim(total - reserve, cpus)
            if options.level == "cgroups" and self._groups is None:
                raise InvalidConfiguration(
                    f"control groups cannot be made here ({reason}); run the executor manager as "
                    "root or under systemd with Delegate=yes, or say --limits auto"
                )
        by_kernel = sorted(self._groups.controllers) if self._groups is not None else []
        self.watches_memory = options.level != "off" and "memory" not in by_kernel
        self.disk = DiskWatch(directory, options.disk_bytes) if options.level != "off" else None
        self.description = self._describe(by_kernel, reason)

    def _describe(self, by_kernel: list[str], reason: str) -> str:
        if self._options.level == "off":
            return "none"
        parts = []
        if self._groups is not None:
            versions = " and ".join(f"v{version}" for version in self._groups.versions)
            names = ", ".join({"pids": "processes"}.get(name, name) for name in by_kernel)
            parts.append(f"{names} by control groups {versions}")
        if self.watches_memory:
            parts.append("memory by watching")
        if self._groups is None:
            parts.append(f"no control groups ({reason})")
        return "; ".join(parts)

    def parents(self) -> list[str]:
        """Return directories of control groups to remove when this process is gone."""
        return self._groups.parents() if self._groups is not None else []

    def confine(self, number: int) -> dict[str, Any]:
        """Return what the guardian shall do to a process before it runs anything.

        Raises:
            OSError: The kernel refused.
        """
        if self._options.level == "off":
            return {}
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = self._options.open_files
        files = files if hard == resource.RLIM_INFINITY else min(files, hard)
        soft = min(files, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        groups = (
            self._groups.make(str(number), self._options.processes)
            if self._groups is not None
            else []
        )
        return {"groups": groups, "rlimits": [[resource.RLIMIT_NOFILE, soft, files]]}

    def admit(self, number: int, resources: Resources) -> None:
        """A process has become an executor that has these resources.

        Raises:
            OSError: The kernel refused.
        """
        if self._options.level == "off":
            return
        memory = max(resources.memory_bytes, MIN_MEMORY) if resources.memory_bytes else 0
        self._memory[number] = memory
        if self._groups is not None:
            self._groups.limit(str(number), memory, max(1, resources.cpu_millis // 1000), 0)

    def memory_of(self, number: int) -> int:
        """Return how many bytes an executor may have; 0: nobody said."""
        return self._memory.get(number, 0)

    def memory_events(self, number: int) -> str:
        """Return the file that counts an executor's out-of-memory kills; empty: the machine's."""
        return self._groups.memory_events(str(number)) if self._groups is not None else ""

    def forget(self, number: int) -> None:
        """A process has ended, and what it left has been killed."""
        self._memory.pop(number, None)
        if self._groups is not None:
            self._groups.remove(str(number))

    def close(self) -> None:
        """Every process has ended."""
        if self._groups is not None:
            self._groups.close()

    def memory_overruns(self, executors: Iterable[Watched]) -> list[Overrun]:
        """Look at the memory that executors use; return those that have to end."""
        return memory_overruns(executors) if self.watches_memory else []

    def out_of_memory(self, number: int, kills_before: int) -> str:
        """Say that the kernel took a process of an executor for its memory; empty if it did not.

        ``kills_before`` counts those of the whole machine a moment ago: without control groups that
        is all there is to go by.
        """
        events = self.memory_events(number)
        if oom_kills(events) <= (0 if events else kills_before):
            return ""
        memory = self.memory_of(number)
        limit = f" (its limit is {format_bytes(memory)}, what its session asks for)"
        return "as the kernel ran out of memory" + (limit if events and memory else "")
