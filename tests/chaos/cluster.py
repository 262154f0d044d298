"""A cluster whose processes are killed all the time: started again at once, and watched."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from flame.model.errors import FlameError
from flame.sdk.child import START_TIMEOUT, Child
from flame.sdk.local_cluster import LocalCluster

MANAGER = "session-manager"
NODE = "executor-manager"
DEAD = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


class ChaosCluster(LocalCluster):
    """A LocalCluster without a pause before restarts.

    Args:
        bug: The name of a bug of ``flame.testing.planted`` that its session manager has.
        database: Where its tasks are stored; a file in the directory by default.
        module: Runs in the place of ``flame.session_manager``.

    Attributes:
        restarts: Seconds from the end of each process to the ready line of its successor.
        storage: The URL of its database.
    """

    def __init__(
        self,
        directory: Path,
        executors: int,
        bug: str | None = None,
        *,
        database: Path | None = None,
        module: str | None = None,
    ) -> None:
        self.storage = f"sqlite://{database or directory / 'flame.db'}"
        super().__init__(executors=executors, directory=directory, storage=self.storage)
        self.bug = bug
        self._module = module
        self.restarts: dict[str, list[float]] = {MANAGER: [], NODE: []}

    def _manager_command(self, where: "object") -> list[str]:
        command = super()._manager_command(where)  # type: ignore[arg-type]
        assert command[:2] == ["-m", "flame.session_manager"]
        if self.bug is None:
            return command if self._module is None else ["-m", self._module, *command[2:]]
        return ["-m", "tests.chaos.planted_manager", self.bug, *command[2:]]

    def _keep(self, child: Child) -> None:
        while True:
            child.wait()
            if self._stopping.is_set():
                return
            ended = time.monotonic()
            try:
                child.start()
                if self._stopping.is_set():
                    child.terminate()
                child.wait_ready(time.monotonic() + START_TIMEOUT)
            except (FlameError, OSError) as error:
                sys.stderr.write(f"{child.name} did not restart: {error}\n")
                child.terminate()
                time.sleep(0.2)
            else:
                self.restarts[child.name].append(time.monotonic() - ended)

    def kill(self, name: str = "") -> None:
        """Kill one of its processes, or everything at once."""
        if not name:
            super().kill()
            return
        os.kill(self.pids[name], signal.SIGKILL)

    def executors(self) -> list[psutil.Process]:
        """Return the executor processes that run now, the spare ones too."""
        found: list[psutil.Process] = []
        try:
            below = psutil.Process(self.pids[NODE]).children(recursive=True)
        except DEAD:
            return []
        for process in below:
            try:
                if process.name() == "flame-executor":
                    found.append(process)
            except DEAD:
                continue
        return found

    def processes(self) -> dict[int, float]:
        """Return pid and birth of all that run on its node, known by its directory."""
        mark = os.fsencode(self.directory / "node")
        found: dict[int, float] = {}
        for process in psutil.process_iter():
            try:
                with open(f"/proc/{process.pid}/environ", "rb") as file:
                    environment = file.read()
                with open(f"/proc/{process.pid}/cmdline", "rb") as file:
                    command = file.read()
                where = os.fsencode(os.readlink(f"/proc/{process.pid}/cwd"))
                if mark in environment or mark in command or where.startswith(mark):
                    found[process.pid] = process.create_time()
            except (OSError, *DEAD):
                continue
        return found


def still_alive(known: dict[int, float]) -> list[int]:
    """Return which of these processes are still there."""
    alive: list[int] = []
    for pid, birth in known.items():
        try:
            process = psutil.Process(pid)
            if process.create_time() == birth and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except DEAD:
            continue
    return alive
