"""Reading an archive of unknown origin in a process of its own."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from flame.runtime.archives import BadArchive, reading


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def run(archive: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flame.runtime.archives", str(archive)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_reader_says_nothing_of_what_is_good_and_why_it_refuses_the_rest(
    tmp_path: Path,
) -> None:
    archive = tmp_path / "package"
    archive.write_bytes(tar_of((tarfile.TarInfo("a"), b"x" * 10_000)))
    assert (run(archive).returncode, run(archive).stdout) == (0, "")
    archive.write_bytes(archive.read_bytes()[:-20])
    refused = run(archive)
    assert refused.returncode == 1
    assert "archive is damaged" in refused.stdout
    assert refused.stderr == ""


def test_copies_of_a_file_count_as_often_as_they_are_there(tmp_path: Path) -> None:
    copies = []
    for number in range(4):
        copy = tarfile.TarInfo(f"copy-{number}")
        copy.type, copy.linkname = tarfile.LNKTYPE, "file"
        copies.append((copy, b""))
    archive = tmp_path / "package"
    archive.write_bytes(tar_of((tarfile.TarInfo("file"), bytes(1000)), *copies))

    def total(most: int) -> list[str]:
        with reading(archive, max_bytes=most) as entries:
            return [e.path for e in entries if e.content is None or list(e.content())]

    assert len(total(5000)) == 5
    with pytest.raises(BadArchive, match="more than"):
        total(4999)


def test_a_disk_that_fills_up_meanwhile_is_no_fault_of_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "package"
    archive.write_bytes(tar_of((tarfile.TarInfo("file"), b"x")))
    with (
        pytest.raises(OSError, match="No space left"),
        reading(archive),
        open("/dev/full", "w", buffering=1) as full,
    ):
        full.write("x\n")
