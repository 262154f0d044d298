"""From a directory to a package: which files go in, and an archive that depends on them only.

The same content gives the same bytes: entries are sorted and carry neither times nor owners. So a
package is uploaded once, and a node that has it does nothing.
"""

import fnmatch
import gzip
import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from flame.model.errors import InvalidRequest
from flame.model.packages import BINARY, PYTHON
from flame.runtime.archives import BadArchive, check, reading

#: Never packed: histories, caches, environments and builds are no part of a program.
EXCLUDES = (
    ".git",
    ".hg",
    ".svn",
    ".tox",
    ".nox",
    ".idea",
    ".vscode",
    ".DS_Store",
    ".venv",
    "venv",
    "__pycache__",
    "*.py[co]",
    ".*_cache",
    ".hypothesis",
    "*.egg-info",
    "node_modules",
)
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".whl")
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One entry: its path within the package, its size, and for a link where it points."""

    path: str
    size: int
    executable: bool
    link: str | None = None


@dataclass(slots=True)
class PackList:
    """What of a directory, or of a single file, goes into a package.

    Attributes:
        root: The directory.
        files: By path.
        excluded: What was left out: directories stand for all that is in them.
    """

    root: Path
    files: list[PackedFile] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)


def list_files(path: Path, excludes: Iterable[str] = ()) -> PackList:
    """List what goes into a package made of a directory or a single file.

    Args:
        path: The directory or file.
        excludes: Patterns like ``*.csv`` or ``data/raw``, besides the usual ones.

    Raises:
        InvalidRequest: There is nothing, or something that cannot be packed: a link that leads out
            of the directory, a device, a file that cannot be read.
    """
    if path.is_file():
        found = PackList(path.parent)
        found.files.append(_file(path, path.name))
        return found
    if not path.is_dir():
        raise InvalidRequest(f"{path} is neither a directory nor a file")
    found = PackList(path)
    _walk(found, "", (*EXCLUDES, *excludes))
    if not found.files:
        raise InvalidRequest(f"{path} holds no file to pack")
    return found


def _walk(found: PackList, below: str, excludes: tuple[str, ...]) -> None:
    try:
        entries = sorted(os.scandir(found.root / below), key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidRequest(f"{found.root / below}: {error.strerror}") from error
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if any(
            fnmatch.fnmatchcase(entry.name, p) or fnmatch.fnmatchcase(path, p) for p in excludes
        ):
            found.excluded.append(path)
        elif entry.is_symlink():
            found.files.append(_link(found.root, path))
        elif entry.is_dir():
            if os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                found.excluded.append(path)  # an environment, whatever its name
            else:
                _walk(found, path, excludes)
        else:
            found.files.append(_file(Path(entry.path), path))


def _file(file: Path, path: str) -> PackedFile:
    try:
        found = file.stat()
    except OSError as error:
        raise InvalidRequest(f"{file}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidRequest(f"{file} is no regular file; exclude it (--exclude {path})")
    return PackedFile(path, found.st_size, bool(found.st_mode & stat.S_IXUSR))


def _link(root: Path, path: str) -> PackedFile:
    target = os.readlink(root / path)
    place = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or place == ".." or place.startswith(".." + os.sep):
        raise InvalidRequest(
            f"{root / path} is a link to {target}, which is outside of {root}: a node could not "
            f"follow it. Replace it with the file, or exclude it (--exclude {path})"
        )
    return PackedFile(path, 0, False, target)


def write_archive(listed: PackList, out: BinaryIO) -> None:
    """Write the package, a .tar.gz, of what was listed.

    Raises:
        InvalidRequest: A file has changed its size, or cannot be read any more.
    """
    with (
        # No name and no time: both would be in the archive's head.
        gzip.GzipFile("", "wb", 6, out, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in listed.files:
            entry = tarfile.TarInfo(file.path)
            entry.mode = 0o755 if file.executable else 0o644
            if file.link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
                archive.addfile(entry)
                continue
            entry.size = file.size
            try:
                with open(listed.root / file.path, "rb") as content:
                    archive.addfile(entry, content)
            except OSError as error:  # tarfile's own, when it is shorter than it was, among them
                raise InvalidRequest(
                    f"{listed.root / file.path} cannot be packed: {error.strerror or error}"
                ) from error


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that is ready to be sent."""

    archive: Path
    name: str
    sha256: str
    size: int


#: Told how many bytes of how many have been sent.
Progress = Callable[[int, int], None]


def no_progress(_sent: int, _size: int) -> None:
    """For who does not want to know."""


@contextmanager
def packed(path: Path, excludes: Iterable[str] = ()) -> Iterator[Packed]:
    """Pack a directory or a file, for as long as the block lasts; an archive is taken as it is.

    Raises:
        InvalidRequest: See ``list_files``, ``write_archive`` and ``check_archive``.
    """
    if is_archive(path):
        check_archive(path)
        yield _as_packed(path, path.name)
        return
    listed = list_files(path, excludes)
    with tempfile.TemporaryDirectory(prefix="flame-pack-") as directory:
        archive = Path(directory) / "package"
        with archive.open("wb") as out:
            write_archive(listed, out)
        yield _as_packed(archive, f"{path.resolve().name}.tar.gz")


def _as_packed(archive: Path, name: str) -> Packed:
    try:
        with archive.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Packed(archive, name, sha256, file.tell())
    except OSError as error:
        raise InvalidRequest(f"{archive}: {error.strerror}") from error


def check_archive(path: Path) -> None:
    """Make sure that nodes can unpack an archive, before it is sent.

    Raises:
        InvalidRequest: They cannot; the text says why.
    """
    try:
        check(path)
    except BadArchive as error:
        raise InvalidRequest(f"{path}: {error}") from error


def is_archive(path: Path) -> bool:
    """Whether a file is a package already, by its name."""
    return path.is_file() and path.name.endswith(ARCHIVES)


def find_installer(path: Path) -> str:
    """Return the installer for a directory, archive or file: ``python`` for projects and modules.

    Raises:
        InvalidRequest: It cannot be read.
    """
    names = _top_names(path)
    python = any(name in _PROJECT_FILES or name.endswith((".py", ".whl")) for name in names)
    return PYTHON if python else BINARY


def _top_names(path: Path) -> set[str]:
    """The names at the top; a single directory there, as in source releases, is looked into."""
    if path.is_dir():
        return set(os.listdir(path))
    if not is_archive(path) or path.suffix == ".whl":
        return {path.name}
    names = [name.removeprefix("./") for name in names_in(path)]
    tops = {name.partition("/")[0] for name in names} - {""}
    if len(tops) == 1 and any("/" in name for name in names):
        tops = {name.split("/")[1] for name in names if "/" in name}
    return tops - {""}


def names_in(path: Path) -> list[str]:
    """Return the paths in a tar archive, compressed or not, a zip or a wheel.

    Raises:
        InvalidRequest: It is none of these, or damaged.
    """
    try:
        with reading(path) as entries:
            return [entry.path for entry in entries]
    except BadArchive as error:
        raise InvalidRequest(f"{path}: {error}") from error
