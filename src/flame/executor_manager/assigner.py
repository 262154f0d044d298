"""Which process an executor gets, where it works, how it is confined, and what it is told."""

from collections.abc import Iterable, Sequence

from flame.executor_manager.accounts import Account
from flame.executor_manager.assignment import Assignment
from flame.executor_manager.gpus import device_variables
from flame.executor_manager.guardian import Guardian
from flame.executor_manager.limits import Limits
from flame.executor_manager.node import Leader, Node
from flame.executor_manager.packages.place import Place
from flame.executor_manager.packages.preparation import Key
from flame.executor_manager.processes import COMMAND, Process, Processes
from flame.executor_manager.sandbox import command_of_executor, interpreter_paths, takes_process
from flame.executor_manager.shims import ServiceUnusable
from flame.executor_manager.spares import Spares
from flame.executor_manager.surroundings import temporary_variables, thread_variables
from flame.executor_manager.volumes import resolve
from flame.executor_manager.workplace import Workplace, Workplaces
from flame.model.resource_text import format_resources
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES, ApplicationSpec, Sandbox, ShimKind
from flame.model.volumes import Volume
from flame.wire import frames
from flame.wire.codec import resources_of
from flame.wire.managers import show


class Assigner:
    """Gives executors their processes."""

    def __init__(
        self,
        node: Node,
        leader: Leader,
        guardian: Guardian,
        limits: Limits,
        places: Workplaces,
        processes: Processes,
        spares: Spares,
    ) -> None:
        self._node = node
        self._leader = leader
        self._guardian = guardian
        self._limits = limits
        self._places = places
        self._processes = processes
        self._spares = spares

    async def assign(
        self,
        key: Key,
        order: frames.StartExecutor,
        application: ApplicationSpec,
        package: Place | None,
        problem: str,
        gpu_ids: list[str],
    ) -> tuple[Process, Assignment]:
        """Return a spare, or a new process, that has this identity, and what to tell it.

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
        zygotes = self._processes.zygotes
        if takes_process(application) and self._node.bubblewrap.path:
            sandbox = application.sandbox
            try:
                volumes = resolve(application.volumes, self._node.volume_allow, self._node.hidden)
            except ServiceUnusable as error:
                no_volumes = str(error)
            inside = self._sandboxed(application, command, account, place, package, volumes)
            process = await self._processes.start(account, inside, relayed=True)
        elif own := zygotes.of_application(account, order, application, package):
            process = await self._processes.start(account, command, zygote=own)
        elif command is COMMAND and (spare := self._spares.take(account)):
            process = spare
        else:
            warm = None
            if package is not None and command is not COMMAND:
                warm = await zygotes.of_package(account, order, package)
            process = await self._processes.start(account, command, zygote=warm)
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
        node, leader = self._node, self._leader
        resources = resources_of(order.resources)
        return process, Assignment(
            executor=executor,
            incarnation=incarnation,
            node=node.name,
            endpoint=show(dict.fromkeys((leader.endpoint, *node.endpoints))),
            ca_file=node.ca_file,
            credential=order.credential,
            directory=place.directory,
            cell=place.cell,
            socket=place.socket,
            max_output_bytes=DEFAULT_MAX_INPUT_BYTES,
            framed_port=leader.framed.port,
            framed_local=leader.framed.local,
            environment={
                **thread_variables(order.resources.cpu, self._processes.environment),
                **temporary_variables(place.temporary),
            },
            memory_events=self._limits.memory_events(process.number),
            bwrap=node.bubblewrap.path,
            no_bwrap=node.bubblewrap.description,
            hidden=list(node.hidden),
            sandbox=sandbox.value,
            place=package,
            unprepared=problem,
            volume_allow=list(node.volume_allow),
            volumes=list(zip(application.volumes, volumes, strict=False)),
            no_volumes=no_volumes,
            gpu_ids=gpu_ids,
            devices={
                "FLAME_RESOURCES": format_resources(resources),
                # Who has none must not see those of others.
                **(device_variables(gpu_ids) if node.gpu_ids else {}),
            },
        )

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
