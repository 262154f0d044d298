"""The package services: clients upload what applications are made of, nodes download it.

Bytes go to disk as they come, and never through the engine or the store of sessions. What nodes could
not unpack is refused: a process of its own reads each to the end. What no application refers to is
deleted some time after its last use.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from flame.model.errors import FlameError, InvalidRequest
from flame.model.ids import Tenant
from flame.model.packages import check_sha256
from flame.model.tenants import parse_tenant
from flame.runtime.tasks import Tasks
from flame.session_manager.access import Caller, caller_of
from flame.session_manager.package_store import Kept, PackageStore, Upload
from flame.session_manager.serving import Context, refuse, service, streaming, unary
from flame.wire.packages import (
    DOWNLOAD,
    PART_BYTES,
    UPLOAD,
    DownloadPackage,
    FindPackage,
    Package,
    PackagePart,
    UploadPart,
)

log = logging.getLogger(__name__)

COLLECT_EVERY = 600.0  # seconds
DEFAULT_KEEP_HOURS = 24


class Packages:
    """Serves a package store, and keeps it from growing for ever.

    Args:
        in_use: Returns the packages that applications refer to.
        keep_seconds: For how long one that is not used is kept after its last use.
    """

    def __init__(
        self,
        store: PackageStore,
        in_use: Callable[[], Collection[Kept]],
        keep_seconds: float = DEFAULT_KEEP_HOURS * 3600.0,
    ) -> None:
        self._store = store
        self._in_use = in_use
        self._keep_seconds = keep_seconds
        self._tasks = Tasks("packages")
        self._checking = asyncio.Semaphore(1)

    def handler(self) -> Any:
        """Return what a gRPC server needs to serve both services."""
        find, upload, download = UPLOAD["Find"], UPLOAD["Upload"], DOWNLOAD["Download"]
        return service(
            {
                find.path: unary(find, self._find),
                upload.path: grpc.stream_unary_rpc_method_handler(
                    self._upload,
                    request_deserializer=UploadPart.FromString,
                    response_serializer=Package.SerializeToString,
                ),
                download.path: streaming(download, self._download),
            }
        )

    def start(self) -> None:
        """Begin to collect."""
        self._tasks.start(self._keep_collecting(), "collection")

    async def stop(self) -> None:
        """Collect no more."""
        await self._tasks.close()

    async def check(self, tenant: Tenant, sha256: str) -> None:
        """Make sure that the package of an application is kept.

        Raises:
            NotFound: It is not.
        """
        (await asyncio.to_thread(self._store.open, tenant, sha256)).close()

    # --- rpcs ------------------------------------------------------------------------------------

    async def _find(self, request: FindPackage, caller: Caller, _context: Context) -> Package:
        size = await asyncio.to_thread(self._store.find, caller.tenant, request.sha256)
        return Package(sha256=request.sha256, size=size or 0, present=size is not None)

    async def _upload(self, _requests: Any, context: Context) -> Package:
        upload: Upload | None = None
        try:
            header = await self._header(context)
            upload = await asyncio.to_thread(
                self._store.begin, caller_of(context).tenant, header.sha256, header.size
            )
            while (part := await context.read()) is not grpc.aio.EOF:
                if part.WhichOneof("part") != "data":
                    raise InvalidRequest("a second header arrived in one upload")
                await asyncio.to_thread(upload.write, part.data)
            await asyncio.to_thread(upload.end)
            async with self._checking:
                await check_archive(upload.part)
            await asyncio.to_thread(upload.finish)
        except FlameError as error:
            await refuse(context, error)
        finally:
            if upload is not None:
                upload.abandon()
        log.info("package-kept sha256=%s bytes=%s", header.sha256, header.size)
        return Package(sha256=header.sha256, size=header.size, present=True)

    async def _header(self, context: Context) -> Package:
        first = await context.read()
        if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
            raise InvalidRequest("an upload begins with a header: the package's sha256 and size")
        header: Package = first.header
        check_sha256(header.sha256)
        return header

    async def _download(self, request: DownloadPackage, _caller: Caller, context: Context) -> None:
        tenant = parse_tenant(request.tenant)
        file = await asyncio.to_thread(self._store.open, tenant, request.sha256)
        with file:
            while data := await asyncio.to_thread(file.read, PART_BYTES):
                await context.write(PackagePart(data=data).SerializeToString())

    # --- collection ------------------------------------------------------------------------------

    async def _keep_collecting(self) -> None:
        while True:
            try:
                await self.collect(time.time())
            except (OSError, FlameError) as error:  # tried again; nothing is lost by waiting
                log.warning("packages-not-collected error=%s", error)
            await asyncio.sleep(COLLECT_EVERY)

    async def collect(self, now: float) -> None:
        """Delete what nobody refers to and nobody used for a while."""
        gone = await asyncio.to_thread(
            self._store.collect, self._in_use(), now - self._keep_seconds
        )
        for tenant, sha256 in gone:
            log.info("package-deleted tenant=%s sha256=%s", tenant, sha256)


async def check_archive(archive: Path) -> None:
    """Make sure that nodes can unpack a package.

    Raises:
        InvalidRequest: They cannot; the text says why.
    """
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "flame.runtime.archives", str(archive)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await reader.communicate()
    except asyncio.CancelledError:
        reader.kill()
        await reader.wait()
        raise
    if reader.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise InvalidRequest("the package's archive takes too long to read")
    if reader.returncode:
        why = said.decode(errors="replace").strip()
        raise InvalidRequest(why or f"the package's archive ended its reader ({reader.returncode})")
