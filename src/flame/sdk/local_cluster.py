"""A whole cluster on this machine, owned by this process: what ``flame up`` runs, and what a client
that has no cluster configured gets.

    LocalCluster ──starts, watches, restarts──▶ session manager
                 ──────────────────────────────▶ executor manager ──▶ executors

Both are the programs of any other deployment, on loopback, with a token that only this user can read.
One that dies is started again, after a back-off, with the same port, token and database. They watch
this process themselves, so they end with it even when it is killed.
"""

import fcntl
import json
import logging
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flame.model.errors import FlameError, InvalidRequest, Unavailable
from flame.runtime.backoff import Backoff
from flame.wire.channels import Endpoint

_log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  # seconds from the start of a process to its ready line
STOP_GRACE = 10.0  # seconds from SIGTERM to SIGKILL
PORT_TRIES = 5  # another program may take the port that we picked before our child does
STEADY = 30.0  # seconds after which a restart counts as a success

Readiness = Mapping[str, Any]


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
        self._listen = Endpoint.parse(listen)
        self._storage = storage
        self._anonymous = anonymous
        self._config = [] if config is None else ["--config", os.path.abspath(config)]
        self._directory = _Directory(directory)
        self._stopping = threading.Event()
        self._children: list[_Child] = []
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
                except _PortTaken:
                    if self._listen.port or attempt == PORT_TRIES:
                        raise
            for child in self._children:
                keeper = threading.Thread(
                    target=self._keep, args=(child,), name=f"flame-keep-{child.name}", daemon=True
                )
                self._keepers.append(keeper)
                keeper.start()
        except BaseException:
            self.stop(grace=1.0)
            raise

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Stop both: each politely, and after ``grace`` seconds not so. Safe to call twice."""
        self._stopping.set()
        # The executor manager first, and alone: what its executors are about may still be stored.
        for child in reversed(self._children):
            child.terminate()
            child.end(time.monotonic() + grace)
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
        picked = Endpoint(wanted.host, wanted.port or _free_port(wanted.host), tls=False)
        manager = _Child("session-manager", self._manager_command(picked), self.directory)
        self._children = [manager]
        if self._executors != 0:
            node = _Child("executor-manager", self._node_command(str(picked)), self.directory)
            self._children.append(node)
        try:
            for child in self._children:
                child.start()
            deadline = time.monotonic() + START_TIMEOUT
            self.endpoint = str(manager.wait_ready(deadline)["endpoint"])
            for child in self._children[1:]:
                child.wait_ready(deadline)
        except BaseException:
            for child in self._children:
                child.terminate()
                child.end(time.monotonic())
                child.close()
            raise

    def _manager_command(self, where: Endpoint) -> list[str]:
        storage = self._storage or f"sqlite://{self.directory / 'flame.db'}"
        command = ["-m", "flame.session_manager", "--listen", where.target, "--storage", storage]
        command += ["--token-file", str(self.token_file), "--die-with-parent", *self._config]
        return [*command, "--anonymous"] if self._anonymous else command

    def _node_command(self, endpoint: str) -> list[str]:
        command = ["-m", "flame.executor_manager", "--endpoint", endpoint]
        command += ["--token-file", str(self.token_file), "--node", socket.gethostname()]
        command += ["--directory", str(self.directory / "node"), "--die-with-parent", *self._config]
        return (
            command if self._executors is None else [*command, "--executors", str(self._executors)]
        )

    def _keep(self, child: "_Child") -> None:
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


class _PortTaken(Unavailable):
    """The session manager found its port in use."""


class _Child:
    """One child process, its log and its ready line."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._command = [sys.executable, *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_fd = -1
        self._log_start = 0
        self._started = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def age(self) -> float:
        return time.monotonic() - self._started

    def start(self) -> None:
        self.close()
        self._ready_fd, theirs = os.pipe()
        try:
            with open(self.log, "ab") as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [*self._command, "--ready-fd", str(theirs)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs,),
                    env=_environment(),
                    # A Ctrl-C in the terminal is for us; we stop our children in order.
                    start_new_session=True,
                )
        finally:
            os.close(theirs)
        self._started = time.monotonic()

    def wait_ready(self, deadline: float) -> Readiness:
        """Return the ready line; raise with the log's last lines if there is none."""
        line = b""
        ready = select.poll()  # select() knows no file beyond the 1024th
        ready.register(self._ready_fd, select.POLLIN)
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            readable = ready.poll(left * 1000)
            chunk = os.read(self._ready_fd, 4096) if readable else b""
            if not chunk:
                raise self._did_not_start(timed_out=not readable)
            line += chunk
        self.close()
        answer: Readiness = json.loads(line)
        return answer

    def _did_not_start(self, *, timed_out: bool) -> FlameError:
        if timed_out:
            what = f"was not ready within {START_TIMEOUT:g} s"
        else:
            code = self._process and self._process.wait()  # it closed the pipe: it ends
            what = f"ended at its start with exit code {code}"
        said = self._last_lines()
        text = f"the {self.name} {what}; it wrote (in {self.log}):\n{said}"
        return (_PortTaken if "in use" in said else Unavailable)(text)

    def _last_lines(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(max(self._log_start, os.fstat(log.fileno()).st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-12:]) or "    (nothing)"

    def wait(self) -> int:
        return self._process.wait() if self._process else 0

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for the end of a terminated process; kill it at the deadline."""
        if self._process is not None:
            try:
                self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("process-killed name=%s pid=%d", self.name, self.pid)
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """Close the pipe of the ready line; nobody may be in :meth:`wait_ready`."""
        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1


class _Directory:
    """A given directory, or a private temporary one that is removed at the end.

    A temporary directory is locked while its owner lives, so that whoever comes later can tell
    which were left behind by a killed process, and remove those.
    """

    PREFIX = "flame-cluster-"

    def __init__(self, given: str | os.PathLike[str] | None) -> None:
        self._given = None if given is None else Path(given).expanduser().absolute()
        self._made: Path | None = None
        self._lock_fd = -1

    @property
    def path(self) -> Path:
        if self._given is not None:
            return self._given
        if self._made is None:
            self._made = Path(tempfile.mkdtemp(prefix=self.PREFIX))
        return self._made

    def take(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._given is None:
            self._lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            self._remove_abandoned()

    def leave(self) -> None:
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _remove_abandoned(self) -> None:
        for path in self.path.parent.glob(self.PREFIX + "*"):
            try:
                if path == self.path or path.stat().st_uid != os.getuid():
                    continue
                fd = os.open(path / "lock", os.O_RDWR)
            except OSError:
                continue  # gone, or just being made: not ours to judge
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            except OSError:
                pass  # its owner lives
            finally:
                os.close(fd)


def make_token(path: Path) -> None:
    """Write a new token to a file that only this user can read, unless there is one."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with open(fd, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """Return our environment, with what we can import importable for services too."""
    library = sysconfig.get_path("platstdlib")
    own = {sysconfig.get_path("stdlib"), library, os.path.join(library, "lib-dynload")}
    ours = [
        os.path.abspath(path)
        for path in sys.path
        if path not in own
        and os.path.basename(path) not in ("site-packages", "dist-packages")
        and not path.endswith(".zip")
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(ours))}
