"""Where executors work: the files and directories of a node's processes.

<directory>/<executor>/                    its own, and where its service runs
<directory>/<executor>-<incarnation>.cell  what it runs now
<directory>/<executor>-<incarnation>.out   what it wrote; kept for a while after its end
<directory>/<executor>-<incarnation>.err
<directory>/<executor>-<incarnation>.out.1  what it wrote before that, if it wrote much
<sockets>/<number>/                        short: for sockets, and temporary files if need be
"""

import asyncio
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flame.executor_manager.accounts import Account
from flame.executor_manager.cell import Running
from flame.executor_manager.output_files import excerpt_since, piece_of
from flame.wire.frames import Output, ReadOutput

log = logging.getLogger(__name__)

KEPT_OUTPUTS = 200  # of executors that have ended; older ones are deleted
PIECE = 256 * 1024  # bytes of each stream that are read at a time
MOST_OUTPUT = 16 * 1024 * 1024  # bytes in a file before it is rotated
SOCKET_PATH_LIMIT = 100  # characters; the kernel allows 107
#: What multiprocessing adds to a temporary directory for a socket.
_LISTENER = "/pymp-xxxxxxxx/listener-xxxxxxxx"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What one executor has to itself.

    Attributes:
        name: Of its files.
        directory: Where its service runs unless the application says; shared by its incarnations.
        private: A short one for sockets, of this process alone.
        temporary: For temporary files; in one of the two.
    """

    name: str
    directory: str
    private: str
    temporary: str
    cell: str
    socket: str


class Workplaces:
    """Makes, names and removes them.

    Args:
        directory: The executor manager's; absolute.
        sockets: A directory with a short path.
        shared: Whether other users' executors work here: they may pass through, and see no names.
    """

    def __init__(self, directory: str, sockets: str, shared: bool = False) -> None:
        self._directory = directory
        self._sockets = sockets
        self._numbers = 0
        if shared:
            for path in (directory, sockets):
                os.chmod(path, 0o711)  # noqa: S103 - to enter, not to list
        self._outputs: deque[str] = deque()

    def sweep(self) -> None:
        """Remove what a manager that was killed left here."""
        for pattern in ("spare-*", "zygote-*", "*.cell"):
            for stale in Path(self._directory).glob(pattern):
                stale.unlink(missing_ok=True)
        for stale in (*Path(self._directory).glob("*.gone"), *Path(self._sockets).iterdir()):
            shutil.rmtree(stale, ignore_errors=True)

    def open_output(self, name: str, kind: str) -> BinaryIO:
        """Open a process's ``out`` or ``err``."""
        # Appending, so that a service which truncates or reopens it does not leave holes.
        return open(self.path(name, kind), "ab", opener=_private)

    def prepare(self, executor: str, incarnation: int, owner: Account | None) -> Workplace:
        """Make a process's workplace.

        Raises:
            OSError: It cannot be made.
        """
        name = f"{executor}-{incarnation}"
        self._numbers += 1
        directory = os.path.join(self._directory, executor)
        private = os.path.join(self._sockets, str(self._numbers))
        temporary = os.path.join(directory, "tmp")
        if len(temporary) + len(_LISTENER) > SOCKET_PATH_LIMIT:
            temporary = os.path.join(private, "tmp")
        cell = self.path(name, "cell")
        for path in (directory, private, temporary):
            os.makedirs(path, mode=0o700, exist_ok=True)
        open(cell, "ab", opener=_private).close()
        _give((directory, private, temporary, cell), owner)
        socket = os.path.join(private, f"{executor}.sock")
        return Workplace(name, directory, private, temporary, cell, socket)

    def adopt_outputs(self, spare: str, name: str, owner: Account | None) -> list[str]:
        """Give the output of a process its name; returns its paths.

        Raises:
            OSError: It cannot be renamed.
        """
        paths = [self.path(name, kind) for kind in ("out", "err")]
        for kind, path in zip(("out", "err"), paths, strict=True):
            os.replace(self.path(spare, kind), path)
        _give(paths, owner)
        return paths

    def clear(self, place: Workplace) -> None:
        """Remove what a process that has ended had to itself; its output stays for a while."""
        Path(place.cell).unlink(missing_ok=True)
        _remove_soon(place.private)
        self._outputs.append(place.name)
        while len(self._outputs) > KEPT_OUTPUTS:
            self.delete_output(self._outputs.popleft())

    def leave(self, executor: str, name: str) -> None:
        """Remove an executor's directory: no incarnation of it lives."""
        gone = self.path(name, "gone")
        try:
            # The name is free at once: the executor's next incarnation may start right now.
            os.rename(os.path.join(self._directory, executor), gone)
        except OSError as error:
            log.warning("directory-kept executor=%s error=%s", executor, error)
        else:
            _remove_soon(gone)

    def rotate(self, name: str) -> None:
        """Begin the files of a process's output anew, if they are large; the end of the old is kept.

        The process goes on with the same files. What it writes between the copy and the cut is lost.
        """
        for kind in ("out", "err"):
            path = self.path(name, kind)
            with suppress(FileNotFoundError), open(path, "rb") as current:
                size = os.fstat(current.fileno()).st_size
                if size <= MOST_OUTPUT:
                    continue
                with open(f"{path}.1", "wb", opener=_private) as before:
                    current.seek(size - MOST_OUTPUT)
                    shutil.copyfileobj(current, before)
                os.truncate(path, 0)

    def log_of(self, name: str, running: Running) -> tuple[bytes, bytes]:
        """Return what the task that a process runs, or ran when it died, has written so far."""
        stdout = excerpt_since(self.path(name, "out"), running.stdout)
        return stdout, excerpt_since(self.path(name, "err"), running.stderr)

    def ended(self, executor: str, incarnation: int) -> str:
        """Return the name of an ended process's output if it is still here; incarnation 0: the newest."""
        if incarnation:
            name = f"{executor}-{incarnation}"
            return name if name in self._outputs else ""
        mine = (name for name in reversed(self._outputs) if name.rpartition("-")[0] == executor)
        return next(mine, "")

    def read_output(self, name: str, order: ReadOutput, running: Running | None) -> Output:
        """Return pieces of what a process has written; of a task it runs, no earlier than that."""
        kinds = ("out.1", "err.1") if order.rotated else ("out", "err")
        begins = (running.stdout, running.stderr) if running is not None else (0, 0)
        pieces = [
            piece_of(self.path(name, kind), begin, start, PIECE)
            for kind, start, begin in zip(
                kinds, (order.stdout_from, order.stderr_from), begins, strict=True
            )
        ]
        (stdout, stdout_end), (stderr, stderr_end) = pieces
        return Output(stdout=stdout, stderr=stderr, stdout_end=stdout_end, stderr_end=stderr_end)

    def delete_output(self, name: str) -> None:
        """Delete what a process wrote."""
        for kind in ("out", "err", "out.1", "err.1"):
            Path(self.path(name, kind)).unlink(missing_ok=True)

    def path(self, name: str, kind: str) -> str:
        """Return the path of a process's file of this kind."""
        return os.path.join(self._directory, f"{name}.{kind}")


def _remove_soon(directory: str) -> None:
    asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, directory, True)


def _give(paths: Iterable[str], owner: Account | None) -> None:
    """Let a user own these; a link that an earlier process of theirs left is not followed."""
    if owner is not None:
        for path in paths:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def socket_directory(directory: str) -> str:
    """Return a directory whose sockets have paths short enough for the kernel.

    The caller removes it if it is not below ``directory``. FLAME_SOCKET_DIR names where it is made
    when that has too long a path.
    """
    longest = len("/123456/00000000-0000-0000-0000-000000000000.sock")
    own = os.path.join(directory, "sockets")
    if len(own) + longest < SOCKET_PATH_LIMIT:
        os.makedirs(own, mode=0o700, exist_ok=True)
        return own
    return tempfile.mkdtemp(prefix="flame-", dir=os.environ.get("FLAME_SOCKET_DIR"))
