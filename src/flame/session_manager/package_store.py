"""Packages on disk: one file per tenant and content, and nothing else.

    <directory>/<tenant>/<sha256>            a whole package; its time is that of its last use
    <directory>/<tenant>/<sha256>.<n>.part   an upload under way; removed at the next start

All methods may take as long as a disk does, so they are called in threads.
"""

import hashlib
import itertools
import os
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from flame.model.errors import InvalidRequest, NotFound, ResourceExhausted
from flame.model.ids import DEFAULT_TENANT, Tenant
from flame.model.packages import check_sha256
from flame.model.resources import format_bytes
from flame.storage.open import sqlite_path

GIB = 1024 * 1024 * 1024
DEFAULT_MAX_SIZE = GIB
DEFAULT_MAX_TOTAL = 20 * GIB

_PART = ".part"

#: A package: whose, and its hash.
Kept = tuple[Tenant, str]


class PackageStore:
    """A directory of packages.

    Args:
        directory: Made when the first package comes.
        max_size: Bytes of one package.
        max_total: Bytes of all of them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_size: int = DEFAULT_MAX_SIZE,
        max_total: int = DEFAULT_MAX_TOTAL,
    ) -> None:
        self._directory = directory
        self._max_size = max_size
        self._max_total = max_total
        self._numbers = itertools.count(1)
        self._promised: dict[Upload, int] = {}  # bytes that uploads under way may still bring
        self._beginning = threading.Lock()
        for part in directory.glob(f"*/*{_PART}"):
            part.unlink(missing_ok=True)

    def find(self, tenant: Tenant, sha256: str) -> int | None:
        """Return the size of the tenant's package, which counts as a use; None: it is not kept."""
        path = self._path(tenant, check_sha256(sha256))
        try:
            os.utime(path)
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def open(self, tenant: Tenant, sha256: str) -> BinaryIO:
        """Open the tenant's package, or the shared one, for reading.

        Raises:
            NotFound: Neither is kept.
        """
        for whose in dict.fromkeys((tenant, DEFAULT_TENANT)):
            path = self._path(whose, check_sha256(sha256))
            with suppress(FileNotFoundError):
                os.utime(path)
                return path.open("rb")
        raise NotFound(
            f"package {sha256} of tenant {tenant!r} is not kept here (any more); "
            "deploy the application again"
        )

    def begin(self, tenant: Tenant, sha256: str, size: int) -> "Upload":
        """Make room for a package whose bytes are going to come.

        Raises:
            InvalidRequest: It is larger than one package may be.
            ResourceExhausted: There is no room for it.
        """
        if size > self._max_size:
            raise InvalidRequest(
                f"the package has {format_bytes(size)} ({size} bytes); at most "
                f"{format_bytes(self._max_size)} are allowed (cluster.packages.max_size). Leave "
                "out what is no code, or put it where executors can read it"
            )
        path = self._path(tenant, check_sha256(sha256))
        with self._beginning:
            used = sum(file.stat().st_size for file in self._files())
            used += sum(list(self._promised.values()))
            if used + size > self._max_total:
                raise ResourceExhausted(
                    f"packages take {format_bytes(used)}, and with {format_bytes(size)} more it "
                    f"would be above {format_bytes(self._max_total)} (cluster.packages.max_total). "
                    "Unregister applications that are not used; their packages go some time later"
                )
            return Upload(path, f"{path}.{next(self._numbers)}{_PART}", size, self._promised)

    def collect(self, in_use: Collection[Kept], older_than: float) -> list[Kept]:
        """Delete packages that no application refers to and that were last used before a time.

        Returns what was deleted.
        """
        gone: list[Kept] = []
        for file in self._files():
            kept = (Tenant(unquote(file.parent.name)), file.name)
            if kept not in in_use and file.stat().st_mtime < older_than:
                file.unlink(missing_ok=True)
                gone.append(kept)
        return gone

    def _files(self) -> list[Path]:
        return [file for file in self._directory.glob("*/*") if file.suffix != _PART]

    def _path(self, tenant: Tenant, sha256: str) -> Path:
        return self._directory / quote(tenant, safe="") / sha256


class Upload:
    """A package whose bytes are coming. Exactly one of ``finish`` and ``abandon`` ends it.

    Attributes:
        part: Where they are until then.
    """

    def __init__(self, path: Path, part: str, size: int, promised: "dict[Upload, int]") -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self.part = Path(part)
        self._left = size
        self._hash = hashlib.sha256()
        self._promised = promised
        self._file = open(part, "xb", opener=_private)  # noqa: SIM115 - closed when it ends
        promised[self] = size

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            InvalidRequest: They are more than the header said.
            ResourceExhausted: The disk is full.
        """
        self._left -= len(data)
        if self._left < 0:
            raise InvalidRequest("the upload has more bytes than its header said")
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise _disk_trouble(error) from error

    def end(self) -> None:
        """No more bytes come.

        Raises:
            InvalidRequest: They are not those that the header named.
            ResourceExhausted: The disk is full.
        """
        if self._left:
            raise InvalidRequest(f"the upload ended {self._left} bytes before what its header said")
        if self._hash.hexdigest() != self._path.name:
            raise InvalidRequest(
                f"the upload's bytes have sha256 {self._hash.hexdigest()}, its header said "
                f"{self._path.name}: it was damaged on its way, or changed while it was sent"
            )
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _disk_trouble(error) from error

    def finish(self) -> None:
        """Put the package, of which all bytes are there, into its place.

        Raises:
            ResourceExhausted: The disk does not allow it.
        """
        try:
            os.replace(self.part, self._path)
        except OSError as error:
            raise _disk_trouble(error) from error
        self._promised.pop(self, None)

    def abandon(self) -> None:
        """Forget it; nothing happens after ``finish``."""
        self._promised.pop(self, None)
        with suppress(OSError):
            self._file.close()
        self.part.unlink(missing_ok=True)


@contextmanager
def package_directory(configured: str | None, storage: str, home: Path) -> Iterator[Path]:
    """Choose where packages are kept: as configured, or else beside what ``storage`` names.

    In ``home`` if that is no file; where nothing else outlives the process, packages do not either.
    """
    if configured is not None:
        yield Path(configured).expanduser()
    elif storage == "memory":
        with tempfile.TemporaryDirectory(prefix="flame-packages-") as directory:
            yield Path(directory)
    elif storage.startswith("sqlite:"):
        yield Path(f"{sqlite_path(storage)}.packages")
    else:
        yield home / "packages"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _disk_trouble(error: OSError) -> ResourceExhausted:
    return ResourceExhausted(
        f"the package cannot be stored at {error.filename or 'the session manager'}: "
        f"{error.strerror}"
    )
