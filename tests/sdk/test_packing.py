"""What goes into a package, and that the same content is the same package."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from flame.model.errors import InvalidRequest
from flame.sdk.packing import PackList, find_installer, list_files, packed, write_archive


def lay_out(directory: Path, *paths: str) -> Path:
    for path in paths:
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    return directory


def paths(listed: PackList) -> list[str]:
    return [file.path for file in listed.files]


def test_caches_histories_and_environments_are_left_out(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        "app/service.py",
        "app/__pycache__/service.pyc",
        ".git/config",
        ".venv/bin/python",
        "my-env/pyvenv.cfg",
        ".mypy_cache/x",
        "data/big.csv",
        "data/small.txt",
        "docs/notes.md",
    )
    listed = list_files(tmp_path, ["*.csv", "docs"])
    assert paths(listed) == ["app/service.py", "data/small.txt"]
    assert listed.excluded == [
        ".git",
        ".mypy_cache",
        ".venv",
        "app/__pycache__",
        "data/big.csv",
        "docs",
        "my-env",
    ]
    assert listed.total_bytes == len("app/service.py") + len("data/small.txt")


def test_the_same_content_is_the_same_package_whenever_and_wherever(tmp_path: Path) -> None:
    first = lay_out(tmp_path / "here" / "app", "b.py", "a/c.py")
    second = lay_out(tmp_path / "there" / "app", "a/c.py", "b.py")
    os.utime(second / "b.py", (1, 1))
    (second / "a").chmod(0o700)
    with packed(first) as one, packed(second) as other:
        assert (one.sha256, one.name) == (other.sha256, "app.tar.gz")
        assert one.archive.read_bytes() == other.archive.read_bytes()
    (second / "b.py").chmod(0o755)
    with packed(second) as other:
        assert other.sha256 != one.sha256


def test_a_package_holds_files_links_and_who_may_run_them(tmp_path: Path) -> None:
    lay_out(tmp_path, "bin/run", "lib/code")
    (tmp_path / "bin/run").chmod(0o755)
    (tmp_path / "bin/code").symlink_to("../lib/code")
    buffer = io.BytesIO()
    write_archive(list_files(tmp_path), buffer)
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        entries = {entry.name: entry for entry in archive}
    assert {name: oct(entry.mode) for name, entry in entries.items()} == {
        "bin/code": "0o644",
        "bin/run": "0o755",
        "lib/code": "0o644",
    }
    assert entries["bin/code"].linkname == "../lib/code"
    assert all((entry.mtime, entry.uid, entry.uname) == (0, 0, "") for entry in entries.values())


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside"])
def test_a_link_out_of_the_directory_is_refused_with_what_to_do(
    tmp_path: Path, target: str
) -> None:
    (lay_out(tmp_path, "a/file") / "link").symlink_to(target)
    with pytest.raises(InvalidRequest, match="--exclude link"):
        list_files(tmp_path)
    assert paths(list_files(tmp_path, ["link"])) == ["a/file"]


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(lay_out(tmp_path, "file") / "pipe")
    with pytest.raises(InvalidRequest, match="no regular file"):
        list_files(tmp_path)


def test_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no file to pack"):
        list_files(tmp_path)
    with pytest.raises(InvalidRequest, match="neither a directory nor a file"):
        list_files(tmp_path / "missing")


def test_an_archive_is_sent_as_it_is_and_another_file_is_packed(tmp_path: Path) -> None:
    wheel = tmp_path / "app-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("app.py", "")
    with packed(wheel) as sent:
        assert (sent.archive, sent.name) == (wheel, wheel.name)
    script = lay_out(tmp_path, "run.sh") / "run.sh"
    with packed(script) as sent, tarfile.open(sent.archive) as tar:
        assert (tar.getnames(), sent.name) == (["run.sh"], "run.sh.tar.gz")


def test_a_damaged_archive_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    wheel = tmp_path / "app-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("app.py", b"x" * 1000)
    wheel.write_bytes(wheel.read_bytes().replace(b"x" * 100, b"y" * 100))
    damaged = r"whl: the package's archive is damaged: .*app\.py"
    with pytest.raises(InvalidRequest, match=damaged), packed(wheel):
        pass


def test_the_installer_follows_from_what_is_there(tmp_path: Path) -> None:
    project = lay_out(tmp_path / "project", "pyproject.toml", "src/app.py")
    program = lay_out(tmp_path / "program", "bin/app", "lib/helper.py")
    assert find_installer(project) == "python"
    assert find_installer(program) == "binary"
    assert find_installer(lay_out(tmp_path / "module", "service.py")) == "python"
    for directory, expected in ((project, "python"), (program, "binary")):
        with packed(directory) as sent:
            inside = tmp_path / f"{directory.name}.tar.gz"
            inside.write_bytes(sent.archive.read_bytes())
        assert find_installer(inside) == expected
    release = tmp_path / "release.tar.gz"
    with tarfile.open(release, "w:gz") as archive:
        archive.add(project, "app-1.0")
    assert find_installer(release) == "python"
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"nothing like an archive")
    with pytest.raises(InvalidRequest, match="no archive that can be read"):
        find_installer(broken)
