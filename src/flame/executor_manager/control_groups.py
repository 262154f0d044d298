"""Control groups: what the kernel lets the processes of one executor take together.

    <where this process is>/flame-<pid>/            all executors of the node; leaves the machine air
    <where this process is>/flame-<pid>/<number>/   one executor and all that it starts

Both versions are used, each controller where it is: version 2 in one tree, version 1 in a tree for
each controller. A process enters its group before it runs anything (the guardian sees to that), so
nothing escapes; moving one later would cost the kernel tens of milliseconds, so a spare has its group
from the start and only the limits are written when it becomes somebody.
"""

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

CONTROLLERS = ("memory", "cpu", "pids")
PREFIX = "flame-"

#: An executor's own code and libraries take some 40 MiB; a smaller limit would only kill it.
MIN_MEMORY = 128 * 1024 * 1024

_NAMES = {  # controller → what is limited → file, by version
    1: {"memory": "memory.limit_in_bytes", "cpu": "cpu.shares", "pids": "pids.max"},
    2: {"memory": "memory.max", "cpu": "cpu.weight", "pids": "pids.max"},
}
_EVENTS = {1: "memory.oom_control", 2: "memory.events"}


@dataclass(frozen=True, slots=True)
class Tree:
    """A mounted hierarchy, and the group in it that this process is in."""

    version: int
    controllers: tuple[str, ...]
    own: Path


class ControlGroups:
    """The groups of one node. Made by :meth:`claim`.

    Attributes:
        controllers: Which can be used.
        versions: Of the trees that they are in.
    """

    def __init__(self, trees: Iterable[Tree], name: str) -> None:
        self._trees = {c: tree for tree in trees for c in tree.controllers}
        self._name = name
        self.controllers = frozenset(self._trees)
        self.versions = sorted({tree.version for tree in self._trees.values()})
        self._stale: list[str] = []

    @classmethod
    def claim(
        cls, memory_bytes: int, cpus: int, trees: Iterable[Tree] | None = None
    ) -> tuple["ControlGroups | None", str]:
        """Make the group that holds all executors; returns None and why where that cannot be.

        Args:
            memory_bytes: What all executors together may take.
            cpus: Their weight beside what else runs in our own group.
            trees: Where to make it, if not where this process is.
        """
        if trees is None:
            mounts = Path("/proc/self/mountinfo").read_text()
            trees = find_trees(mounts, Path("/proc/self/cgroup").read_text())
        claimed, reasons = [], []
        name = f"{PREFIX}{os.getpid()}"
        for tree in trees:
            _sweep(tree.own)
            try:
                _prepare(tree)
                (tree.own / name).mkdir(exist_ok=True)
                if tree.version == 2:
                    _enable(tree.own / name, tree.controllers)
            except OSError as error:
                reasons.append(f"{tree.own}: {error.strerror}")
            else:
                claimed.append(tree)
        if not claimed:
            return None, "; ".join(dict.fromkeys(reasons)) or "none is mounted"
        found = cls(claimed, name)
        found.limit("", memory_bytes, cpus, 0)
        return found, ""

    def parents(self) -> list[str]:
        """Return the directories that hold the groups, one for each tree."""
        return list(dict.fromkeys(str(tree.own / self._name) for tree in self._trees.values()))

    def make(self, group: str, processes: int) -> list[str]:
        """Make a process's groups; returns their directories, which it has to enter.

        Raises:
            OSError: The kernel refused.
        """
        directories = [os.path.join(parent, group) for parent in self.parents()]
        for directory in directories:
            os.makedirs(directory, exist_ok=True)
        self.limit(group, 0, 0, processes)
        return directories

    def limit(self, group: str, memory_bytes: int, cpus: int, processes: int) -> None:
        """Write limits; 0 leaves one as it is.

        Raises:
            OSError: The kernel refused.
        """
        if memory_bytes:
            self._write("memory", group, memory_bytes)
        if cpus:
            # What a process at the top counts for is 1024 in version 1, 100 in version 2.
            self._write("cpu", group, min(cpus * 1024, 262144), min(cpus * 100, 10000))
        if processes:
            self._write("pids", group, processes)

    def memory_events(self, group: str) -> str:
        """Return the file that counts a group's out-of-memory kills; empty if there is none."""
        tree = self._trees.get("memory")
        return str(tree.own / self._name / group / _EVENTS[tree.version]) if tree else ""

    def remove(self, group: str) -> None:
        """Remove a group whose processes have been killed, now or with a later one."""
        self._stale.append(group)
        self._stale = [left for left in self._stale if not self._removed(left)]

    def close(self) -> None:
        """Remove all. What is still in use stays; the next executor manager here removes it."""
        for parent in self.parents():
            _remove_tree(Path(parent))

    def _removed(self, group: str) -> bool:
        return all(_removed(Path(parent, group)) for parent in self.parents())

    def _write(self, controller: str, group: str, first: int, second: int | None = None) -> None:
        tree = self._trees.get(controller)
        if tree is not None:
            value = first if tree.version == 1 or second is None else second
            path = tree.own / self._name / group / _NAMES[tree.version][controller]
            path.write_text(str(value))


def find_trees(mounts: str, groups: str) -> list[Tree]:
    """Find the controllers that we use: in version 2 where they are there, else in version 1.

    Args:
        mounts: Like /proc/self/mountinfo.
        groups: Like /proc/self/cgroup.
    """
    where = {}  # "memory", or "" for version 2 → path of our group as the kernel says
    for line in groups.splitlines():
        _, names, path = line.split(":", 2)
        where.update(dict.fromkeys(names.split(",") if names else [""], path))
    first: list[Tree] = []
    second: list[Tree] = []
    for line in mounts.splitlines():
        mounted, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        root, point = (_unescape(text) for text in mounted.split(" ")[3:5])
        if kind == "cgroup2" and "" in where:
            own = _below(point, root, where[""])
            try:
                has = (own / "cgroup.controllers").read_text().split()
            except OSError:
                continue
            second.append(Tree(2, tuple(c for c in CONTROLLERS if c in has), own))
        elif kind == "cgroup":
            has = [c for c in CONTROLLERS if c in options.split(",") and c in where]
            first += [Tree(1, (c,), _below(point, root, where[c])) for c in has]
    taken: set[str] = set()
    found = []
    for tree in (*second, *first):
        controllers = tuple(c for c in tree.controllers if c not in taken)
        taken.update(controllers)
        if controllers:
            found.append(Tree(tree.version, controllers, tree.own))
    return found


def _below(point: str, root: str, path: str) -> Path:
    """Return where a group is seen: a container may see a part of the tree only."""
    return Path(point) / os.path.relpath(path, root) if path.startswith(root) else Path(point)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _prepare(tree: Tree) -> None:
    """Let groups below ours have controllers.

    Version 2 refuses that while a group has processes of its own (the root may). If ours has this
    process only, as under systemd's Delegate=yes, it moves one down.
    """
    if tree.version == 1:
        return
    try:
        _enable(tree.own, tree.controllers)
    except OSError:
        if (tree.own / "cgroup.procs").read_text().split() != [str(os.getpid())]:
            raise
        leaf = tree.own / "flame-manager"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        _enable(tree.own, tree.controllers)


def _enable(group: Path, controllers: Iterable[str]) -> None:
    control = group / "cgroup.subtree_control"
    wanted = set(controllers) - set(control.read_text().split())
    if wanted:
        control.write_text(" ".join(f"+{controller}" for controller in sorted(wanted)))


def _sweep(own: Path) -> None:
    """Remove the groups of executor managers that are gone."""
    for group in own.glob(f"{PREFIX}[0-9]*"):
        if not os.path.exists(f"/proc/{group.name.removeprefix(PREFIX)}"):
            _remove_tree(group)


def _remove_tree(group: Path) -> None:
    for below in group.glob("*/"):
        _removed(below)
    _removed(group)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False  # somebody is in it still
    return True
