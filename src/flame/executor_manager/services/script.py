"""``flmexec``: runs a shell or Python script as a task.

    input   {"language": "shell" | "python", "code": "...", "runtime": "/bin/bash",
             "input": "..." | [104, 105], "arguments": ["..."], "reply": "streams"}
    output  {"data": [...]}     what the script wrote to stdout, as byte values; or, for the reply
                                "streams", the length of stdout on a line, stdout, stderr

    input   the text of a script for sh, as version 0.2.0 sends it: whatever does not begin with {
    output  what it wrote to stdout

All but language and code may be left out. ``runtime`` names the interpreter (``sh``, or this Python),
``input`` is the script's stdin. The script finds its ``arguments`` as ``$1`` or in ``sys.argv``, and
FLAME_SESSION_ID, FLAME_TASK_ID and what was said of the task in its environment.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from flame.executor_manager.services.warm import MAX_SCRIPT, Bounds, WarmInterpreter
from flame.executor_manager.services.warm_python import WarmPython
from flame.executor_manager.services.warm_shell import WarmShell
from flame.executor_manager.shims import ServiceFailure
from flame.executor_manager.shims.notes import variables_of
from flame.executor_manager.shims.process import STDERR_TAIL, Ended, Limits, run
from flame.executor_manager.shims.program import exit_sentence
from flame.model.errors import InvalidRequest
from flame.model.service import FlameService, SessionContext, TaskContext
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.wire import GRPC_SETTINGS

_INTERPRETERS = {"shell": "sh", "python": sys.executable}
#: Interpreters that stay, and fork for each script.
_WARM: dict[str, type[WarmShell] | type[WarmPython]] = {
    "sh": WarmShell,
    sys.executable: WarmPython,
}


class ScriptFailed(ServiceFailure):
    """The script ended with another code than 0."""


@dataclass(frozen=True, slots=True)
class Script:
    """A request, checked.

    Attributes:
        interpreter: The program's path.
        warm: What it is for is one that stays, by this key of ``_WARM``; or empty.
        reply: ``streams``, ``json``, or ``stdout`` for that alone.
    """

    interpreter: str
    warm: str
    code: str
    stdin: bytes
    arguments: tuple[str, ...]
    reply: str

    @classmethod
    def parse(cls, data: bytes | None) -> "Script":
        """Read a task's input.

        Raises:
            InvalidRequest: It is not as the module describes.
        """
        text = data or b""
        try:
            if text and not text.lstrip().startswith(b"{"):
                return cls(_found_at("sh"), "sh", text.decode(), b"", (), "stdout")
            request = json.loads(text)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"flmexec's input is no UTF-8 text: {error}") from error
        except ValueError as error:
            raise InvalidRequest(f"flmexec's input must be JSON: {error}") from error
        language = request.get("language")
        if language not in _INTERPRETERS:
            raise InvalidRequest(f"language is {language!r}; allowed are 'shell' and 'python'")
        code = request.get("code")
        if not isinstance(code, str):
            raise InvalidRequest("code is missing; it is the text of the script")
        stdin = request.get("input") or b""
        try:
            stdin = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(
                f"input must be a text or an array of byte values: {error}"
            ) from error
        arguments = request.get("arguments") or ()
        if not all(isinstance(argument, str) and "\0" not in argument for argument in arguments):
            raise InvalidRequest("arguments must be an array of texts without NUL")
        reply = request.get("reply")
        if reply not in (None, "streams"):
            raise InvalidRequest(f"reply is {reply!r}; it may be 'streams', or left out")
        runtime = str(request.get("runtime") or _INTERPRETERS[language])
        found = _found_at(runtime)
        warm = runtime if runtime in _WARM else ""
        return cls(found, warm, code, stdin, tuple(arguments), reply or "json")


class ScriptService(FlameService):
    """Runs each task's script in a process of its own; those of ``sh`` and this Python in forks of one."""

    def __init__(self) -> None:
        self._warm: dict[str, WarmInterpreter] = {}
        self._session = ""

    def on_session_enter(self, context: SessionContext) -> None:
        """Remember the session, whose name scripts find in their environment."""
        self._session = context.session_id

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        """Run the script and return what it wrote.

        Raises:
            InvalidRequest: The input is no request.
            ScriptFailed: It ended with another code than 0; the end of its stderr is told.
            ServiceFailure: It was cancelled, or wrote too much.
        """
        script = Script.parse(context.input)
        if script.warm and len(script.code) <= MAX_SCRIPT and "\0" not in script.code:
            ended = self._fork(script, context)
        else:
            ended = self._start(script, context)
        if ended.code != 0:
            raise ScriptFailed(_failure(ended), ended.kind)
        if script.reply == "stdout":
            return ended.stdout
        if script.reply == "streams":
            return b"%d\n%b%b" % (len(ended.stdout), ended.stdout, ended.stderr)
        return json.dumps({"data": list(ended.stdout)}).encode()

    def on_session_leave(self) -> None:
        """End the interpreters that stayed."""
        while self._warm:
            self._warm.popitem()[1].close()

    def _fork(self, script: Script, context: TaskContext) -> Ended:
        warm = self._warm.get(script.warm)
        if warm is None or not warm.alive:
            bounds = Bounds(DEFAULT_MAX_INPUT_BYTES, STDERR_TAIL)
            warm = _WARM[script.warm](script.interpreter, self._environment(), bounds)
            self._warm[script.warm] = warm
        if not script.stdin:
            return warm.run(script.code, script.arguments, None, context)
        with tempfile.NamedTemporaryFile(prefix="flmexec-", buffering=0) as stdin:
            stdin.write(script.stdin)
            return warm.run(script.code, script.arguments, stdin.name, context)

    def _start(self, script: Script, context: TaskContext) -> Ended:
        with tempfile.NamedTemporaryFile(prefix="flmexec-", buffering=0) as file:
            file.write(script.code.encode())
            return run(
                script.interpreter,
                [script.interpreter, file.name, *script.arguments],
                {**self._environment(), **variables_of(context)},
                os.getcwd(),
                context,
                script.stdin,
                Limits(DEFAULT_MAX_INPUT_BYTES),
            )

    def _environment(self) -> Mapping[str, str]:
        environment = {**os.environ, "FLAME_SESSION_ID": self._session}
        for name, value in GRPC_SETTINGS.items():
            if environment.get(name) == value:
                del environment[name]  # ours, not the script's
        return environment


def _failure(ended: Ended) -> str:
    said = (ended.stderr or ended.stdout).decode("utf-8", "replace").strip()[-STDERR_TAIL:]
    ending = exit_sentence(ended.code).replace("exited", "ended")
    return f"the script {ending}" + (f": {said}" if said else "")


_found: dict[str, str] = {}


def _found_at(program: str) -> str:
    """Find a program, and remember where it was as long as it is there.

    Raises:
        InvalidRequest: There is none.
    """
    found = _found.get(program)
    if found is None or not os.access(found, os.X_OK):
        found = shutil.which(program)
        if found is None:
            raise InvalidRequest(f"runtime {program!r} is not an executable file on this node")
        _found[program] = found
    return found
