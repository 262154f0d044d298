"""What the manager asks a process to do for a package, in a file beside what it works on."""

import os
import stat
from pathlib import Path

import msgspec

from flame.executor_manager.packages import BadPackage

_RESULT = ".result"
_DONE = ".done"
MOST_SAID = 16 * 1024  # bytes of a reason


class InstallJob(msgspec.Struct, frozen=True):
    """Make a release of an archive.

    Attributes:
        archive: The file; its name is the one it was deployed under.
        release: The directory of the release, which exists.
        installer: ``python`` or ``binary``.
        cache: Where what an installer downloads is kept; of this tenant alone.
    """

    archive: str
    release: str
    installer: str
    cache: str
    max_bytes: int
    max_entries: int


class CheckJob(msgspec.Struct, frozen=True):
    """See whether an application would start: its module is imported, its program is there.

    Attributes:
        entry_point: Of a Python service; empty for a program.
        command: The program; empty for a Python service.
    """

    entry_point: str
    command: str


def write_job(path: Path, job: InstallJob | CheckJob) -> None:
    """Write a job to a file."""
    path.write_bytes(msgspec.json.encode(job))


def read_job(path: str, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Read a job from its file."""
    with open(path, "rb") as file:
        return msgspec.json.decode(file.read(), type=kind)


def fail(path: str, error: BadPackage) -> None:
    """Leave the reason why a job could not be done."""
    result = path + _RESULT
    with open(result + ".part", "w") as file:
        file.write(str(error))
    os.replace(result + ".part", result)


def succeed(path: str) -> None:
    """Say that a job is done: an exit code alone could be the package's own."""
    Path(path + _DONE).touch()


def is_done(path: Path) -> bool:
    """Whether the job has been done."""
    return os.path.exists(f"{path}{_DONE}")


def failure(path: Path) -> str:
    """Return the reason that a job left; empty: it left none."""
    # The process may have been another user's: nothing that it put there is followed.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(f"{path}{_RESULT}", flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                return ""
            return file.read(MOST_SAID).decode("utf-8", "replace")
    except OSError:
        return ""
