"""What a service finds around it: environment variables, a working directory, a place for modules.

A process that is bound again keeps nothing that the application of the binding before had asked for.
"""

import os
import sys
import tempfile
from collections.abc import Mapping

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.shims import ServiceUnusable
from flame.model.specs import ApplicationSpec

#: Numerical libraries and runtimes start a thread per core of the machine unless one of these is set.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    "JULIA_NUM_THREADS",
    "GOMAXPROCS",
    "PYTHON_CPU_COUNT",
)

#: The manager's own variables that services may see; all its other FLAME_* stay with it.
_PUBLIC_VARIABLES = (
    "FLAME_HOME",
    "FLAME_LOG",
    "FLAME_PYTHON_VERSION",
    "FLAME_SERVICE_START_TIMEOUT",
)


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what executors get of the manager's environment: all but its credentials.

    Services expect the manager's environment, with PATH, proxies and the like; but what configures
    or authorises Flame itself is not theirs. They run in directories of their own, so relative
    entries of PYTHONPATH are made absolute.
    """
    environment = {
        name: value
        for name, value in own.items()
        if not name.startswith("FLAME_") or name in _PUBLIC_VARIABLES
    }
    if environment.get("PYTHONPATH"):
        entries = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in entries)
    return environment


def thread_variables(cpus: int, own: Mapping[str, str]) -> dict[str, str]:
    """Return variables that keep libraries to so many CPUs; a part of one counts as one.

    What is in ``own``, the executor manager's environment, was set by its operator and stays.
    """
    return {name: str(max(1, cpus)) for name in THREAD_VARIABLES if name not in own}


def temporary_variables(directory: str) -> dict[str, str]:
    """Return variables that send temporary files to a directory."""
    return dict.fromkeys(("TMPDIR", "TEMP", "TMP"), directory)


class Surroundings:
    """The surroundings of one process, made anew for each binding."""

    def __init__(self, assignment: Assignment) -> None:
        os.environ.update(assignment.environment)
        tempfile.tempdir = None  # it remembers what it found once
        self._directory = assignment.directory
        self._before: dict[str, str | None] = {}  # what the application's variables replaced
        self._set: dict[str, str] = {}
        self._added: list[str] = []
        self._arranged: ApplicationSpec | None = None
        self._entered = ""  # the directory

    def arrange(self, application: ApplicationSpec) -> None:
        """Make them what this application asks for, and undo what the one before asked for.

        Raises:
            ServiceUnusable: Its working directory cannot be entered.
        """
        if application is self._arranged and self._is_untouched():
            return
        self._arranged = None
        self._restore()
        self._set = dict(application.environments)
        self._before = {name: os.environ.get(name) for name in self._set}
        os.environ.update(self._set)
        directory = application.working_directory or self._directory
        try:
            os.chdir(directory)
        except OSError as error:
            raise ServiceUnusable(
                f"working_directory {directory!r} cannot be entered on this node: {error.strerror}"
            ) from error
        # The interpreter read PYTHONPATH when it started, before it knew its application.
        paths = [path for path in self._set.get("PYTHONPATH", "").split(os.pathsep) if path]
        self._entered = os.getcwd()
        self._added = [path for path in (*paths, self._entered) if path not in sys.path]
        sys.path[:0] = self._added
        self._arranged = application

    def _is_untouched(self) -> bool:
        """Whether the service left everything as it was arranged for it."""
        try:
            is_there = os.getcwd() == self._entered
        except OSError:  # it was deleted
            return False
        return (
            is_there
            and sys.path[: len(self._added)] == self._added
            and all(os.environ.get(name) == value for name, value in self._set.items())
        )

    def _restore(self) -> None:
        """Take back what we did. What the service's own modules did stays: they are still loaded."""
        for name, value in self._set.items():
            if os.environ.get(name) == value:
                before = self._before[name]
                if before is None:
                    del os.environ[name]
                else:
                    os.environ[name] = before
        for path in self._added:
            if path in sys.path:
                sys.path.remove(path)
