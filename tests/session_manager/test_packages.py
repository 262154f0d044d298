"""The package store and its services, over real gRPC where they are called."""

import hashlib
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flame.model.errors import (
    FlameError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from flame.model.ids import DEFAULT_TENANT, ExecutorId, Tenant
from flame.model.packages import package_url
from flame.session_manager.access import executor_credential
from flame.session_manager.frontend import Frontend
from flame.session_manager.listening import Listener
from flame.session_manager.package_store import Kept, PackageStore, Upload, package_directory
from flame.session_manager.packages import Packages
from flame.wire import v1
from flame.wire.channels import bearer, open_channel
from flame.wire.packages import (
    DOWNLOAD,
    PART_BYTES,
    UPLOAD,
    DownloadPackage,
    FindPackage,
    Package,
    UploadPart,
)
from flame.wire.status import error_of
from tests.session_manager.conftest import TOKEN
from tests.session_manager.fake_manager import FakeManager

RESEARCH = Tenant("research/credit-risk")


def tar_of(path: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo(path)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


CONTENT = tar_of("code", b"what an application is made of" * 1000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def keep(store: PackageStore, content: bytes = CONTENT, tenant: Tenant = DEFAULT_TENANT) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    bring(store.begin(tenant, sha256, len(content)), content)
    return sha256


def bring(upload: Upload, content: bytes) -> None:
    upload.write(content)
    upload.end()
    upload.finish()


def files(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


# --- the store ---------------------------------------------------------------------------------


def test_the_same_content_is_kept_once_for_a_tenant(tmp_path: Path) -> None:
    store = PackageStore(tmp_path)
    assert store.find(RESEARCH, SHA256) is None
    assert keep(store, tenant=RESEARCH) == keep(store, tenant=RESEARCH) == SHA256
    assert store.find(RESEARCH, SHA256) == len(CONTENT)
    assert files(tmp_path) == [f"research%2Fcredit-risk/{SHA256}"]


def test_a_tenant_sees_its_own_and_the_shared_packages_only(tmp_path: Path) -> None:
    store = PackageStore(tmp_path)
    keep(store, tenant=RESEARCH)
    assert store.find(DEFAULT_TENANT, SHA256) is None
    with pytest.raises(NotFound, match="deploy the application again"):
        store.open(Tenant("sales"), SHA256)
    shared = keep(store, b"shared")
    with store.open(RESEARCH, shared) as file:
        assert file.read() == b"shared"


def test_bytes_that_are_not_what_the_header_said_are_refused(tmp_path: Path) -> None:
    store = PackageStore(tmp_path)
    for content, complaint in (
        (CONTENT[:-1], "1 bytes before"),
        (CONTENT + b"x", "more bytes than its header said"),
        (CONTENT[:-1] + b"?", "its header said"),
    ):
        upload = store.begin(DEFAULT_TENANT, SHA256, len(CONTENT))
        with pytest.raises(InvalidRequest, match=complaint):
            bring(upload, content)
        upload.abandon()
    assert files(tmp_path) == []


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_name_that_is_no_hash_never_becomes_a_path(tmp_path: Path, sha256: str) -> None:
    store = PackageStore(tmp_path)
    for attempt in (store.find, store.open):
        with pytest.raises(InvalidRequest, match="64 lower-case"):
            attempt(DEFAULT_TENANT, sha256)
    with pytest.raises(InvalidRequest, match="64 lower-case"):
        store.begin(DEFAULT_TENANT, sha256, 1)


def test_sizes_are_limited_uploads_under_way_included(tmp_path: Path) -> None:
    store = PackageStore(tmp_path, max_size=100, max_total=250)
    with pytest.raises(InvalidRequest, match="max_size"):
        store.begin(DEFAULT_TENANT, SHA256, 101)
    keep(store, b"x" * 100)
    under_way = store.begin(DEFAULT_TENANT, SHA256, 100)
    with pytest.raises(ResourceExhausted, match="max_total"):
        keep(store, b"y" * 60)
    under_way.abandon()
    keep(store, b"y" * 60)


def test_what_a_killed_manager_left_half_done_is_removed_at_the_start(tmp_path: Path) -> None:
    upload = PackageStore(tmp_path).begin(DEFAULT_TENANT, SHA256, 10)
    assert files(tmp_path)
    PackageStore(tmp_path)
    assert files(tmp_path) == []
    upload.abandon()


async def test_what_no_application_refers_to_goes_some_time_after_its_last_use(
    tmp_path: Path,
) -> None:
    store = PackageStore(tmp_path)
    used, unused, asked_for = (keep(store, content) for content in (b"1", b"2", b"3"))
    in_use: set[Kept] = {(DEFAULT_TENANT, used), (RESEARCH, unused)}
    packages = Packages(store, lambda: in_use, keep_seconds=3600)
    await packages.collect(time.time())
    assert len(files(tmp_path)) == 3
    for name in files(tmp_path):
        os.utime(tmp_path / name, (0, 0))
    store.find(DEFAULT_TENANT, asked_for)
    await packages.collect(time.time())
    assert {Path(name).name for name in files(tmp_path)} == {used, asked_for}


def test_packages_are_kept_beside_the_database(tmp_path: Path) -> None:
    def place(configured: str | None, storage: str) -> Path:
        with package_directory(configured, storage, tmp_path / "home") as directory:
            return directory

    assert place("/srv/packages", "memory") == Path("/srv/packages")
    assert place(None, "sqlite:///var/flame.db") == Path("/var/flame.db.packages")
    assert place(None, "postgresql://db/flame") == tmp_path / "home" / "packages"
    assert not place(None, "memory").exists()  # it ended with the manager


# --- the services ------------------------------------------------------------------------------


class Client:
    def __init__(self, listener: Listener, token: str = TOKEN) -> None:
        self._listener = listener
        self._metadata = bearer(token)

    async def upload(self, *parts: UploadPart) -> Package:
        async def sending() -> AsyncIterator[UploadPart]:
            for part in parts:
                yield part

        async with open_channel(self._listener.endpoint) as channel:
            call = UPLOAD["Upload"].on(channel)(sending(), metadata=self._metadata, timeout=20)
            answer: Package = await self._answer(call)
            return answer

    async def find(self, sha256: str) -> Package:
        async with open_channel(self._listener.endpoint) as channel:
            call = UPLOAD["Find"].on(channel)(
                FindPackage(sha256=sha256), metadata=self._metadata, timeout=20
            )
            answer: Package = await self._answer(call)
            return answer

    async def download(self, sha256: str, tenant: str = "default") -> bytes:
        async with open_channel(self._listener.endpoint) as channel:
            call = DOWNLOAD["Download"].on(channel)(
                DownloadPackage(sha256=sha256, tenant=tenant), metadata=self._metadata, timeout=20
            )
            try:
                return b"".join([part.data async for part in call])
            except Exception as error:
                raise self._error(error) from None

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except Exception as error:
            raise self._error(error) from None

    def _error(self, error: object) -> FlameError:
        return error_of(error.code(), error.details(), error.trailing_metadata())  # type: ignore[attr-defined]


def parts(content: bytes) -> list[UploadPart]:
    header = Package(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    cuts = range(0, len(content), PART_BYTES)
    return [
        UploadPart(header=header),
        *(UploadPart(data=content[start : start + PART_BYTES]) for start in cuts),
    ]


@pytest.fixture
async def listener(tmp_path: Path, manager: FakeManager) -> AsyncIterator[Listener]:
    packages = Packages(PackageStore(tmp_path, max_size=8 * PART_BYTES), set)
    found = Listener.open(
        "127.0.0.1", 0, token=TOKEN, anonymous=True, tls=None, max_input_bytes=16 * 1024 * 1024
    )
    frontend = Frontend(manager, check_package=packages.check)
    found.serve([frontend.handler(), packages.handler()])
    packages.start()
    await found.start()
    yield found
    await found.stop()
    await packages.stop()


async def test_a_package_comes_back_as_it_was_sent(listener: Listener) -> None:
    client = Client(listener)
    content = tar_of("data", os.urandom(3 * PART_BYTES + 17))
    sha256 = hashlib.sha256(content).hexdigest()
    assert not (await client.find(sha256)).present
    assert (await client.upload(*parts(content))).sha256 == sha256
    assert (await client.find(sha256)).size == len(content)
    assert await client.download(sha256) == content


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ([], "begins with a header"),
        ([UploadPart(data=b"x")], "begins with a header"),
        (parts(CONTENT)[:1], "before what its header said"),
        ([*parts(CONTENT), *parts(CONTENT)], "a second header"),
        ([UploadPart(header=Package(sha256="..", size=1))], "64 lower-case"),
        ([UploadPart(header=Package(sha256=SHA256, size=2**60))], "max_size"),
        (parts(b"#!/bin/sh\n"), r"no archive that can be read.*allowed are \.tar\.gz"),
        (parts(CONTENT[: len(CONTENT) // 2]), "archive is damaged"),
        (parts(tar_of("../../etc/passwd", b"x")), r"'\.\./\.\./etc/passwd', which leads out"),
    ],
)
async def test_a_wrong_upload_says_what_is_wrong_and_leaves_nothing(
    listener: Listener, tmp_path: Path, sent: list[UploadPart], complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        await Client(listener).upload(*sent)
    assert files(tmp_path) == []


async def test_executors_and_clients_without_a_token_download_nothing(listener: Listener) -> None:
    await Client(listener, token="").upload(*parts(CONTENT))
    for token in ("", executor_credential(TOKEN, ExecutorId("e1"), 1)):
        with pytest.raises(FlameError) as refused:
            await Client(listener, token).download(SHA256)
        assert "not" in str(refused.value)
    executor = Client(listener, executor_credential(TOKEN, ExecutorId("e1"), 1))
    with pytest.raises(PermissionDenied):
        await executor.upload(*parts(CONTENT))


async def test_a_package_that_is_gone_is_not_found(listener: Listener) -> None:
    with pytest.raises(NotFound, match="deploy the application again"):
        await Client(listener).download(SHA256)
    with pytest.raises(InvalidRequest):
        await Client(listener).download(SHA256, tenant="../x")


async def test_an_application_cannot_refer_to_a_package_that_is_not_kept(
    listener: Listener, manager: FakeManager
) -> None:
    register = v1.FRONTEND["RegisterApplication"]

    async def attempt(url: str) -> str:
        spec = v1.ApplicationSpec(command="x", url=url, installer="binary")
        request = v1.RegisterApplicationRequest(name="a", application=spec)
        async with open_channel(listener.endpoint) as channel:
            try:
                await register.on(channel)(request, metadata=bearer(TOKEN), timeout=20)
            except Exception as error:
                return str(error.details())  # type: ignore[attr-defined]
        return ""

    assert "is not kept here" in await attempt(package_url(SHA256, "a.tar.gz"))
    assert "flame://packages/<sha256>/<file name>" in await attempt("flame://elsewhere/x")
    await Client(listener).upload(*parts(CONTENT))
    assert await attempt(package_url(SHA256, "a.tar.gz")) == ""
