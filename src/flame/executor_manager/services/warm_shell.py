"""A shell that stays: ``( export FLAME_TASK_ID=7; set -- ITEM; eval 'SCRIPT' ) </dev/null``.

The one thing that tells a script from one with a shell of its own is ``$$``, which is the number of the shell
that stays.
"""

import shlex
from collections.abc import Mapping, Sequence

from flame.executor_manager.services.warm import Bounds, WarmInterpreter


class WarmShell(WarmInterpreter):
    """One ``sh``."""

    def __init__(self, program: str, environment: Mapping[str, str], bounds: Bounds) -> None:
        super().__init__(program, ["sh"], environment, bounds)

    def command_of(
        self, script: str, arguments: Sequence[str], stdin: str, variables: Mapping[str, str]
    ) -> bytes:
        own = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        given = f"set -- {shlex.join(arguments)}; " if arguments else ""
        return (
            f"( export {own}; {given}eval {shlex.quote(script)}\n) <{shlex.quote(stdin)}\n"
            "echo $? >&0\n"
        ).encode()
