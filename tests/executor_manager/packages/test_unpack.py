"""Archives from anybody: what is in them comes out, and nothing gets out of the directory."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flame.executor_manager.packages import BadPackage
from flame.executor_manager.packages.unpack import unpack

Add = Callable[[tarfile.TarFile], None]


def file(name: str, content: bytes = b"x", **fields: object) -> Add:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        for field, value in fields.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(content))

    return add


def special(name: str, kind: bytes, link: str = "") -> Add:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        tar.addfile(entry)

    return add


def tar_of(path: Path, *entries: Add, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for add in entries:
            add(tar)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_files_directories_and_links_come_out(tmp_path: Path, mode: str) -> None:
    archive = tar_of(
        tmp_path / "a",
        special("bin", tarfile.DIRTYPE),
        file("bin/run", b"#!/bin/sh\n", mode=0o755),
        file("./lib/deep/code", b"code"),
        special("bin/code", tarfile.SYMTYPE, "../lib/deep/code"),
        special("again", tarfile.LNKTYPE, "bin/run"),
        mode=mode,
    )
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/bin/code").read_bytes() == b"code"
    assert (tmp_path / "out/again").read_bytes() == b"#!/bin/sh\n"
    assert os.access(tmp_path / "out/bin/run", os.X_OK)
    assert not os.access(tmp_path / "out/lib/deep/code", os.X_OK) or os.getuid() == 0


def test_modes_are_our_own_so_nobody_becomes_another_user(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "a",
        file("setuid", mode=0o6777, uid=1234),
        file("open", mode=0o666),
        special("sticky", tarfile.DIRTYPE),
    )
    unpack(archive, tmp_path / "out")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").iterdir()}
    assert modes == {"setuid": 0o755, "open": 0o644, "sticky": 0o755}
    assert (tmp_path / "out/setuid").stat().st_uid == os.getuid()


def test_a_zip_comes_out_with_its_modes_and_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        program = zipfile.ZipInfo("bin/run")
        program.external_attr = (stat.S_IFREG | 0o4755) << 16
        archive.writestr(program, "program")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "bin/run")
        archive.writestr("empty/", "")
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out/link").read_text() == "program"
    assert stat.S_IMODE((tmp_path / "out/bin/run").stat().st_mode) == 0o755
    assert (tmp_path / "out/empty").is_dir()


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([file("../escaped")], "leads out of its directory"),
        ([file("a/../../escaped")], "leads out of its directory"),
        ([file("/escaped")], "leads out of its directory"),
        ([special("link", tarfile.SYMTYPE, "/etc")], "leads out of its directory"),
        ([special("a/link", tarfile.SYMTYPE, "../../escaped")], "leads out of its directory"),
        ([special("link", tarfile.LNKTYPE, "../../etc/passwd")], "leads out of its directory"),
        ([special("link", tarfile.LNKTYPE, "missing")], "a file that is not in it"),
        ([special("device", tarfile.CHRTYPE)], "a device or a pipe"),
        ([special("pipe", tarfile.FIFOTYPE)], "a device or a pipe"),
        ([file("twice"), file("twice")], "twice"),
        ([file("a"), file("a/b")], "damaged"),
        # First a link to a directory outside, then a file through it.
        ([special("d", tarfile.SYMTYPE, ".."), file("d/escaped")], "out of its directory"),
        # A link is harmless by itself, but not through another one.
        (
            [
                special("deep/er", tarfile.DIRTYPE),
                special("up", tarfile.SYMTYPE, "deep/er"),
                special("out", tarfile.SYMTYPE, "up/../../.."),
            ],
            "out of",
        ),
    ],
)
def test_what_leaves_the_directory_or_is_no_file_refuses_the_package(
    tmp_path: Path, entries: list[Add], complaint: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    archive = tar_of(tmp_path / "a", *entries)
    with pytest.raises(BadPackage, match=complaint):
        unpack(archive, inner / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "inner"]
    assert [p.name for p in inner.iterdir()] == ["out"]


def test_a_link_that_leads_out_through_others_is_found_at_the_end(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "a",
        special("x/y", tarfile.DIRTYPE),
        special("x/y/up", tarfile.SYMTYPE, "../.."),
        special("far", tarfile.SYMTYPE, "x/y/up/../etc"),
    )
    with pytest.raises(BadPackage, match="leads out of the package"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a\\..\\..\\b/../../../escaped"])
def test_a_zip_does_not_leave_its_directory_either(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(BadPackage, match="leads out of its directory"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_what_is_no_archive_or_half_of_one_is_refused(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "whole", file("big", os.urandom(100_000))).read_bytes()
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("a", os.urandom(10_000))
    zipped = bytearray((tmp_path / "whole.zip").read_bytes())
    zipped[2000:2100] = bytes(100)
    for number, content in enumerate(
        (b"", b"#!/bin/sh\n", whole[: len(whole) // 2], gzip.compress(b"no tar"), bytes(zipped))
    ):
        broken = tmp_path / f"broken-{number}"
        broken.write_bytes(content)
        with pytest.raises(BadPackage, match=r"no archive that can be read|damaged"):
            unpack(broken, tmp_path / f"out-{number}")


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner.whl", "w") as inner:
        inner.writestr("inner.py", "")
    content = (tmp_path / "inner.whl").read_bytes()
    unpack(tar_of(tmp_path / "a", file("wheels/inner.whl", content), mode="w"), tmp_path / "out")
    assert [str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.whl")] == [
        "wheels/inner.whl"
    ]


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar.gz", file("zeros", bytes(3_000_000)))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3_000_000))
    for number, bomb in enumerate((tar, tmp_path / "a.zip")):
        assert bomb.stat().st_size < 10_000
        out = tmp_path / f"out-{number}"
        with pytest.raises(BadPackage, match=r"more than 1"):
            unpack(bomb, out, max_bytes=1024 * 1024)
        assert sum(p.stat().st_size for p in out.iterdir()) <= 1024 * 1024
    many = tar_of(tmp_path / "many", *(file(f"f{n}", b"") for n in range(11)))
    with pytest.raises(BadPackage, match="more than 10 entries"):
        unpack(many, tmp_path / "many-out", max_entries=10)
