"""The files of an executor's output are bounded."""

import os
from pathlib import Path

import pytest

from flame.executor_manager import workplace
from flame.executor_manager.cell import Running
from flame.executor_manager.workplace import Workplaces
from flame.wire.frames import ReadOutput


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


def test_output_is_read_piece_by_piece_what_was_rotated_too(places: Workplaces) -> None:
    with places.open_output("e-1", "out") as out, places.open_output("e-1", "err") as err:
        out.write(b"x" * 200)
        out.flush()
        places.rotate("e-1")
        out.write(b"goes on")
        err.write(b"all of it")
    before = places.read_output("e-1", ReadOutput(rotated=True), None)
    assert (before.stdout, before.stderr) == (b"x" * 100, b"")
    piece = places.read_output("e-1", ReadOutput(stdout_from=5), None)
    assert (piece.stdout, piece.stderr) == (b"on", b"all of it")
    more = ReadOutput(stdout_from=piece.stdout_end, stderr_from=piece.stderr_end)
    assert places.read_output("e-1", more, None).stdout == b""


def test_a_tasks_output_begins_where_the_task_did(places: Workplaces) -> None:
    with places.open_output("e-1", "out") as out, places.open_output("e-1", "err"):
        out.write(b"before, then mine")
    running = Running(7, 1, 0, stdout=len(b"before, then "), stderr=50)  # err has begun anew
    assert places.read_output("e-1", ReadOutput(), running).stdout == b"mine"
    assert places.log_of("e-1", running) == (b"mine", b"")
    with places.open_output("e-1", "err") as err:
        err.write(b"anew")
    first = places.read_output("e-1", ReadOutput(), running)
    assert (first.stderr, first.stderr_end) == (b"anew", 4)
    again = ReadOutput(stderr_from=first.stderr_end)
    assert places.read_output("e-1", again, running).stderr == b""
