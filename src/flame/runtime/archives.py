"""Archives that anybody may have made: what is in them, if it stays in one directory and is not too much.

``python -m flame.runtime.archives FILE`` reads one to its end, and says on stdout what is wrong with it:
in a process of its own, with bounded memory and time, since reading is as much work as its maker likes.
"""

import errno
import lzma
import os
import posixpath
import resource
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from flame.model.packages import ZIP_HEADS
from flame.model.resources import format_bytes
from flame.runtime.processes import be_killed_with_parent

MAX_BYTES = 8 * 1024 * 1024 * 1024
MAX_ENTRIES = 200_000
CHUNK = 1024 * 1024
LONGEST_LINK = 4096
#: A head in an archive may claim to be this large, and is read into memory as a whole.
MAX_MEMORY = 2 * 1024 * 1024 * 1024
#: What a process that checks one may take. An honest gibibyte takes ten.
MAX_CPU_SECONDS = 120

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # an encrypted zip
    MemoryError,
)


class BadArchive(Exception):
    """It cannot be used; the text says why, as something said of "the package"."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in an archive. Exactly one of the last three says what it is; none: a directory.

    Attributes:
        path: Within the directory, in its shortest form.
        copy_of: The path of a file that came before.
    """

    path: str
    executable: bool = False
    content: Callable[[], Iterator[bytes]] | None = None
    link: str | None = None
    copy_of: str | None = None


@contextmanager
def reading(
    archive: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES
) -> Iterator[Iterator[Entry]]:
    """Open a tar archive, compressed or not, or a zip. Each content is read before the next entry.

    Raises:
        BadArchive: It is none, is damaged, leads out of its directory, or is too large. Errors of the block
            that a damaged one may cause count as that.
        OSError: The block found a disk full.
    """
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) in ZIP_HEADS
        if is_zip:
            with zipfile.ZipFile(archive) as zipped:
                yield _checked(_zip_entries(zipped), max_bytes, max_entries)
        else:
            with tarfile.open(archive) as tar:
                yield _checked(_tar_entries(tar), max_bytes, max_entries)
    except tarfile.ReadError as error:
        why = str(error)
        detail = "" if "\n" in why else f": {why}"  # every way that was tried, a line each
        raise BadArchive(
            f"the package is no archive that can be read{detail}; allowed are .tar.gz, .tgz, .tar, "
            ".zip and .whl"
        ) from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # that is no fault of the archive
        raise BadArchive(f"the package's archive is damaged: {error}") from error


def check(archive: Path) -> None:
    """Read an archive to its end.

    Raises:
        BadArchive: See :func:`reading`.
    """
    with reading(archive) as entries:
        for entry in entries:
            if entry.content is not None:
                for _ in entry.content():
                    pass


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Keep this process from taking more than reading an honest archive does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@dataclass(frozen=True, slots=True)
class _Member:
    """An entry as its archive has it."""

    path: str
    executable: bool = False
    content: IO[bytes] | None = None
    link: str | None = None
    copy_of: str | None = None


def _tar_entries(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        if member.isreg():
            yield _Member(member.name, bool(member.mode & stat.S_IXUSR), tar.extractfile(member))
        elif member.isdir():
            yield _Member(member.name)
        elif member.issym():
            yield _Member(member.name, link=member.linkname)
        elif member.islnk():
            yield _Member(member.name, copy_of=member.linkname)
        else:
            raise BadArchive(
                f"the package holds {member.name!r}, which is a device or a pipe; files, "
                "directories and links are allowed"
            )


def _zip_entries(zipped: zipfile.ZipFile) -> Iterator[_Member]:
    for member in zipped.infolist():
        mode = member.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if member.is_dir():
            yield _Member(member.filename)
        elif kind == stat.S_IFLNK:
            with zipped.open(member) as content:
                yield _Member(member.filename, link=os.fsdecode(content.read(LONGEST_LINK)))
        elif kind in (0, stat.S_IFREG):
            with zipped.open(member) as content:
                yield _Member(member.filename, bool(mode & stat.S_IXUSR), content)
        else:
            raise BadArchive(f"the package holds {member.filename!r}, which is a device or a pipe")


def _checked(members: Iterator[_Member], max_bytes: int, max_entries: int) -> Iterator[Entry]:
    sizes: dict[str, int] = {}  # of files
    left = max_bytes

    def take(path: str, count: int) -> None:
        nonlocal left
        left -= count
        sizes[path] += count
        if left < 0:
            raise BadArchive(
                f"the package unpacks to more than {format_bytes(max_bytes)}, which are allowed"
            )

    def chunks(path: str, content: IO[bytes]) -> Iterator[bytes]:
        while data := content.read(CHUNK):
            take(path, len(data))
            yield data

    for count, member in enumerate(members, start=1):
        if count > max_entries:
            raise BadArchive(f"the package has more than {max_entries} entries, which are allowed")
        path = _inside(member.path, "")
        if member.link is not None:
            _inside(member.link, posixpath.dirname(path))
            yield Entry(path, link=member.link)
            continue
        if member.content is None and member.copy_of is None:
            yield Entry(path)
            continue
        if path in sizes:
            raise BadArchive(f"the package holds {member.path!r} twice")
        if member.copy_of is not None:
            source = _inside(member.copy_of, "")
            if source not in sizes:
                raise BadArchive(f"the package's {path!r} is a link to a file that is not in it")
            sizes[path] = 0
            take(path, sizes[source])
            yield Entry(path, copy_of=source)
        elif member.content is not None:
            sizes[path] = 0
            yield Entry(path, member.executable, partial(chunks, path, member.content))


def _inside(path: str, below: str) -> str:
    """Return a path that stays in the package, in its shortest form."""
    joined = posixpath.normpath(posixpath.join(below, path))
    if posixpath.isabs(joined) or joined == ".." or joined.startswith("../") or "\0" in path:
        raise BadArchive(
            f"the package holds {path!r:.200}, which leads out of its directory; paths within it are "
            "allowed"
        )
    return joined


def main() -> None:
    """Check the archive that the command line names; exit code 1, and the reason on stdout: it is bad."""
    be_killed_with_parent()
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    os.nice(10)
    try:
        with bounded_memory():
            check(Path(sys.argv[1]))
    except BadArchive as error:
        print(error, flush=True)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main()
