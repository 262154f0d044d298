"""The main thread of an executor: it calls the service, one task after another.

    unbound ──Enter──▶ bound ──task, task, ...──▶ Leave ──▶ unbound ──▶ ...   End: the process ends

User code runs here and nowhere else, so that signal handlers, debuggers and libraries which insist on
the main thread work. Around each call there is only what a task cannot do without: take it from the
hand, write the cell, read the clock once (the end of one task is the start of the next), put the
result down. All else is done per batch, by the other thread.
"""

import logging
import os
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.cell import ATTEMPT, HEAD, STARTED, TAIL, TASK, Cell
from flame.executor_manager.hand import RIPE_AFTER, End, Enter, Hand, Leave
from flame.executor_manager.outbox import Failed
from flame.executor_manager.sandbox import check_sandbox
from flame.executor_manager.shims import (
    ServiceDied,
    ServiceFailure,
    ServiceUnusable,
    Shim,
    ShimRequest,
)
from flame.executor_manager.shims.registry import make_shim
from flame.executor_manager.surroundings import Surroundings
from flame.executor_manager.volumes import noted, volumes_of
from flame.model.retries import kinds_of
from flame.model.service import ApplicationContext, Peer, SessionContext, TaskContext
from flame.model.specs import ApplicationSpec
from flame.model.volumes import Volume
from flame.wire import frames, v1
from flame.wire.codec import application_spec_of

log = logging.getLogger(__name__)

MAX_TRACEBACK = 64 * 1024  # characters

OK = 0
INSTALL_FAILED = 10
SHIM_FAILED = 11
ENTER_FAILED = 12


class Reports(Protocol):
    """What the main thread tells the I/O thread; every method may be called from any thread."""

    def wake(self) -> None:
        """There is a result, and nobody else said so since the hand was last empty."""

    def entered(self, incarnation: int, code: int, message: str) -> None:
        """The binding succeeded (code 0) or failed."""

    def left(self) -> None:
        """The session is left."""


class Host:
    """Runs a service for one session at a time.

    Args:
        service_died: Called, from any thread, when a service that is a process of its own is gone:
            this process has to end too.
    """

    def __init__(
        self,
        hand: Hand,
        cell: Cell,
        assignment: Assignment,
        reports: Reports,
        service_died: ServiceDied,
    ) -> None:
        self._hand = hand
        self._cell = cell
        self._assignment = assignment
        self._reports = reports
        self._service_died = service_died
        self._surroundings = Surroundings(assignment)
        self._shim: Shim | None = None
        self._session = ""
        self._volumes: list[Volume] = []
        self._last_read: tuple[v1.ApplicationSpec, ApplicationSpec] | None = None
        self._last_owned: tuple[ApplicationSpec, dict[str, str], ApplicationSpec] | None = None
        self._woken = 0  # when the I/O thread was last woken for results
        hand.output.tell(cell.words)
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=hand.tasks.clear)  # tasks stay with the parent

    def run(self) -> None:
        """Serve until told to end.

        Raises:
            SystemExit: User code asked the process to end. The cell names the task, if one ran.
        """
        while True:
            command = self._hand.wait()
            match command:
                case None:
                    if self._shim is None:
                        self._hand.take_back((), len(self._hand.tasks))
                        log.error("tasks-without-session executor=%s", self._assignment.executor)
                    else:
                        self._work(self._shim)
                case Enter(bind):
                    self._enter(bind)
                case Leave():
                    self._leave()
                    self._reports.left()
                case End():
                    self._leave()
                    return

    def _work(self, shim: Shim) -> None:
        """Do tasks until there is none. The hot loop: names are local, nothing is called twice."""
        hand = self._hand
        tasks = hand.tasks
        take, put = tasks.popleft, hand.finished.append
        wake, invoke, clock = self._reports.wake, shim.invoke, time.monotonic_ns
        session, cancelled, notes = self._session, hand.cancelled, hand.notes
        written = hand.output
        words = self._cell.words
        sequence = words[HEAD]
        context_type, new_context = TaskContext, TaskContext.__new__
        output: object
        woken = self._woken
        started = clock()
        while True:
            try:
                task_id, attempt, data = take()
            except IndexError:
                break
            sequence += 1
            words[HEAD] = sequence
            words[TASK] = task_id
            words[ATTEMPT] = attempt
            words[STARTED] = started
            words[TAIL] = sequence
            try:
                # What its __init__ does; to call that takes as long as all of this.
                context = new_context(context_type)
                context.task_id, context.attempt, context.input = task_id, attempt, data
                context.session_id, context._cancelled = session, cancelled
                if notes and task_id in notes:
                    context = noted(context, notes.pop(task_id), self._volumes)
                output = invoke(context)
                if output.__class__ is not bytes and output is not None:
                    output = _as_bytes(output)
            except SystemExit:
                raise
            except BaseException as error:  # KeyboardInterrupt, CancelledError: the task's affair
                output = _failure(error)
            now = clock()
            if now - started > written.after:
                written.end_task(task_id)
            put((task_id, attempt, output, now - started, 0 if data is None else len(data)))
            started = now
            if now - woken > RIPE_AFTER and not hand.awake:
                hand.awake = True
                woken = now
                wake()
        if os.getpid() != self._pid:
            os._exit(1)  # a child that a service forked came back from its task: the task is ours
        self._cell.write(None)
        if not hand.awake and hand.finished:
            hand.awake = True
            woken = started
            wake()
        self._woken = woken

    def _enter(self, bind: frames.Bind) -> None:
        self._leave()
        code, message = INSTALL_FAILED, ""
        try:
            application = self._with_package(self._read(bind.application))
            code = SHIM_FAILED
            check_sandbox(application, self._assignment)
            volumes = volumes_of(application, self._assignment)
            application = self._with_own(application, bind, volumes)
            self._surroundings.arrange(application)
            request = ShimRequest(
                bind.application_name, application, self._assignment, self._service_died
            )
            shim = make_shim(request)
            code = ENTER_FAILED
            try:
                shim.enter(_session_context(bind, application))
            except BaseException:
                shim.close()
                raise
        except SystemExit:
            raise
        except (ServiceFailure, ServiceUnusable) as error:
            message = str(error)
        except BaseException as error:
            message = bounded_traceback(error)
        else:
            self._shim, self._session, self._volumes = shim, bind.session_id, volumes
            code = OK
        if code != OK:
            self._hand.take_back((), len(self._hand.tasks))  # that came with the binding
            log.warning(
                "bind-failed session=%s code=%s reason=%s", bind.session_id, code, message[-500:]
            )
        self._hand.output.begin()
        self._reports.entered(bind.incarnation, code, message)

    def _read(self, message: v1.ApplicationSpec) -> ApplicationSpec:
        """Read an application; mostly it is the same as in the binding before."""
        if self._last_read is None or self._last_read[0] != message:
            self._last_read = message, application_spec_of(message)
        return self._last_read[1]

    def _with_package(self, application: ApplicationSpec) -> ApplicationSpec:
        """Add what the application finds because of its package.

        Raises:
            ServiceUnusable: This process was not started with that package.
        """
        if self._assignment.unprepared:
            raise ServiceUnusable(self._assignment.unprepared)
        place = self._assignment.place
        wanted = (application.url, application.installer)
        if place is None:
            if all(wanted):
                raise ServiceUnusable(f"this process was started without a package {wanted[0]}")
            return application
        if wanted != (place.url, place.installer):
            raise ServiceUnusable(
                f"the application's package is {wanted[0]} now; this process was started with "
                f"{place.url}"
            )
        return replace(application, environments=place.surround(application.environments))

    def _with_own(
        self, application: ApplicationSpec, bind: frames.Bind, volumes: Iterable[Volume]
    ) -> ApplicationSpec:
        """Add what is this executor's and not the application's to say."""
        own = self._assignment.devices | _gang_variables(bind)
        own |= {volume.variable: volume.path for volume in volumes}
        if not own:
            return application
        last = self._last_owned
        if last is None or last[0] is not application or last[1] != own:
            variables = dict(application.environments) | own
            owned = replace(application, environments=tuple(variables.items()))
            last = self._last_owned = application, own, owned
        return last[2]

    def _leave(self) -> None:
        shim, self._shim = self._shim, None
        if shim is None:
            return
        try:
            shim.leave()
        except SystemExit:
            raise
        except BaseException:  # user code: the session is over whatever it says
            log.exception("leave-failed session=%s", self._session)
        finally:
            shim.close()
            self._hand.cancelled.clear()
            self._hand.notes.clear()


def _gang_variables(bind: frames.Bind) -> dict[str, str]:
    """Return what a member of a gang is told of it: its rank, and all members by theirs."""
    if not bind.peers:
        return {}
    return {
        "FLAME_RANK": str(bind.rank),
        "FLAME_WORLD_SIZE": str(len(bind.peers)),
        "FLAME_PEERS": ",".join(peer.address for peer in bind.peers),
        "FLAME_PEER_IDS": ",".join(peer.executor for peer in bind.peers),
    }


def _session_context(bind: frames.Bind, application: ApplicationSpec) -> SessionContext:
    return SessionContext(
        bind.session_id,
        ApplicationContext(
            bind.application_name,
            application.image,
            application.command,
            application.working_directory,
            application.url,
            application.installer,
        ),
        bind.common_data if bind.HasField("common_data") else None,
        bind.rank,
        tuple(Peer(peer.executor, peer.node, peer.address) for peer in bind.peers),
    )


def _as_bytes(output: object) -> bytes | Failed:
    if isinstance(output, (bytes, bytearray, memoryview)):
        return bytes(output)  # a copy: the service may use its buffer again
    return Failed(
        f"on_task_invoke returned {type(output).__qualname__}; it must return bytes or None"
    )


def _failure(error: BaseException) -> Failed:
    if isinstance(error, ServiceFailure):
        return Failed(error, error.kinds)
    return Failed(bounded_traceback(error), kinds_of(type(error)))


def bounded_traceback(error: BaseException) -> str:
    """Return an exception's traceback from the first frame of the user's code on, at most 64 KiB.

    The end says what went wrong and the beginning where it came from; a deep recursion between
    them is cut.
    """
    frame = error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, frame and frame.tb_next))
    if len(text) > MAX_TRACEBACK:
        head, tail = MAX_TRACEBACK // 4, MAX_TRACEBACK * 3 // 4 - 64
        text = (
            f"{text[:head]}\n... {len(text) - head - tail} characters left out ...\n{text[-tail:]}"
        )
    return text
