"""A cluster with two session managers on one PostgreSQL: one leads, the other stands by."""

import time
from pathlib import Path

import grpc
import psycopg

from flame.sdk.child import START_TIMEOUT, Child
from flame.sdk.local_cluster import free_port
from flame.wire import v1
from flame.wire.channels import Endpoint, bearer
from tests.chaos.cluster import MANAGER, NODE, ChaosCluster

SECOND = "session-manager-2"
PATIENCE = 2.0  # seconds for one answer of a manager that may be stopped


class StandbyCluster(ChaosCluster):
    """Both session managers are started again when they end, as a machine's supervisor would."""

    def __init__(
        self, directory: Path, executors: int, storage: str, bug: str | None = None
    ) -> None:
        super().__init__(directory, executors, bug)
        self.storage = storage
        self.restarts = {MANAGER: [], SECOND: [], NODE: []}
        self.addresses: dict[str, Endpoint] = {}

    def _start_on(self, wanted: Endpoint) -> None:
        for name in (MANAGER, SECOND):
            self.addresses[name] = Endpoint(wanted.host, free_port(wanted.host), tls=False)
        self.endpoint = ",".join(str(endpoint) for endpoint in self.addresses.values())
        commands = {name: self._manager_command(where) for name, where in self.addresses.items()}
        commands[NODE] = self._node_command(self.endpoint)
        self._children = [
            Child(name, command, self.directory) for name, command in commands.items()
        ]
        deadline = time.monotonic() + START_TIMEOUT
        for child in self._children:  # one after the other: the first one leads
            child.start()
            child.wait_ready(deadline)

    def _manager_command(self, where: object) -> list[str]:
        command = super()._manager_command(where)
        command[command.index("--storage") + 1] = self.storage
        return [*command, "--standby"]

    def leader(self) -> str:
        """Return the name of the one that leads now; empty: none does."""
        return next((name for name in self.addresses if self.sessions(name) is not None), "")

    def sessions(self, name: str) -> dict[str, int] | None:
        """Return the sessions that this one knows, and how many tasks of each it says succeeded.

        None: it does not answer, or says that it does not lead.
        """
        method = v1.FRONTEND["ListSession"]
        with grpc.insecure_channel(self.addresses[name].target) as channel:
            call = channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=v1.SessionList.FromString,
            )
            try:
                found = call(v1.ListSessionRequest(), metadata=bearer(self.token), timeout=PATIENCE)
            except grpc.RpcError:
                return None
        return {each.metadata.name: each.status.succeed for each in found.sessions}

    def look_elsewhere(self) -> None:
        """Have the leader look as if it ran on another machine: its death cannot be seen there."""
        with psycopg.connect(self.storage, autocommit=True) as database:
            database.execute("UPDATE flame.lease SET process = 'elsewhere 1'")

    def epoch(self) -> int:
        """Return how often somebody has begun to lead."""
        with psycopg.connect(self.storage, autocommit=True) as database:
            found = database.execute("SELECT epoch FROM flame.lease").fetchone()
        assert found is not None
        number: int = found[0]
        return number

    def log_of(self, name: str) -> str:
        """Return what one of them wrote."""
        return (self.directory / f"{name}.log").read_text()
