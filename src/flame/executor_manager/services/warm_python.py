"""A Python that stays: each script runs in a fork of it, as ``python -c`` would run it.

It has imported nothing but what it needs to fork (``python_forks``), and has one thread.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flame.executor_manager.services.warm import Bounds, WarmInterpreter

# As -c: its own place, and Flame's, are no place for scripts to import from.
_FORKS = Path(__file__).with_name("python_forks.py").read_text()


class WarmPython(WarmInterpreter):
    """One interpreter."""

    def __init__(self, program: str, environment: Mapping[str, str], bounds: Bounds) -> None:
        super().__init__(program, [program, "-c", _FORKS], environment, bounds)

    def command_of(
        self, script: str, arguments: Sequence[str], stdin: str, variables: Mapping[str, str]
    ) -> bytes:
        return (json.dumps([script, list(arguments), stdin, dict(variables)]) + "\n").encode()
