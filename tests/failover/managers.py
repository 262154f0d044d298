"""Several session managers on one PostgreSQL database, and a node that knows them all."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flame.sdk.child import child_environment
from flame.sdk.cluster_directory import make_token
from flame.sdk.local_cluster import free_port
from flame.wire.channels import Endpoint
from tests.waiting import wait_until

PATIENCE = 60.0  # seconds; the machine may be busy


class Manager:
    """One session manager that stands by or leads."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        self.name = name
        self.port = free_port("127.0.0.1")
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [
            *(sys.executable, "-m", "flame.session_manager", "--standby"),
            *("--listen", f"127.0.0.1:{self.port}", "--token-file", str(directory / "token")),
            *("--die-with-parent", *options),
        ]

    def start(self) -> "Manager":
        """Start it, and wait until it says that it leads or stands by."""
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, "--ready-fd", str(writing)],
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                env=child_environment(),
            )
        os.close(writing)
        with os.fdopen(reading) as file:
            assert select.select([file], [], [], PATIENCE)[0], f"{self.name} is not ready"
            line = file.readline()
        assert line, self.log.read_text()
        self.role: str = json.loads(line)["role"]
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and reap it as a supervisor would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def leads(self) -> bool:
        """Whether its health says so."""
        return self.health() == "SERVING"

    def health(self) -> str:
        """Return what it says of its health, or why it does not."""
        with grpc.insecure_channel(Endpoint.parse(self.endpoint).target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            token = (self.log.parent / "token").read_text().strip()
            try:
                answer = stub.Check(
                    health_pb2.HealthCheckRequest(),
                    timeout=2.0,
                    metadata=(("authorization", f"Bearer {token}"),),
                )
            except grpc.RpcError as error:
                return str(error.code().name)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


class Managers:
    """Two session managers, and what belongs to them."""

    def __init__(self, directory: Path, url: str, *options: str) -> None:
        self.directory = directory
        self.token_file = directory / "token"
        directory.mkdir(parents=True, exist_ok=True)
        make_token(self.token_file)
        self.all = [
            Manager(directory, name, "--storage", url, *options) for name in ("first", "second")
        ]
        self.endpoint = ",".join(manager.endpoint for manager in self.all)
        self._node: subprocess.Popen[bytes] | None = None

    def start(self, executors: int = 0) -> tuple[Manager, Manager]:
        """Start both, and a node; return the one that leads and the one that stands by."""
        first, second = (manager.start() for manager in self.all)
        if executors:
            self.start_node(executors)
        return first, second

    def start_node(self, executors: int) -> None:
        """Have a node join whoever leads."""
        with (self.directory / "node.log").open("ab") as log:
            self._node = subprocess.Popen(
                [
                    *(sys.executable, "-m", "flame.executor_manager", "--endpoint", self.endpoint),
                    *("--token-file", str(self.token_file), "--node", "n1", "--die-with-parent"),
                    *("--directory", str(self.directory / "node"), "--executors", str(executors)),
                ],
                stdout=log,
                stderr=log,
                env=child_environment(),
            )

    def leader(self, timeout: float = PATIENCE) -> Manager:
        """Wait until one of them leads, and return it."""
        found: list[Manager] = []

        def somebody_leads() -> bool:
            found[:] = [manager for manager in self.all if manager.process and manager.leads()]
            return bool(found)

        wait_until(somebody_leads, "a leader", timeout)
        return found[0]

    def stop(self) -> None:
        """End everything, whatever state it is in."""
        if self._node is not None:
            self._node.terminate()
            try:
                self._node.wait(20.0)
            except subprocess.TimeoutExpired:
                self._node.kill()
                self._node.wait()
        for manager in self.all:
            manager.kill()
