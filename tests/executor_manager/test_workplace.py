"""The files of an executor's output are bounded."""

import os
from pathlib import Path

import pytest

from flame.executor_manager import workplace
from flame.executor_manager.workplace import Workplaces


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplaces:
    monkeypatch.setattr(workplace, "MOST_OUTPUT", 100)
    return Workplaces(str(tmp_path), str(tmp_path / "sockets"))


def test_a_large_output_file_begins_anew_and_its_end_is_kept(
    places: Workplaces, tmp_path: Path
) -> None:
    with places.open_output("e-1", "out") as out, places.open_output("e-1", "err"):
        out.write(bytes(500) + b"x" * 100)
        out.flush()
        places.rotate("e-1")
        out.write(b"goes on")
    assert (tmp_path / "e-1.out").read_bytes() == b"goes on"
    assert (tmp_path / "e-1.out.1").read_bytes() == b"x" * 100
    assert os.stat(tmp_path / "e-1.out.1").st_mode & 0o777 == 0o600
    assert not (tmp_path / "e-1.err.1").exists()
    places.delete_output("e-1")
    assert list(tmp_path.iterdir()) == []


def test_small_output_files_and_missing_ones_are_left_alone(
    places: Workplaces, tmp_path: Path
) -> None:
    with places.open_output("e-1", "out") as out:
        out.write(bytes(100))
    places.rotate("e-1")
    assert (tmp_path / "e-1.out").stat().st_size == 100
    assert [path.name for path in tmp_path.iterdir()] == ["e-1.out"]
