"""A whole cluster on this machine, owned by this process: what ``flame up`` runs, and what a client
that has no cluster configured gets.

    LocalCluster ──starts, watches, restarts──▶ session manager
                 ──────────────────────────────▶ executor manager ──▶ executors

Both are the programs of any other deployment, on loopback, with a token that only this user can read.
One that dies is started again, after a back-off, with the same port, token and database. They watch
this process themselves, so they end with it even when it is killed.
"""

import logging
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from flame.model.errors import FlameError, InvalidConfiguration, InvalidRequest
from flame.runtime.backoff import Backoff
from flame.sdk.child import START_TIMEOUT, Child, PortTaken
from flame.sdk.cluster_directory import ClusterDirectory, make_token
from flame.wire.channels import Endpoint

_log = logging.getLogger(__name__)

STOP_GRACE = 10.0  # seconds from SIGTERM to SIGKILL
ABANDON_GRACE = 1.0  # the same, of processes that are not needed after all
PORT_TRIES = 5  # another program may take the port that we picked before our child does
STEADY = 30.0  # seconds after which a restart counts as a success


class LocalCluster:
    """A session manager and an executor manager as child processes.

    Args:
        executors: How many unit executors (1 CPU, 1 GiB) to offer; None: what this machine has;
            0: none, nodes may join from elsewhere.
        listen: ``host:port``; port 0 picks one.
        storage: ``memory`` or ``sqlite:///FILE``; None: a file in the directory.
        directory: Where the token, the database and the logs are; None: a private temporary one,
            removed at the end.
        anonymous: Let in callers without a token; on loopback only.
        config: A flame-cluster.yaml for both, with tenants, policies, and what the node offers; its
            endpoint and storage are not used.
    """

    def __init__(
        self,
        *,
        executors: int | None = None,
        listen: str = "127.0.0.1:0",
        storage: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        anonymous: bool = False,
        config: str | os.PathLike[str] | None = None,
    ) -> None:
        if executors is not None and executors < 0:
            raise InvalidRequest(f"executors is {executors}; it must be 0 or more")
        self._executors = executors
        try:
            self._listen = Endpoint.parse(listen)
        except InvalidConfiguration:
            raise InvalidRequest(
                f"listen is {listen!r}; it must be HOST:PORT, like 127.0.0.1:8080 (port 0: a free one)"
            ) from None
        self._storage = storage
        self._anonymous = anonymous
        self._config = [] if config is None else ["--config", os.path.abspath(config)]
        self._directory = ClusterDirectory(directory)
        self._stopping = threading.Event()
        self._children: list[Child] = []
        self._keepers: list[threading.Thread] = []
        self.endpoint = ""

    @property
    def directory(self) -> Path:
        """Where the token, the database and the logs are."""
        return self._directory.path

    @property
    def token_file(self) -> Path:
        """The file with the token; only this user can read it."""
        return self.directory / "token"

    @property
    def token(self) -> str:
        """The cluster's token."""
        return self.token_file.read_text(encoding="ascii").strip()

    @property
    def pids(self) -> dict[str, int]:
        """The pid of each process by its name: they change when one is restarted."""
        return {child.name: child.pid for child in self._children if child.pid}

    def start(self) -> None:
        """Start both, together, and return when both are ready.

        Raises:
            FlameError: One did not start; the text has the last lines it wrote.
        """
        try:
            self._directory.take()
            make_token(self.token_file)
            for attempt in range(1, PORT_TRIES + 1):
                try:
                    self._start_on(self._listen)
                    break
                except PortTaken:
                    if self._listen.port or attempt == PORT_TRIES:
                        raise
            for child in self._children:
                keeper = threading.Thread(
                    target=self._keep, args=(child,), name=f"flame-keep-{child.name}", daemon=True
                )
                self._keepers.append(keeper)
                keeper.start()
        except BaseException:
            self.stop(grace=ABANDON_GRACE)
            raise

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Stop both: each politely, and after ``grace`` seconds not so. Safe to call twice."""
        self._stopping.set()
        # Who gives less time has reason to, and has said or will say something of more use.
        late = logging.WARNING if grace >= STOP_GRACE else logging.DEBUG
        # The executor manager first, and alone: what its executors are about may still be stored.
        for child in reversed(self._children):
            child.terminate()
            child.end(time.monotonic() + grace, late=late)
        for keeper in self._keepers:
            if keeper is not threading.current_thread():
                keeper.join(timeout=5.0)
        for child in self._children:
            child.close()
        self._directory.leave()

    def kill(self) -> None:
        """Stop both at once."""
        self.stop(grace=0.0)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until :meth:`stop` was called; return whether it was."""
        return self._stopping.wait(timeout)

    def __enter__(self) -> "LocalCluster":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- parts ----------------------------------------------------------------------------------

    def _start_on(self, wanted: Endpoint) -> None:
        """Start both processes at once: the executor manager waits for the other by itself."""
        picked = Endpoint(wanted.host, wanted.port or free_port(wanted.host), tls=False)
        manager = Child("session-manager", self._manager_command(picked), self.directory)
        self._children = [manager]
        if self._executors != 0:
            node = Child("executor-manager", self._node_command(str(picked)), self.directory)
            self._children.append(node)
        try:
            for child in self._children:
                child.start()
            deadline = time.monotonic() + START_TIMEOUT
            self.endpoint = str(manager.wait_ready(deadline)["endpoint"])
            for child in self._children[1:]:
                child.wait_ready(deadline)
        except BaseException:
            # Interrupted, or one did not start: that is told already, and how the others end is not.
            for child in self._children:
                child.terminate()
            deadline = time.monotonic() + ABANDON_GRACE
            for child in self._children:
                child.end(deadline, late=logging.DEBUG)
                child.close()
            raise

    def _manager_command(self, where: Endpoint) -> list[str]:
        storage = self._storage or f"sqlite://{self.directory / 'flame.db'}"
        command = ["-m", "flame.session_manager", "--listen", where.target, "--storage", storage]
        command += ["--token-file", str(self.token_file), *self._config]
        return [*command, "--anonymous"] if self._anonymous else command

    def _node_command(self, endpoint: str) -> list[str]:
        command = ["-m", "flame.executor_manager", "--endpoint", endpoint]
        command += ["--token-file", str(self.token_file), "--node", socket.gethostname()]
        command += ["--directory", str(self.directory / "node"), *self._config]
        return (
            command if self._executors is None else [*command, "--executors", str(self._executors)]
        )

    def _keep(self, child: Child) -> None:
        """Start a child again whenever it ends, until the cluster stops."""
        backoff = Backoff(0.1, 5.0)
        while True:
            code = child.wait()
            if self._stopping.is_set():
                return
            if child.age > STEADY:
                backoff.reset()
            delay = backoff.next_delay()
            _log.warning(
                "process-ended name=%s exit=%s restart_in=%.2f log=%s",
                child.name, code, delay, child.log,
            )  # fmt: skip
            if self._stopping.wait(delay):
                return
            try:
                child.start()
                if self._stopping.is_set():  # stop() may have passed by before the start
                    child.terminate()
                child.wait_ready(time.monotonic() + START_TIMEOUT)
            except (FlameError, OSError) as error:
                _log.error("process-did-not-restart name=%s error=%s", child.name, error)
                child.terminate()


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
