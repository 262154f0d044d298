r"""The stdio shim: a program that is spoken to over its stdin and stdout, in any language.

The option ``frames`` says how:

``length`` (default)  one process a session: a line, then so many bytes; ``-`` instead of a length
                      says that there is nothing (not even an empty text):

        ENTER <length>\n<common data>      ──▶     ◀──  OK <length>\n<anything>
        TASK <task id> <length>\n<input>   ──▶     ◀──  OK <length>\n<output>
                                                   ◀──  FAIL <length>\n<why>
        LEAVE -\n                          ──▶     ◀──  OK -\n

                      Labels and places that a task has are one JSON word before the length of its input.

``lines``             one process a session: a JSON object a line, bytes in base64 or null:

        {"enter": {"common_data": ...}}                   ──▶     ◀──  {"ok": ...}
        {"task": {"id": 1, "attempt": 1, "input": ...}}   ──▶     ◀──  {"ok": ...}
        {"leave": {}}                                     ──▶     ◀──  {"failed": "why"}

                      "task" has "labels", "input_path" and "output_path" where it has those.

``none``              one process a task: its input is all of stdin, its output all of stdout; a
                      code other than 0 fails the task, with the end of stderr.

An answer may repeat its task's id: ``OK <length> <task id>``, ``{"ok": ..., "id": 1}``. Then it is no
answer to any other task.

FLAME_SESSION_ID and FLAME_APPLICATION are in the environment; with ``frames: none`` FLAME_TASK_ID,
what was said of the task (as for the shell shim), and common data in the file FLAME_COMMON_DATA.

Options: ``frames``, ``task_timeout``, and but for ``none`` ``enter_timeout`` (seconds). A program that
answers something else than the above, or not in time, is ended; its task fails, and the next one
finds a new program, which has entered the session.
"""

import subprocess

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, Shim, ShimRequest
from flame.executor_manager.shims.frames import (
    Answer,
    Breach,
    FrameConversation,
    Framing,
    LengthFraming,
    LineFraming,
)
from flame.executor_manager.shims.notes import variables_of
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.process import limits_of, run
from flame.executor_manager.shims.program import (
    LEAVE_TIMEOUT,
    Command,
    Program,
    enter_timeout,
)
from flame.executor_manager.shims.shell import common_data_file
from flame.model.service import SessionContext, TaskContext


def stdio_shim(request: ShimRequest) -> Shim:
    """Return the shim for what the application's ``frames`` says.

    Raises:
        ServiceUnusable: It says something else, or the program cannot be started.
    """
    options = Options(request.application.shim_options)
    match options.choice("frames", ("length", "lines", "none")):
        case "none":
            return ProcessPerTask(request, options)
        case "lines":
            return Interlocutor(request, options, LineFraming())
        case _:
            return Interlocutor(request, options, LengthFraming())


class Interlocutor:
    """A program that lives as long as the binding."""

    def __init__(self, request: ShimRequest, options: Options, framing: Framing) -> None:
        self._enter_timeout = enter_timeout(options)
        self._task_timeout = options.seconds("task_timeout")
        options.end()
        self._request = request
        self._framing = framing
        self._session: SessionContext | None = None
        self._program: Program | None = None
        Command(request, {})  # a command that is not there is said before the session is entered

    def enter(self, session: SessionContext) -> None:
        self._session = session
        self._start(session)

    def invoke(self, context: TaskContext) -> bytes | None:
        """Do one task; see :class:`flame.executor_manager.shims.Shim`."""
        program = self._program
        if program is None:
            program = self._start_again()
        question = self._framing.task(context)
        answer = self._ask(program, question, self._task_timeout, "the task", task=context.task_id)
        if not answer.ok:
            raise ServiceFailure(answer.text())
        return answer.data

    def leave(self) -> None:
        program = self._program
        if program is None:
            return
        program.closing()  # it may end as soon as it has read that, without an answer
        try:
            answer = self._conversation.ask(self._framing.leave(), LEAVE_TIMEOUT)
        except Breach as breach:
            raise ServiceFailure(f"on_session_leave: {breach}") from None
        if answer is not None and not answer.ok:
            raise ServiceFailure(answer.text())

    def close(self) -> None:
        """Stop the program."""
        program, self._program = self._program, None
        if program is not None:
            program.close()

    def _start(self, session: SessionContext) -> Program:
        program = Program(
            self._request,
            {
                "FLAME_SESSION_ID": session.session_id,
                "FLAME_APPLICATION": session.application.name,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._program = program
        self._conversation = FrameConversation(
            program.process, self._framing, self._request.assignment.max_output_bytes
        )
        question = self._framing.enter(session.common_data)
        try:
            answer = self._ask(program, question, self._enter_timeout, "on_session_enter")
            if not answer.ok:
                raise ServiceFailure(answer.text())
            program.bound()
        except BaseException:
            self.close()
            raise
        return program

    def _start_again(self) -> Program:
        """Start a program in the place of one that we ended."""
        if self._session is None:
            raise ServiceUnusable("the session was not entered")
        try:
            return self._start(self._session)
        except ServiceUnusable as error:
            raise ServiceFailure(
                f"the service was ended, and could not start again: {error}"
            ) from error

    def _ask(
        self,
        program: Program,
        question: bytes,
        timeout: float | None,
        what: str,
        *,
        task: int | None = None,
    ) -> Answer:
        """Put a question and wait for its answer.

        Raises:
            ServiceFailure: It answered in a way that cannot be understood, or not in time.
        """
        try:
            answer = self._conversation.ask(question, timeout, task)
        except Breach as breach:
            self.close()
            raise ServiceFailure(
                f"{what}: {breach}; the service was ended{program.stderr()}"
            ) from None
        if answer is None:  # its end of the pipes is closed
            program.check_alive()
            self.close()
            raise ServiceFailure(f"{what}: the service closed its stdin or stdout; it was ended")
        return answer


class ProcessPerTask:
    """A program that is started for each task."""

    def __init__(self, request: ShimRequest, options: Options) -> None:
        self._limits = limits_of(request, options)
        options.end()
        self._command = Command(request, {})
        self._directory = request.assignment.directory

    def enter(self, session: SessionContext) -> None:
        environment = self._command.environment
        environment["FLAME_SESSION_ID"] = session.session_id
        environment["FLAME_APPLICATION"] = session.application.name
        environment.update(common_data_file(session, self._directory))

    def invoke(self, context: TaskContext) -> bytes:
        """Run the program; see :class:`flame.executor_manager.shims.Shim`."""
        command = self._command
        ended = run(
            command.program,
            command.arguments,
            {**command.environment, **variables_of(context)},
            command.directory,
            context,
            context.input,
            self._limits,
        )
        if ended.code != 0:
            raise ended.failure("the process")
        return ended.stdout

    def leave(self) -> None:
        """Nobody to tell."""

    def close(self) -> None:
        """Every process has ended with its task."""
