"""Where packages come from, by the scheme of their url: the session manager, the web, this machine.

A fetcher puts one archive into a directory. The object cache will be one more of them.
"""

import asyncio
import hashlib
import http.client
import io
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import grpc
import grpc.aio

from flame.executor_manager.packages import BadPackage
from flame.model.errors import InvalidRequest
from flame.model.packages import expected_sha256, kept_package
from flame.model.resources import format_bytes
from flame.wire.channels import Endpoint, bearer, open_channel
from flame.wire.packages import DOWNLOAD, DownloadPackage

FETCH_TIMEOUT = 300.0  # seconds for all of a package
SILENCE = 30.0  # seconds without a byte
CHUNK = 1024 * 1024
MAX_BYTES = 4 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """An archive on this node; its name is the one it was deployed under."""

    archive: Path
    sha256: str


Fetch = Callable[[str, str, Path], Awaitable[None]]


class Sources:
    """Fetches packages.

    Args:
        manager: Says where the session manager is.
        token: The node's.
        max_bytes: Of one archive.
    """

    def __init__(
        self,
        manager: Callable[[], Endpoint],
        token: str | None,
        ca_file: str | None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._manager = manager
        self._token = token
        self._ca_file = ca_file
        self._max_bytes = max_bytes
        self._fetchers: dict[str, Fetch] = {
            "flame": self._from_manager,
            "http": self._from_web,
            "https": self._from_web,
            "file": self._from_machine,
        }

    def content_of(self, url: str) -> str | None:
        """Return the hash that a url names; None: its content can change.

        Raises:
            BadPackage: It is no url that can be fetched.
        """
        scheme = urlsplit(url).scheme
        if scheme not in self._fetchers:
            allowed = ", ".join(f"{name}://" for name in self._fetchers)
            raise BadPackage(f"the package's url {url!r:.200} is of none of the kinds {allowed}")
        try:
            kept = kept_package(url)
            return kept[0] if kept is not None else expected_sha256(url)
        except InvalidRequest as error:
            raise BadPackage(str(error)) from error

    async def fetch(self, url: str, tenant: str, directory: Path) -> Fetched:
        """Put the archive into a directory, which exists.

        Raises:
            BadPackage: It cannot be had, is too large, or is not what its url says.
        """
        expected = self.content_of(url)
        archive = directory / _file_name(url)
        try:
            async with asyncio.timeout(FETCH_TIMEOUT):
                await self._fetchers[urlsplit(url).scheme](url, tenant, archive)
                sha256 = await asyncio.to_thread(_hash, archive)
        except TimeoutError:
            raise BadPackage(
                f"the package did not come from {url} within {FETCH_TIMEOUT:g} s"
            ) from None
        if expected is not None and sha256 != expected:
            raise BadPackage(
                f"what came from {url} has sha256 {sha256}; {expected} was expected: it was changed, "
                "or damaged on its way"
            )
        return Fetched(archive, sha256)

    async def _from_manager(self, url: str, tenant: str, archive: Path) -> None:
        kept = kept_package(url)
        assert kept is not None  # noqa: S101 - for the type checker
        request = DownloadPackage(sha256=kept[0], tenant=tenant)
        room = _Room(self._max_bytes)
        try:
            async with open_channel(self._manager(), ca_file=self._ca_file) as channel:
                call: Any = DOWNLOAD["Download"].on(channel)(
                    request, metadata=bearer(self._token), timeout=FETCH_TIMEOUT
                )
                with archive.open("wb") as out:
                    async for part in call:
                        await asyncio.to_thread(out.write, room.take(part.data))
        except grpc.aio.AioRpcError as error:
            raise BadPackage(
                f"the session manager did not send the package: {error.details()}"
            ) from None

    async def _from_web(self, url: str, _tenant: str, archive: Path) -> None:
        await asyncio.to_thread(_download, url, archive, self._max_bytes)

    async def _from_machine(self, url: str, _tenant: str, archive: Path) -> None:
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute():
            raise BadPackage(f"the package's url {url!r:.200} is not of the form file:///a/path")
        try:
            await asyncio.to_thread(_take, path, archive, self._max_bytes)
        except OSError as error:
            raise BadPackage(f"{path} cannot be read on this node: {error.strerror}") from error


class _Room:
    """Counts bytes up to a limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def take(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise BadPackage(
                f"the package has more than {format_bytes(self._most)}, which are allowed"
            )
        return data


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection, but never from TLS to the open."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it redirects from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for the web only: the usual one also reads local files and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _download(url: str, archive: Path, most: int) -> None:
    deadline = time.monotonic() + FETCH_TIMEOUT
    room = _Room(most)
    try:
        with _opener().open(url.partition("#")[0], timeout=SILENCE) as answer:
            with archive.open("wb") as out:
                while data := answer.read1(CHUNK):
                    out.write(room.take(data))
                    if time.monotonic() > deadline:
                        return  # nobody waits any more
            if answer.length:  # what is left of what it announced
                raise BadPackage(f"{url} ended {answer.length} bytes before its end")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BadPackage(f"the package cannot be fetched from {url}: {error}") from error


def _take(path: Path, archive: Path, most: int) -> None:
    """Copy an archive, or pack a directory, of this machine."""
    room = _Room(most)
    if not path.is_dir():
        with path.open("rb") as source, archive.open("wb") as out:
            while data := source.read(CHUNK):
                out.write(room.take(data))
        return
    with archive.open("wb") as out, tarfile.open(fileobj=_Counted(out, room), mode="w|") as packed:
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if "__pycache__" in name.parts or ".git" in name.parts:
                continue
            entry = packed.gettarinfo(file, str(name))
            if entry is None:
                raise BadPackage(f"{file} is a socket; files, directories and links are allowed")
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            if entry.islnk():  # a second name of a file in it
                entry.type, entry.size = tarfile.REGTYPE, file.stat().st_size
            if entry.isreg():
                with file.open("rb") as content:
                    packed.addfile(entry, content)
            else:
                packed.addfile(entry)


class _Counted(io.RawIOBase):
    """A file that takes no more than there is room for."""

    def __init__(self, file: IO[bytes], room: _Room) -> None:
        self._file = file
        self._room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(self._room.take(bytes(data)))


def _hash(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_name(url: str) -> str:
    """A name for the archive that tells installers what it is, and nothing to the file system."""
    kept = kept_package(url)
    name = kept[1] if kept is not None else unquote(urlsplit(url).path).rstrip("/")
    return re.sub(r"[^A-Za-z0-9._+-]", "_", os.path.basename(name))[-120:].lstrip(".-") or "package"


def remove(directory: Path) -> None:
    """Remove a directory and all that is in it, as far as that goes."""
    shutil.rmtree(directory, ignore_errors=True)
