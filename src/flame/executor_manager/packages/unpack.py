"""From an archive that anybody may have made to a directory: nothing leaves it, nothing is too much.

Files and directories are made first, with modes of our own (no set-user-id, nothing for others to
write), and symbolic links last, when all they could lead to is known. Whatever is neither of these
three, or leads outside, refuses the whole package.
"""

import lzma
import os
import posixpath
import resource
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flame.executor_manager.packages import BadPackage
from flame.model.packages import ZIP_HEADS
from flame.model.resources import format_bytes

MAX_BYTES = 8 * 1024 * 1024 * 1024
MAX_ENTRIES = 200_000
CHUNK = 1024 * 1024
LONGEST_LINK = 4096
#: A head in an archive may claim to be this large, and is read into memory as a whole.
MAX_MEMORY = 2 * 1024 * 1024 * 1024

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


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in an archive. Exactly one of the last three says what it is; none: a directory."""

    path: str
    executable: bool = False
    content: IO[bytes] | None = None
    link: str | None = None
    copy_of: str | None = None


def unpack(
    archive: Path, target: Path, *, max_bytes: int = MAX_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Unpack a tar archive, compressed or not, or a zip, into a directory that does not exist.

    Raises:
        BadPackage: It is no archive, is damaged, leads out of its directory, or is too large.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) in ZIP_HEADS
        if is_zip:
            with zipfile.ZipFile(archive) as zipped:
                _write(_zip_entries(zipped), target, max_bytes, max_entries)
        else:
            with tarfile.open(archive) as tar:
                _write(_tar_entries(tar), target, max_bytes, max_entries)
    except BadPackage:
        raise
    except tarfile.ReadError as error:
        raise BadPackage(
            f"the package is no archive that can be read: {error}; allowed are .tar.gz, .tgz, "
            ".tar, .zip and .whl"
        ) from error
    except _DAMAGED as error:
        raise BadPackage(f"the package's archive is damaged: {error}") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _tar_entries(tar: tarfile.TarFile) -> Iterator[Entry]:
    for member in tar:
        if member.isreg():
            yield Entry(member.name, bool(member.mode & stat.S_IXUSR), tar.extractfile(member))
        elif member.isdir():
            yield Entry(member.name)
        elif member.issym():
            yield Entry(member.name, link=member.linkname)
        elif member.islnk():
            yield Entry(member.name, copy_of=member.linkname)
        else:
            raise BadPackage(
                f"the package holds {member.name!r}, which is a device or a pipe; files, "
                "directories and links are allowed"
            )


def _zip_entries(zipped: zipfile.ZipFile) -> Iterator[Entry]:
    for member in zipped.infolist():
        mode = member.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if member.is_dir():
            yield Entry(member.filename)
        elif kind == stat.S_IFLNK:
            with zipped.open(member) as content:
                yield Entry(member.filename, link=os.fsdecode(content.read(LONGEST_LINK)))
        elif kind in (0, stat.S_IFREG):
            with zipped.open(member) as content:
                yield Entry(member.filename, bool(mode & stat.S_IXUSR), content)
        else:
            raise BadPackage(f"the package holds {member.filename!r}, which is a device or a pipe")


def _write(entries: Iterator[Entry], target: Path, max_bytes: int, max_entries: int) -> None:
    target.mkdir(mode=0o755)
    links: dict[str, str] = {}
    left = max_bytes
    for count, entry in enumerate(entries, start=1):
        if count > max_entries:
            raise BadPackage(f"the package has more than {max_entries} entries, which are allowed")
        path = _inside(entry.path, "")
        place = target / path
        if entry.link is not None:
            links[path] = entry.link
        elif entry.content is None and entry.copy_of is None:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if entry.copy_of is not None:
                source = target / _inside(entry.copy_of, "")
                if not source.is_file():
                    raise BadPackage(
                        f"the package's {path!r} is a link to a file that is not in it"
                    )
                with source.open("rb") as content:
                    left = _copy(content, place, entry, left, max_bytes)
            elif entry.content is not None:
                left = _copy(entry.content, place, entry, left, max_bytes)
    for path, link in links.items():
        _inside(link, posixpath.dirname(path))
        (target / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.symlink(link, target / path)
    root = os.path.realpath(target)
    for path in links:  # a link may lead through other links
        if not f"{os.path.realpath(target / path)}/".startswith(f"{root}/"):
            raise BadPackage(f"the package's link {path!r} leads out of the package")


def _copy(content: IO[bytes], place: Path, entry: Entry, left: int, max_bytes: int) -> int:
    mode = 0o755 if entry.executable else 0o644
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(place, flags, mode)
    except FileExistsError:
        raise BadPackage(f"the package holds {entry.path!r} twice") from None
    with os.fdopen(descriptor, "wb") as out:
        while data := content.read(CHUNK):
            left -= len(data)
            if left < 0:
                raise BadPackage(
                    f"the package unpacks to more than {format_bytes(max_bytes)}, which are allowed"
                )
            out.write(data)
    return left


def _inside(path: str, below: str) -> str:
    """Return a path that stays in the package, in its shortest form."""
    joined = posixpath.normpath(posixpath.join(below, path))
    if posixpath.isabs(joined) or joined == ".." or joined.startswith("../") or "\0" in path:
        raise BadPackage(
            f"the package holds {path!r:.200}, which leads out of its directory; paths within it are "
            "allowed"
        )
    return joined
