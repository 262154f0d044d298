"""The guardian: the parent of a node's executor processes, and the end of all they leave behind.

    executor manager ◀──socket──▶ guardian ──▶ executor ──▶ service, daemons, ...

It is a program of its own (standard library only, one thread, run with ``python -I -S`` by its
path) so that it starts in milliseconds and is there however the manager dies:

* When the socket closes, the manager is gone: kill every descendant, then exit.
* When an executor ends: report it, and kill what it left. Executors and the guardian are child
  subreapers, so whatever an executor forked, however often, in whatever session, is below it while
  it lives and becomes our direct child when it ends. A direct child that we did not start is
  therefore always somebody's leftover.
* When the guardian itself is killed, executors die of their parent-death signal. That signal
  follows the spawning *thread*; here there is only one. What they forked falls to the executor
  manager, the next subreaper.

Messages are JSON, one per packet of a SOCK_SEQPACKET socket:

    {"parents": [directory, ...]}            control groups to remove when the manager is gone
    {"spawn": number, "argv": [...], "env": {...}, "cwd": path} + fds [control, stdout, stderr, ...]
        ──▶ {"spawned": number, "pid": pid}
        "groups": [directory, ...]           control groups to enter first
        "rlimits": [[which, soft, hard], ...]
        "user": [user id, group id, [further group ids]]
    {"spawn": ..., "zygote": true, ...} + fds [stdout, stderr]   executors will be forked from it
        ──▶ {"spawned": number, "pid": pid}, and later {"ready": pid}
    {"fork": number, "zygote": pid, "groups": [...]} + fds [control, stdout, stderr]
        ──▶ {"spawned": number, "pid": pid}      0: it cannot
    {"kill": pid, "signal": number}
    {"exited": pid, "status": wait status}   when a child of ours has ended
"""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)

#: Executors find their control socket here.
CONTROL_FD = 3

MAX_MESSAGE = 192 * 1024

FORK_WITHIN = 5.0  # seconds that a zygote may take

#: How much sooner the kernel should take an executor than us when memory runs out (0 to 1000).
_OOM_SCORE = "300"


def family(root: int, spared: Collection[int] = ()) -> list[tuple[int, bool]]:
    """Return (pid, whether it still runs) of what is below ``root``, without ``spared`` trees.

    One look at /proc: two looks would take a process that an executor started between them for
    somebody's leftover. A zombie is listed and looked below: while the last threads of a killed
    process end, it is one already and still has its children.
    """
    children: dict[int, list[tuple[int, bool]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:
            continue  # it has just ended
        # The command stands in brackets and may hold brackets and spaces; state and ppid follow.
        state, parent, _ = stat[stat.rindex(b")") + 2 :].split(None, 2)
        children.setdefault(int(parent), []).append((int(name), state not in b"ZX"))
    found: list[tuple[int, bool]] = []
    waiting = [root]
    while waiting:
        below = [child for child in children.get(waiting.pop(), ()) if child[0] not in spared]
        found += below
        waiting += [pid for pid, _ in below]
    return found


def kill_leftovers(root: int, spared: Collection[int] = ()) -> int:
    """SIGKILL what is below ``root``, sparing some trees. Returns how many there are, dead or not."""
    found = family(root, spared)
    for pid, runs in found:
        if runs:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    return len(found)


def reap(spared: Collection[int] = ()) -> None:
    """Take note of the ends of our children, but not of the spared ones'."""
    own = os.getpid()
    for pid, runs in family(own, spared):
        if not runs:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass  # a child of a child of ours


@dataclass(frozen=True)
class Forking:
    """An executor that a zygote has been asked for."""

    zygote: int
    gate: socket.socket
    groups: list[str]
    deadline: float


class Guardian:
    """The loop: messages, ended children, leftovers.

    Attributes:
        executors: pid → the control groups that it is in.
        parents: The directories of those groups, ours to remove when the manager is gone.
    """

    def __init__(self, manager: socket.socket) -> None:
        self._manager = manager
        self.executors: dict[int, list[str]] = {}
        self.parents: list[str] = []
        self._zygotes: dict[int, socket.socket] = {}
        self._forking: dict[int, Forking] = {}
        self._leftovers = False

    def run(self) -> None:
        """Serve until the manager is gone."""
        if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become a child subreaper")
        ended_reader, ended_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ended_writer, warn_on_full_buffer=False)
        # It ends with its manager and on nothing else: a signal meant for the whole group must
        # not take the one process that cleans up.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self._manager, select.POLLIN)
        poll.register(ended_reader, select.POLLIN)
        self._poll = poll
        while True:
            ready = poll.poll(50 if self._leftovers or self._forking else None)
            for fd, _ in ready:
                if fd == ended_reader:
                    os.read(ended_reader, 4096)
                elif fd == self._manager.fileno():
                    if not self._serve():
                        return
                else:
                    self._hear_zygote(fd)
            self._give_up_forks()
            self._reap()

    def _serve(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._manager, MAX_MESSAGE, 8)
        except OSError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "fork" in message:
            self._fork(message, fds)
        elif "spawn" in message:
            pid = (
                self._spawn_zygote(message, fds)
                if "zygote" in message
                else self._spawn(message, fds)
            )
            self.executors[pid] = message.get("groups", [])
            self._tell({"spawned": message["spawn"], "pid": pid})
        elif "parents" in message:
            self.parents = message["parents"]
        elif message["kill"] in self.executors:
            # Not reaped yet, so the pid cannot have been given to another process.
            os.kill(message["kill"], message["signal"])
        for fd in fds:
            os.close(fd)
        return True

    def _spawn_zygote(self, message: dict[str, Any], fds: list[int]) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = self._spawn(message, [theirs.fileno(), *fds])
        self._zygotes[pid] = ours
        self._poll.register(ours, select.POLLIN)
        return pid

    def _fork(self, message: dict[str, Any], fds: list[int]) -> None:
        number, zygote = message["fork"], message["zygote"]
        gate, theirs = socket.socketpair()
        request = {"fork": number, "guardian": os.getpid()}
        try:
            with theirs:
                data = json.dumps(request).encode()
                socket.send_fds(self._zygotes[zygote], [data], [theirs.fileno(), *fds])
        except (OSError, KeyError):
            gate.close()
            self._tell({"spawned": number, "pid": 0})
            return
        self._forking[number] = Forking(
            zygote, gate, message["groups"], time.monotonic() + FORK_WITHIN
        )

    def _hear_zygote(self, fd: int) -> None:
        pid, zygote = next((p, s) for p, s in self._zygotes.items() if s.fileno() == fd)
        try:
            data = zygote.recv(MAX_MESSAGE)
        except OSError:
            data = b""
        if not data:
            self._lose_zygote(pid)
            return
        message = json.loads(data)
        if "ready" in message:
            self._tell({"ready": pid})
            return
        forking = self._forking.pop(message["forked"], None)
        if forking is not None:
            self._begin(message["forked"], message["pid"], forking)

    def _begin(self, number: int, pid: int, forking: "Forking") -> None:
        """Let what a zygote forked begin, if it is what it should be."""
        with forking.gate as gate:
            ours = [child for child, _ in family(os.getpid(), self.executors)]
            try:
                if pid not in ours or pid in self.executors:
                    raise ProcessLookupError(pid)
                for group in forking.groups:
                    with open(f"{group}/cgroup.procs", "w") as file:
                        file.write(str(pid))
                gate.send(b"g")
            except OSError:
                self._leftovers = True  # whatever it is, it goes
                self._tell({"spawned": number, "pid": 0})
                return
        self.executors[pid] = forking.groups
        self._tell({"spawned": number, "pid": pid})

    def _give_up_forks(self) -> None:
        """Kill a zygote that does not answer: it is the user's code that keeps it."""
        now = time.monotonic()
        for forking in list(self._forking.values()):
            if now > forking.deadline:
                os.kill(forking.zygote, signal.SIGKILL)  # not reaped yet, so still its pid
                self._lose_zygote(forking.zygote)

    def _lose_zygote(self, pid: int) -> None:
        lost = self._zygotes.pop(pid, None)
        if lost is not None:
            self._poll.unregister(lost)
            lost.close()
        for number, forking in list(self._forking.items()):
            if forking.zygote == pid:
                del self._forking[number]
                forking.gate.close()
                self._tell({"spawned": number, "pid": 0})

    def _spawn(self, message: dict[str, Any], fds: list[int]) -> int:
        guardian = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become(message, fds, guardian)
        except BaseException as error:
            os.write(2, f"cannot start {message['argv'][0]}: {error}\n".encode())
            os._exit(127)

    def _become(self, message: dict[str, Any], fds: list[int], guardian: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for group in message.get("groups", ()):
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write("0")
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_OOM_SCORE)
        os.setsid()
        for which, soft, hard in message.get("rlimits", ()):
            resource.setrlimit(which, (soft, hard))
        os.chdir(message["cwd"])
        if "user" in message:
            user, group, groups = message["user"]
            os.setgroups(groups)
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
        # A change of user takes the parent-death signal away, so it comes after that.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:
            os._exit(127)  # it died before the line above
        if "zygote" not in message:  # what a zygote forks is to become our child, not its
            _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # Out of the way first: a passed fd may have one of the numbers it is to be copied to.
        control, out, err, *further = (os.dup2(fd, 64 + index) for index, fd in enumerate(fds))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.dup2(control, CONTROL_FD)
        for index, fd in enumerate(further, CONTROL_FD + 1):
            os.dup2(fd, index)
        os.closerange(CONTROL_FD + 1 + len(further), 4096)
        os.execve(message["argv"][0], message["argv"], message["env"])  # noqa: S606 - no shell

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._leftovers = False
                return
            if pid == 0:
                break
            if pid in self.executors:
                stop_forks(self.executors.pop(pid))
                self._lose_zygote(pid)
                self._leftovers = True
                # First what it left (it may hold ports, files, a GPU), then the report.
                self._kill_leftovers()
                self._tell({"exited": pid, "status": status})
        if self._leftovers:
            self._leftovers = self._kill_leftovers()

    def _kill_leftovers(self) -> bool:
        """Returns whether there may be more."""
        if self._forking:
            return True  # a child of ours that we do not know may be what a zygote is forking
        return kill_leftovers(os.getpid(), self.executors) > 0

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._manager.send(json.dumps(message).encode())
        except OSError:
            pass  # the manager has just gone; the next read says so


def stop_forks(groups: Collection[str]) -> None:
    """Let nothing in these control groups start another process; a fork bomb can then be killed."""
    for group in groups:
        try:
            with open(f"{group}/pids.max", "w") as file:
                file.write("0")
        except OSError:
            pass  # the controller is not in this tree


def remove_groups(parents: Collection[str]) -> None:
    """Remove control groups, in which there is nobody any more, and those below them."""
    for parent in parents:
        try:
            for entry in os.scandir(parent):
                if entry.is_dir():
                    os.rmdir(entry.path)
            os.rmdir(parent)
        except OSError:
            pass  # the manager has removed it, or the next one will


def end_all() -> None:
    """Kill every descendant and wait until there is none left."""
    while True:
        kill_leftovers(os.getpid())
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def main() -> None:
    """Guard the executors that the manager on the given socket asks for."""
    manager = socket.socket(fileno=int(sys.argv[1]))
    manager.set_inheritable(False)
    guardian = Guardian(manager)
    try:
        guardian.run()
    finally:
        for groups in guardian.executors.values():
            stop_forks(groups)
        end_all()
        remove_groups(guardian.parents)


if __name__ == "__main__":
    main()
