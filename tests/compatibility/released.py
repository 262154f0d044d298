"""The released Python SDK, in an environment of its own (``make test`` makes it)."""

import os
from pathlib import Path

VARIABLE = "FLAME_TEST_FLAMEPY_PYTHON"
MADE = Path(__file__).parents[2] / ".venv-flamepy/bin/python"


def released_python() -> str:
    """The interpreter that has flamepy 0.6.0 and no flame."""
    path = os.environ.get(VARIABLE) or str(MADE)
    if not Path(path).exists():
        raise AssertionError(
            f"{VARIABLE} is {path!r}, not a Python that has flamepy==0.6.0; "
            "run these tests by `make test`, which makes one and sets it"
        )
    return path
