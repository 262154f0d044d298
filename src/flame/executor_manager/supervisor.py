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
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flame.executor_manager.assigner import Assigner
from flame.executor_manager.cell import read_cell, read_service_end
from flame.executor_manager.gpus import Gpus
from flame.executor_manager.guardian import Guardian, GuardianLost
from flame.executor_manager.limits import Limits
from flame.executor_manager.lookout import Lookout
from flame.executor_manager.node import Leader, Node
from flame.executor_manager.packages.errands import Errands, Transcript
from flame.executor_manager.packages.making import Runs
from flame.executor_manager.packages.place import Place
from flame.executor_manager.packages.preparation import Key, Unprepared, Wanted
from flame.executor_manager.packages.preparer import Preparer
from flame.executor_manager.processes import Process, Processes
from flame.executor_manager.reports import Ending, never_started, report, tail
from flame.executor_manager.sandbox import status_in
from flame.executor_manager.spares import MAX_SPARES, Spares
from flame.executor_manager.workplace import Workplaces
from flame.model.attempts import Cause
from flame.model.errors import FlameError
from flame.model.specs import ApplicationSpec, Sandbox
from flame.runtime.tasks import Tasks
from flame.wire import frames
from flame.wire.codec import application_spec_of

log = logging.getLogger(__name__)


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
        self._loop = asyncio.get_running_loop()
        self._guardian = Guardian(self._ended, limits.parents())
        self._tasks = Tasks("supervisor")
        self._alive: dict[Key, Process] = {}
        self._starting: dict[Key, asyncio.Task[None]] = {}
        #: Where this node is registered; the agent keeps it up to date.
        self.leader = leader = Leader(node.endpoints[0])
        places = Workplaces(node.directory, node.socket_directory, node.accounts.any)
        processes = Processes(node, leader, self._guardian, limits, places, self._tasks)
        self._places, self._processes = places, processes
        self._spares = Spares(processes, node.accounts.default, places, spares, self._tasks)
        self._assigner = Assigner(
            node, leader, self._guardian, limits, places, processes, self._spares
        )
        self._lookout = Lookout(self._alive, processes, places, limits, self._guardian)
        self._closing = False
        self._errands = Errands(self._guardian)
        #: What prepares packages.
        self.packages = make_preparer(self._run_errand)
        #: Executors whose package is being prepared.
        self.preparing: set[Key] = set()
        #: Ends that the session manager has not confirmed.
        self.unconfirmed: dict[Key, frames.ExecutorExited] = {}

    def start(self) -> None:
        """Start the guardian and the first spares."""
        self._places.sweep()
        self._guardian.start()
        self.packages.start()
        self._lookout.start(self._tasks)
        self._spares.replenish_soon(0.0)

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

    def read_output(self, order: frames.ReadOutput) -> frames.Output:
        """Answer what an executor, alive or ended, or the task that it runs has written."""
        executor, incarnation = order.executor, order.incarnation
        alive = [key for key in self._alive if key[0] == executor and incarnation in (0, key[1])]
        name = running = None
        if alive:
            process = self._alive[max(alive)]
            name = process.name
        else:
            name = self._places.ended(executor, incarnation)
        if order.task_id:
            running = read_cell(self._places.path(name, "cell")) if alive else None
            if running is None or (running.task_id, running.attempt) != (
                order.task_id,
                order.attempt,
            ):
                name = ""
        answer = frames.Output()
        if name:
            answer = self._places.read_output(name, order, running)
            answer.found = True
            answer.incarnation = int(name.rpartition("-")[2])
        answer.request, answer.running = order.request, bool(alive)
        return answer

    async def close(self, grace: float) -> None:
        """Stop all executors within ``grace`` seconds, then end the guardian and what is left."""
        self._closing = True
        self._spares.close()
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
        while self._processes.by_pid:
            process = self._processes.by_pid.popitem()[1]
            self._processes.disconnect(process)
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
            process, assignment = await self._assigner.assign(
                key, order, application, package, problem, gpu_ids
            )
            self._alive[key] = process
            self._spares.replenish_soon()
            await self._processes.assign(process, assignment)
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
        environment, confinement = {**self._processes.environment, **variables}, {}
        if account is not None:
            environment |= account.environment()
            confinement = account.confinement()
        return await self._errands.run(command, environment, directory, transcript, confinement)

    # --- stopping

    def _stop(self, process: Process, grace: float) -> None:
        if process.stop_ordered:
            return
        process.stop_ordered = True
        self._processes.stop(process)
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
        process = self._processes.by_pid.pop(pid, None)
        if process is None:
            if not self._processes.zygotes.ended(pid, status):
                self._errands.ended(pid, status)
            return
        if process.killer is not None:
            process.killer.cancel()
        self._processes.hear(process)  # it may have said that it was ready just before
        self._processes.disconnect(process)
        process.gone.set()
        if process.key is None:
            self._limits.forget(process.number)
            self._spares.ended(process, status)
            return
        key = process.key
        cell = self._places.path(process.name, "cell")
        running, service = read_cell(cell), read_service_end(cell)
        if service is not None and process.sandbox is not Sandbox.NONE:
            service = replace(service, pid=process.pid)  # in there its number is another
        ending = Ending(
            status=status_in(process.sandbox, status),
            assigned=process.assigned,
            stop_ordered=process.stop_ordered,
            killed_by_us=process.killed_by_us,
            out_of_memory=self._limits.out_of_memory(
                process.number, self._lookout.oom_kills_before
            ),
            overrun=process.overrun,
            running=running,
            stderr=tail(self._places.path(process.name, "err")),
            pid=process.pid,
            log=self._places.log_of(process.name, running) if running is not None else (b"", b""),
            service=service,
        )
        del self._alive[key]
        self.packages.let_go(key)
        self._limits.forget(process.number)
        self._clean_up(process)
        self._add_report(key, report(*key, ending))

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

    def _clean_up(self, process: Process) -> None:
        """Delete what the executor had to itself; its output stays for a while."""
        if process.place is not None:
            self._places.clear(process.place)
        executor = process.key[0] if process.key is not None else ""
        if executor and not any(key[0] == executor for key in (*self._alive, *self._starting)):
            self._places.leave(executor, process.name)
