"""The shell shim: each task is a script, run by the application's command or ``sh``.

    input    the script
    output   what it wrote to stdout, or with the option ``output: json``
             {"exit_code": 3, "stdout": "...", "stderr": "..."}

A script that ends with another code than 0, or of a signal, fails its task; the end of its stderr is
told. With ``output: json`` it succeeds and says so. The script runs in the application's working
directory, with FLAME_TASK_ID and FLAME_SESSION_ID, common data in the file FLAME_COMMON_DATA, and what
was said of its task in FLAME_TASK_LABELS (JSON), FLAME_INPUT_PATH and FLAME_OUTPUT_PATH.

Options: ``output`` (stdout, json), ``task_timeout`` (seconds).
"""

import json
import os
import tempfile

from flame.executor_manager.shims import ServiceFailure, ShimRequest
from flame.executor_manager.shims.notes import variables_of
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.process import limits_of, run
from flame.executor_manager.shims.program import Command
from flame.model.service import SessionContext, TaskContext

COMMON_DATA = "FLAME_COMMON_DATA"


class ShellShim:
    """An interpreter, checked to be there.

    Raises:
        ServiceUnusable: It is not.
    """

    def __init__(self, request: ShimRequest) -> None:
        options = Options(request.application.shim_options)
        self._json = options.choice("output", ("stdout", "json")) == "json"
        self._limits = limits_of(request, options)
        options.end()
        self._command = Command(request, {}, default="sh")
        self._directory = request.assignment.directory

    def enter(self, session: SessionContext) -> None:
        environment = self._command.environment
        environment["FLAME_SESSION_ID"] = session.session_id
        environment.update(common_data_file(session, self._directory))

    def invoke(self, context: TaskContext) -> bytes:
        """Run the script; see :class:`flame.executor_manager.shims.Shim`."""
        if context.input is None:
            raise ServiceFailure("the task has no input; a task of the shell shim is a script")
        command = self._command
        with tempfile.NamedTemporaryFile(
            prefix="task-", suffix=".script", dir=self._directory, buffering=0
        ) as script:
            script.write(context.input)
            ended = run(
                command.program,
                [*command.arguments, script.name],
                {**command.environment, **variables_of(context)},
                command.directory,
                context,
                None,
                self._limits,
            )
        if self._json:
            return _outcome(ended.code, ended.stdout, ended.stderr)
        if ended.code != 0:
            raise ended.failure("the script")
        return ended.stdout

    def leave(self) -> None:
        """Nobody to tell."""

    def close(self) -> None:
        """Every script has ended with its task."""


def common_data_file(session: SessionContext, directory: str) -> dict[str, str]:
    """Write a session's common data where processes of single tasks find it; the variable says so."""
    if session.common_data is None:
        return {}
    path = os.path.join(directory, "common-data")
    with open(path, "wb") as file:
        file.write(session.common_data)
    return {COMMON_DATA: path}


def _outcome(code: int, stdout: bytes, stderr: bytes) -> bytes:
    return json.dumps(
        {
            "exit_code": code,
            "stdout": stdout.decode("utf-8", "replace"),
            "stderr": stderr.decode("utf-8", "replace"),
        }
    ).encode()
