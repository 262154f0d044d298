"""A session manager and one node, as processes, open to clients that cannot send a token."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compatibility.released import released_python

PATIENCE = 60.0  # seconds


class Cluster:
    """Two executors on loopback, and a way to kill and restart the session manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.endpoint = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._manager: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._start_manager("127.0.0.1:0")
        token = str(self.directory / "token")
        self._start(
            "flame.executor_manager",
            *("--endpoint", self.endpoint, "--token-file", token),
            *("--node", "n1", "--executors", "2", "--directory", str(self.directory / "work")),
        )

    def kill_manager(self) -> None:
        """``kill -9``."""
        assert self._manager is not None
        self._manager.kill()
        self._manager.wait(PATIENCE)

    def restart_manager(self) -> None:
        """On the same address and the same database."""
        self._start_manager(self.endpoint)

    def _start_manager(self, listen: str) -> None:
        ready, self._manager = self._start(
            "flame.session_manager",
            *("--listen", listen, "--storage", f"sqlite://{self.directory}/flame.db"),
            *("--token-file", str(self.directory / "token"), "--anonymous"),
        )
        self.endpoint = ready["endpoint"]

    def _start(self, module: str, *options: str) -> tuple[dict[str, str], subprocess.Popen[bytes]]:
        reading, writing = os.pipe()
        with (self.directory / f"{module}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    module,
                    *options,
                    "--die-with-parent",
                    "--ready-fd",
                    str(writing),
                ],
                cwd=self.directory,
                env=os.environ | {"FLAME_CONFIG_DIR": str(self.directory)},
                pass_fds=[writing],
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        os.close(writing)
        with os.fdopen(reading) as file:
            assert select.select([file], [], [], PATIENCE)[0], f"{module}: not ready in time"
            line = file.readline()
        assert line, (self.directory / f"{module}.log").read_text()
        return json.loads(line), process

    def run_released(self, script: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a client script in the released SDK's environment."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "FLAME_ENDPOINT": self.endpoint,
        }
        return subprocess.Popen(
            [released_python(), "-u", "-c", script, *arguments],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def released(self, script: str, *arguments: str) -> object:
        """Run a client script; return the JSON that it prints last."""
        client = self.run_released(script, *arguments)
        try:
            out, err = client.communicate(timeout=PATIENCE)
        finally:
            client.kill()
        assert client.returncode == 0, f"{err}\n{self.logs()}"
        return json.loads(out.splitlines()[-1])

    def logs(self) -> str:
        """The ends of the cluster's logs, for a failure's message."""
        return "\n".join(path.read_text()[-4000:] for path in self.directory.glob("*.log"))

    def stop(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()
