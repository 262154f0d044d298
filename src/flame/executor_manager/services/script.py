"""``flmexec``: runs a shell or Python script as a task.

    input   {"language": "shell" | "python", "runtime": "/bin/bash", "code": "...", "input": [1, 2]}
    output  {"data": [...]}     what the script wrote to stdout, as byte values

``runtime`` names the interpreter (default: ``sh``, or this Python) and ``input`` is the script's
stdin, as byte values; both may be left out.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from flame.model.errors import FlameError, InvalidRequest
from flame.model.service import FlameService, TaskContext

STDERR_TAIL = 4096  # characters

_INTERPRETERS = {"shell": ("sh", ".sh"), "python": (sys.executable, ".py")}


class ScriptFailed(FlameError):
    """The script ended with another code than 0."""


@dataclass(frozen=True, slots=True)
class Script:
    """A request, checked."""

    interpreter: str
    suffix: str
    code: str
    stdin: bytes

    @classmethod
    def parse(cls, data: bytes | None) -> "Script":
        """Read a task's input.

        Raises:
            InvalidRequest: It is not as the module describes.
        """
        try:
            request = json.loads(data or b"")
        except ValueError as error:
            raise InvalidRequest(f"flmexec's input must be JSON: {error}") from error
        if not isinstance(request, dict):
            raise InvalidRequest(f"flmexec's input must be an object, not {type(request).__name__}")
        language = request.get("language")
        if language not in _INTERPRETERS:
            raise InvalidRequest(f"language is {language!r}; allowed are 'shell' and 'python'")
        code = request.get("code")
        if not isinstance(code, str):
            raise InvalidRequest("code is missing; it is the text of the script")
        try:
            stdin = bytes(request.get("input") or ())
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"input must be an array of byte values: {error}") from error
        interpreter, suffix = _INTERPRETERS[language]
        runtime = request.get("runtime") or interpreter
        found = shutil.which(str(runtime))
        if found is None:
            raise InvalidRequest(f"runtime {runtime!r} is not an executable file on this node")
        return cls(found, suffix, code, stdin)


class ScriptService(FlameService):
    """Runs each task's script in a process of its own."""

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        """Run the script and return what it wrote.

        Raises:
            InvalidRequest: The input is no request.
            ScriptFailed: It ended with another code than 0; the end of its stderr is told.
        """
        script = Script.parse(context.input)
        with tempfile.TemporaryDirectory(prefix="flmexec-") as directory:
            path = os.path.join(directory, "script" + script.suffix)
            with open(path, "w") as file:
                file.write(script.code)
            done = subprocess.run(
                [script.interpreter, path], input=script.stdin, capture_output=True, check=False
            )
        if done.returncode != 0:
            stderr = done.stderr.decode("utf-8", "replace").strip()[-STDERR_TAIL:]
            raise ScriptFailed(f"the script ended with code {done.returncode}: {stderr}")
        return json.dumps({"data": list(done.stdout)}).encode()
