"""How tests wait: for a named condition, with a limit that only a failure reaches."""

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Ask again and again until the condition holds.

    Raises:
        AssertionError: It did not within ``timeout`` seconds; the text names it.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.01)
