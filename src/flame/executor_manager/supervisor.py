"""The node's executor processes: started and stopped as told, their ends reported.

    preparing: what its application is made of, if that is a package
      ▼
    spare ──assign──▶ alive ──▶ exited: a report, kept until the session manager confirms it
      ▲                 └─stop─▶ stopping ─┘
      └── kept in reserve: a process that has imported everything and is nobody yet

A process is known by (executor, incarnation). Orders are idempotent: starting what is alive, or has
ended unconfirmed, does nothing; stopping what has ended means "forget it".
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flame.executor_manager.accounts import Account, Accounts
from flame.executor_manager.assignment import ASSIGNED, FORK_SUPPORT, Assignment, Stop, encode
from flame.executor_manager.cell import read_cell
from flame.executor_manager.gpus import Gpus, device_variables
from flame.executor_manager.guardian import Guardian, GuardianLost
from flame.executor_manager.limits import Limits
from flame.executor_manager.packages.errands import Errands, Transcript
from flame.executor_manager.packages.place import Place
from flame.executor_manager.packages.preparer import Key, Preparer, Runs, Unprepared, Wanted
from flame.executor_manager.relay import Relay
from flame.executor_manager.reports import Ending, never_started, oom_kills, report, tail
from flame.executor_manager.sandbox import (
    Bubblewrap,
    command_of_executor,
    interpreter_paths,
    status_in,
    takes_process,
)
from flame.executor_manager.shims import ServiceUnusable
from flame.executor_manager.surroundings import temporary_variables, thread_variables
from flame.executor_manager.volumes import Allowed, resolve
from flame.executor_manager.watch import Overrun, Watched
from flame.executor_manager.workplace import Workplace, Workplaces
from flame.executor_manager.zygotes import Key as ZygoteKey
from flame.executor_manager.zygotes import Zygotes
from flame.model.attempts import Cause
from flame.model.errors import FlameError
from flame.model.resource_text import format_resources
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES, ApplicationSpec, Sandbox, ShimKind
from flame.model.volumes import Volume
from flame.runtime.tasks import Tasks
from flame.wire import frames
from flame.wire.channels import Endpoint
from flame.wire.codec import application_spec_of, resources_of
from flame.wire.managers import show

log = logging.getLogger(__name__)

#: -P: what lies in the working directory cannot be imported by accident.
COMMAND = (sys.executable, "-P", "-m", "flame.executor_manager.executor")

MAX_SPARES = 4
FIRST_SPARES = 2  # are started at once; the others, and those that replace used ones, one by one
SPARE_PAUSE = 1.0  # seconds from a start to the replacement of its spare: a burst goes first
SPARE_INTERVAL = 0.5  # seconds between two
LOOK = 1.0  # seconds between looks at what executors use

#: The manager's own variables that services may see; all its other FLAME_* stay with it.
_PUBLIC_VARIABLES = (
    "FLAME_HOME",
    "FLAME_LOG",
    "FLAME_PYTHON_VERSION",
    "FLAME_SERVICE_START_TIMEOUT",
)


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


@dataclass(frozen=True, slots=True)
class Node:
    """What every executor of this node is told.

    Attributes:
        endpoints: The session managers'.
        directory: Of the executor manager; absolute.
        socket_directory: Short, for the sockets of host services.
        hidden: Files and directories that services in a sandbox must not see.
        gpu_ids: The GPUs that it offers.
        volume_allow: What applications may name as volumes.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    ca_file: str | None
    directory: str
    socket_directory: str
    accounts: Accounts
    bubblewrap: Bubblewrap
    hidden: tuple[str, ...]
    gpu_ids: tuple[str, ...] = ()
    volume_allow: tuple[Allowed, ...] = ()


class Supervisor:
    """Runs the processes of a node.

    Args:
        on_exit: Called when a report has been added to ``unconfirmed``.
        make_preparer: Makes what prepares packages, given how to run its errands.
        on_delay: Called when an executor's process starts only within so many seconds; 0: now.
        spares: How many processes to keep in reserve.
    """

    def __init__(
        self,
        node: Node,
        limits: Limits,
        on_exit: Callable[[frames.ExecutorExited], None],
        make_preparer: Callable[[Runs], Preparer],
        on_delay: Callable[[Key, float], None],
        spares: int = MAX_SPARES,
    ) -> None:
        self._node = node
        self._limits = limits
        self._gpus = Gpus(node.gpu_ids, self.known)
        self._on_exit = on_exit
        self._on_delay = on_delay
        self._wanted_spares = spares
        self._loop = asyncio.get_running_loop()
        self._guardian = Guardian(self._ended, limits.parents())
        self._tasks = Tasks("supervisor")
        self._by_pid: dict[int, Process] = {}
        self._alive: dict[Key, Process] = {}
        self._starting: dict[Key, asyncio.Task[None]] = {}
        self._spares: deque[Process] = deque()
        self._replenish: asyncio.TimerHandle | None = None
        self._filling = False
        self._numbers = itertools.count(1)
        self._failed_spares = 0
        self._oom_samples = deque([oom_kills()] * 2, maxlen=2)
        self._places = Workplaces(node.directory, node.socket_directory, node.accounts.any)
        self._environment = {**base_environment(os.environ), FORK_SUPPORT: "0"}
        self._zygotes = Zygotes(
            self._guardian,
            limits,
            self._places,
            self._environment,
            node.directory,
            self._numbers,
            self._tasks,
        )
        self._closing = False
        self._errands = Errands(self._guardian)
        #: What prepares packages.
        self.packages = make_preparer(self._run_errand)
        #: Executors whose package is being prepared.
        self.preparing: set[Key] = set()
        #: Where this node is registered, and where executors may connect there without gRPC, as the
        #: session manager said last.
        self.leader = node.endpoints[0]
        self.framed = frames.FramedAddress()
        #: Ends that the session manager has not confirmed.
        self.unconfirmed: dict[Key, frames.ExecutorExited] = {}

    def start(self) -> None:
        """Start the guardian and the first spares."""
        self._places.sweep()
        self._guardian.start()
        self.packages.start()
        self._tasks.start(self._watch(), "watch")
        self._replenish_soon(0.0)

    def known(self) -> list[Key]:
        """Every executor that is here: alive, being started, or ended but unconfirmed."""
        return list({**self._starting, **self._alive, **self.unconfirmed})

    # --- orders

    def start_executor(self, order: frames.StartExecutor) -> None:
        """Start a process for this incarnation, unless there is or was one."""
        key = (order.executor, order.incarnation)
        if self._closing or key in self._alive or key in self._starting or key in self.unconfirmed:
            return
        self._starting[key] = self._tasks.start(self._start(key, order), f"start {key[0]}")

    def stop_executor(self, executor: str, incarnation: int, grace: float) -> None:
        """Stop this incarnation within ``grace`` seconds, or forget that it has ended."""
        key = (executor, incarnation)
        if self.unconfirmed.pop(key, None) is not None:
            return
        process = self._alive.get(key)
        if process is not None:
            self._stop(process, grace)
        elif key in self.preparing:
            self._starting[key].cancel()
        elif key in self._starting:
            starting = self._starting[key]  # by the time that the other looks it may have started
            self._tasks.start(self._stop_when_started(starting, key, grace), f"stop {executor}")

    async def close(self, grace: float) -> None:
        """Stop all executors within ``grace`` seconds, then end the guardian and what is left."""
        self._closing = True
        if self._replenish is not None:
            self._replenish.cancel()
        for process in list(self._alive.values()):
            self._stop(process, grace)
        try:
            async with asyncio.timeout(grace + 1.0):
                for process in list(self._alive.values()):
                    await process.gone.wait()
        except TimeoutError:
            log.warning("stop-timeout executors=%s", len(self._alive))
        await self._tasks.close()
        await self.packages.close()
        self._guardian.close()
        while self._by_pid:
            process = self._by_pid.popitem()[1]
            self._disconnect(process)
            if process.key is None:
                self._places.delete_output(process.name)
        self._limits.close()

    # --- starting

    async def _start(self, key: Key, order: frames.StartExecutor) -> None:
        executor, incarnation = key
        try:
            application = application_spec_of(order.application)
            package, problem = await self._prepare(key, order, application)
            gpu_ids = await self._gpus.take(key, order.resources.gpu)
            process = await self._assign(key, order, application, package, problem, gpu_ids)
        except (OSError, GuardianLost, FlameError) as error:
            self.packages.let_go(key)
            self._add_report(key, never_started(executor, incarnation, str(error)))
        except asyncio.CancelledError:
            self.packages.let_go(key)
            if not self._closing:
                reason = "it was told to stop while its package was being prepared"
                self._add_report(key, never_started(executor, incarnation, reason, Cause.STOPPED))
            raise
        else:
            log.info(
                "executor-started executor=%s incarnation=%s pid=%s",
                executor,
                incarnation,
                process.pid,
            )
        finally:
            self._starting.pop(key, None)

    async def _prepare(
        self, key: Key, order: frames.StartExecutor, application: ApplicationSpec
    ) -> tuple[Place | None, str]:
        """Prepare the application's package, if it has one; or say why that is not possible."""
        wanted = Wanted.of(order.tenant, order.application_name, application)
        if wanted is None:
            return None, ""
        self.preparing.add(key)
        self._on_delay(key, self.packages.timeout)
        try:
            return await self.packages.prepare(key, wanted), ""
        except Unprepared as error:
            return None, str(error)
        finally:
            self.preparing.discard(key)
            self._on_delay(key, 0.0)

    async def _run_errand(
        self,
        tenant: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        directory: str,
        transcript: Transcript,
    ) -> int:
        """Run a process for a package as its tenant's executors would be; see ``Errands.run``."""
        account = self._node.accounts.of(tenant)
        environment, confinement = {**self._environment, **variables}, {}
        if account is not None:
            environment |= account.environment()
            confinement = account.confinement()
        return await self._errands.run(command, environment, directory, transcript, confinement)

    async def _assign(
        self,
        key: Key,
        order: frames.StartExecutor,
        application: ApplicationSpec,
        package: Place | None,
        problem: str,
        gpu_ids: list[str],
    ) -> Process:
        """Give a spare, or a new process, this identity.

        Raises:
            OSError, GuardianLost: There is none, or it cannot be confined.
        """
        executor, incarnation = key
        account = self._node.accounts.of(order.tenant)
        command = COMMAND
        if package is not None and package.python and application.shim is ShimKind.PYTHON:
            command = (package.python, *COMMAND[1:])  # the environment's own interpreter
        place = self._places.prepare(executor, incarnation, account)
        sandbox, volumes, no_volumes = Sandbox.NONE, list[Volume](), ""
        if takes_process(application) and self._node.bubblewrap.path:
            sandbox = application.sandbox
            try:
                volumes = resolve(application.volumes, self._node.volume_allow, self._node.hidden)
            except ServiceUnusable as error:
                no_volumes = str(error)
            inside = self._sandboxed(application, command, account, place, package, volumes)
            process = await self._spawn(account, inside, relayed=True)
        elif package is None and (own := self._zygotes.of_application(account, order, application)):
            process = await self._spawn(account, zygote=own)
        elif self._spares and command is COMMAND and account is self._node.accounts.default:
            process = self._spares.popleft()
        else:
            process = await self._spawn(account, command)
        try:
            self._limits.admit(process.number, resources_of(order.resources))
            outputs = self._places.adopt_outputs(process.name, place.name, account)
        except OSError:
            self._guardian.kill(process.pid)
            self._places.clear(place)
            raise
        process.name, process.key = place.name, key
        process.place, process.sandbox = place, sandbox
        process.paths = (place.directory, place.private, *outputs)
        self._alive[key] = process
        self._replenish_soon(SPARE_PAUSE)
        assignment = Assignment(
            executor=executor,
            incarnation=incarnation,
            node=self._node.name,
            endpoint=show(dict.fromkeys((self.leader, *self._node.endpoints))),
            ca_file=self._node.ca_file,
            credential=order.credential,
            directory=place.directory,
            cell=place.cell,
            socket=place.socket,
            max_output_bytes=DEFAULT_MAX_INPUT_BYTES,
            framed_port=self.framed.port,
            framed_local=self.framed.local,
            environment={
                **thread_variables(order.resources.cpu, self._environment),
                **temporary_variables(place.temporary),
            },
            memory_events=self._limits.memory_events(process.number),
            bwrap=self._node.bubblewrap.path,
            no_bwrap=self._node.bubblewrap.description,
            hidden=list(self._node.hidden),
            sandbox=sandbox.value,
            place=package,
            unprepared=problem,
            volume_allow=list(self._node.volume_allow),
            volumes=list(zip(application.volumes, volumes, strict=False)),
            no_volumes=no_volumes,
            gpu_ids=gpu_ids,
            devices={
                "FLAME_RESOURCES": format_resources(resources_of(order.resources)),
                # Who has none must not see those of others.
                **(device_variables(gpu_ids) if self._gpus.ids else {}),
            },
        )
        try:
            await self._loop.sock_sendall(process.control, encode(assignment))
        except OSError:
            pass  # it has just died; its end is reported like any other
        return process

    def _sandboxed(
        self,
        application: ApplicationSpec,
        command: Sequence[str],
        account: Account | None,
        place: Workplace,
        package: Place | None,
        volumes: Sequence[Volume],
    ) -> list[str]:
        """Return the command of an executor that is in its application's sandbox."""

        def reached(paths: Iterable[str]) -> list[str]:
            return [path for path in paths if account is None or account.can_reach(path)]

        return command_of_executor(
            application,
            self._node.bubblewrap.path,
            command,
            (place.directory, place.private, place.cell),
            reached(interpreter_paths()),
            reached(self._node.hidden),
            self._node.ca_file,
            () if package is None else (package.release,),
            volumes,
        )

    async def _spawn(
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
            zygote = await self._zygotes.plain(account)
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
            environment, confinement = self._environment, self._limits.confine(number)
            if account is not None:
                environment = {**environment, **account.environment()}
                confinement = {**confinement, **account.confinement()}
            pid = 0
            if zygote is not None:
                pid = await self._zygotes.fork(zygote, fds, confinement.get("groups", ()))
            if pid == 0:
                pid = await self._guardian.spawn(
                    command, environment, self._node.directory, fds, confinement
                )
        ours.setblocking(False)
        process = Process(ours, name, number, pid)
        self._by_pid[pid] = process
        self._loop.add_reader(ours, self._heard, process)
        return process

    def _framed_address(self) -> tuple[str, int]:
        return self.leader.host, self.framed.port

    def _heard(self, process: Process) -> None:
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

    def _replenish_soon(self, delay: float) -> None:
        if not self._closing and not self._filling and self._replenish is None:
            self._replenish = self._loop.call_later(delay, self._start_replenishing)

    def _start_replenishing(self) -> None:
        self._replenish = None
        self._filling = True
        self._tasks.start(self._fill_reserve(), "spares")

    async def _fill_reserve(self) -> None:
        try:
            while len(self._spares) < self._wanted_spares and not self._closing:
                spare = await self._spawn(self._node.accounts.default)
                self._spares.append(spare)
                if spare.number > FIRST_SPARES:  # the zygote has a number, too
                    await asyncio.sleep(SPARE_INTERVAL)
        except (OSError, GuardianLost) as error:
            log.warning("spare-failed error=%s", error)
        finally:
            self._filling = False

    # --- stopping

    def _stop(self, process: Process, grace: float) -> None:
        if process.stop_ordered:
            return
        process.stop_ordered = True
        try:
            process.control.send(encode(Stop()))
        except OSError:
            pass  # it is ending already, or does not read: the grace period decides
        process.killer = self._loop.call_later(grace, self._kill, process)

    def _kill(self, process: Process) -> None:
        process.killed_by_us = True
        self._guardian.kill(process.pid)

    async def _stop_when_started(
        self, starting: asyncio.Task[None], key: Key, grace: float
    ) -> None:
        await asyncio.wait([starting])
        self.stop_executor(*key, grace)

    # --- ending

    def _ended(self, pid: int, status: int | None) -> None:
        process = self._by_pid.pop(pid, None)
        if process is None:
            if not self._zygotes.ended(pid, status):
                self._errands.ended(pid, status)
            return
        if process.killer is not None:
            process.killer.cancel()
        self._heard(process)  # it may have said that it was ready just before
        self._disconnect(process)
        process.gone.set()
        if process.key is None:
            self._limits.forget(process.number)
            self._spare_ended(process, status)
            return
        key = process.key
        ending = Ending(
            status=status_in(process.sandbox, status),
            assigned=process.assigned,
            stop_ordered=process.stop_ordered,
            killed_by_us=process.killed_by_us,
            out_of_memory=self._limits.out_of_memory(process.number, self._oom_samples[0]),
            overrun=process.overrun,
            running=read_cell(self._places.path(process.name, "cell")),
            stderr=tail(self._places.path(process.name, "err")),
            pid=process.pid,
        )
        del self._alive[key]
        self.packages.let_go(key)
        self._limits.forget(process.number)
        self._clean_up(process)
        self._add_report(key, report(*key, ending))

    def _spare_ended(self, process: Process, status: int | None) -> None:
        if process in self._spares:
            self._spares.remove(process)
        stderr = tail(self._places.path(process.name, "err"))
        self._places.delete_output(process.name)
        if self._closing:
            return
        self._failed_spares += 1
        log.error("spare-ended status=%s stderr=%r", status, stderr)
        self._replenish_soon(min(60.0, SPARE_PAUSE * 2**self._failed_spares))

    def _add_report(self, key: Key, ended: frames.ExecutorExited) -> None:
        log.info(
            "executor-exited executor=%s incarnation=%s cause=%s code=%s signal=%s task=%s",
            ended.executor,
            ended.incarnation,
            ended.cause,
            ended.exit_code,
            ended.signal,
            ended.task_id,
        )
        self.unconfirmed[key] = ended
        self._on_exit(ended)

    def _disconnect(self, process: Process) -> None:
        self._loop.remove_reader(process.control)
        process.control.close()

    def _clean_up(self, process: Process) -> None:
        """Delete what the executor had to itself; its output stays for a while."""
        if process.place is not None:
            self._places.clear(process.place)
        executor = process.key[0] if process.key is not None else ""
        if executor and not any(key[0] == executor for key in (*self._alive, *self._starting)):
            self._places.leave(executor, process.name)

    def _rotate(self, names: list[str]) -> None:
        for name in names:
            try:
                self._places.rotate(name)
            except OSError as error:
                log.warning("output-not-rotated process=%s error=%s", name, error)

    async def _watch(self) -> None:
        """Look at what executors use, and end those that use more than they may."""
        while True:
            await asyncio.sleep(LOOK)
            # How many there were a moment ago: an end is compared with that.
            self._oom_samples.append(oom_kills())
            self._zygotes.collect()
            watched = [
                Watched(process.pid, self._limits.memory_of(process.number), process.paths)
                for process in self._alive.values()
            ]
            await asyncio.to_thread(
                self._rotate, [process.name for process in self._alive.values()]
            )
            for overrun in await asyncio.to_thread(self._limits.overruns, watched):
                process = self._by_pid.get(overrun.pid)
                if process is not None and process.overrun is None:
                    process.overrun = overrun
                    self._guardian.kill(process.pid)


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what executors get of the manager's environment: all but its credentials.

    Services expect the manager's environment, with PATH, proxies and the like; but what configures
    or authorises Flame itself is not theirs. They run in directories of their own, so relative
    entries of PYTHONPATH are made absolute.
    """
    environment = {
        name: value
        for name, value in own.items()
        if not name.startswith("FLAME_") or name in _PUBLIC_VARIABLES
    }
    if environment.get("PYTHONPATH"):
        entries = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries)
    return environment
