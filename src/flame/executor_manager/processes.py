"""The processes that become executors: how one is started, and what it says before it is one."""

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from flame.executor_manager.accounts import Account
from flame.executor_manager.assignment import ASSIGNED, Assignment, Stop, encode
from flame.executor_manager.guardian import Guardian
from flame.executor_manager.limits import Limits
from flame.executor_manager.node import Leader, Node
from flame.executor_manager.packages.preparation import Key
from flame.executor_manager.relay import Relay
from flame.executor_manager.surroundings import base_environment
from flame.executor_manager.watch import Overrun
from flame.executor_manager.workplace import Workplace, Workplaces
from flame.executor_manager.zygotes import Key as ZygoteKey
from flame.executor_manager.zygotes import Zygotes
from flame.model.specs import Sandbox
from flame.runtime.tasks import Tasks

#: -P: what lies in the working directory cannot be imported by accident.
COMMAND = (sys.executable, "-P", "-m", "flame.executor_manager.executor")


@dataclass(slots=True)
class Process:
    """One process that we asked the guardian for."""

    control: socket.socket
    name: str
    number: int
    pid: int = 0
    key: Key | None = None  # None: a spare
    assigned: bool = False
    stop_ordered: bool = False
    killed_by_us: bool = False
    overrun: Overrun | None = None
    killer: asyncio.TimerHandle | None = None
    place: Workplace | None = None
    sandbox: Sandbox = Sandbox.NONE
    paths: tuple[str, ...] = ()  # what counts as its use of the disk
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Processes:
    """Starts them, and has a private socket to each.

    Attributes:
        environment: What all of them get.
        by_pid: Those that have not ended.
        zygotes: What they are forked from.
    """

    def __init__(
        self,
        node: Node,
        leader: Leader,
        guardian: Guardian,
        limits: Limits,
        places: Workplaces,
        tasks: Tasks,
    ) -> None:
        self.environment = base_environment(os.environ)
        self.by_pid: dict[int, Process] = {}
        self._numbers = itertools.count(1)
        self.zygotes = Zygotes(
            guardian, limits, places, self.environment, node.directory, self._numbers, tasks
        )
        self._node = node
        self._leader = leader
        self._guardian = guardian
        self._limits = limits
        self._places = places
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()

    async def start(
        self,
        account: Account | None,
        command: Sequence[str] = COMMAND,
        *,
        relayed: bool = False,
        zygote: ZygoteKey | None = None,
    ) -> Process:
        """Start a process that waits for its assignment.

        ``relayed``: it is in a sandbox, perhaps without network, and asks us for connections.

        Raises:
            OSError, GuardianLost: There is none.
        """
        if zygote is None and command is COMMAND:
            zygote = await self.zygotes.plain(account)
        number = next(self._numbers)
        name = f"spare-{number}"
        output = self._places.open_output
        with contextlib.ExitStack() as stack:
            ours, control = socket.socketpair()
            fds = [stack.enter_context(control).fileno()]
            fds += [stack.enter_context(output(name, kind)).fileno() for kind in ("out", "err")]
            if relayed:
                requests, theirs = socket.socketpair()
                fds.append(stack.enter_context(theirs).fileno())
                relay = Relay(requests, self._framed_address)
                self._tasks.start(relay.run(), f"relay {number}")
            environment, confinement = self.environment, self._limits.confine(number)
            if account is not None:
                environment = {**environment, **account.environment()}
                confinement = {**confinement, **account.confinement()}
            pid = 0
            if zygote is not None:
                pid = await self.zygotes.fork(zygote, fds, confinement.get("groups", ()))
            if pid == 0:
                pid = await self._guardian.spawn(
                    command, environment, self._node.directory, fds, confinement
                )
        ours.setblocking(False)
        process = Process(ours, name, number, pid)
        self.by_pid[pid] = process
        self._loop.add_reader(ours, self.hear, process)
        return process

    async def assign(self, process: Process, assignment: Assignment) -> None:
        """Tell a process who it is."""
        try:
            await self._loop.sock_sendall(process.control, encode(assignment))
        except OSError:
            pass  # it has just died; its end is reported like any other

    def stop(self, process: Process) -> None:
        """Tell a process to finish its task and end."""
        try:
            process.control.send(encode(Stop()))
        except OSError:
            pass  # it is ending already, or does not read: the grace period decides

    def hear(self, process: Process) -> None:
        """Take what a process has said."""
        try:
            data = process.control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if ASSIGNED in data:
            process.assigned = True
        if not data:
            self._loop.remove_reader(process.control)

    def disconnect(self, process: Process) -> None:
        """Close our end of its socket."""
        self._loop.remove_reader(process.control)
        process.control.close()

    def _framed_address(self) -> tuple[str, int]:
        return self._leader.endpoint.host, self._leader.framed.port
