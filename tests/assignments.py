"""Assignments, as an executor process gets one, for tests that are such a process."""

from pathlib import Path
from typing import Any

from flame.executor_manager.assignment import Assignment


def assigned(directory: Path, **given: Any) -> Assignment:
    """Everything it names is in the directory, and its session manager is not there."""
    said: dict[str, Any] = {
        "executor": "e1",
        "incarnation": 1,
        "node": "n1",
        "endpoint": "http://127.0.0.1:1",
        "ca_file": None,
        "credential": "x.y.z",
        "directory": str(directory),
        "cell": str(directory / "cell"),
        "socket": str(directory / "s"),
        "max_output_bytes": 1000,
    }
    return Assignment(**{**said, **given})
