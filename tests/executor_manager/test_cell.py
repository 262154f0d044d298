from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flame.executor_manager.cell import (
    HEAD,
    SIZE,
    TASK,
    Cell,
    Running,
    ServiceEnd,
    read_cell,
    read_service_end,
)

NUMBERS = st.integers(1, 2**63 - 1)


def test_a_new_cell_says_that_nothing_runs(tmp_path: Path) -> None:
    with Cell(str(tmp_path / "cell")) as cell:
        assert cell.read() is None
    assert (tmp_path / "cell").stat().st_size == SIZE


def test_no_cell_says_that_nothing_runs(tmp_path: Path) -> None:
    assert read_cell(str(tmp_path / "absent")) is None
    (tmp_path / "short").write_bytes(b"x")
    assert read_cell(str(tmp_path / "short")) is None


@given(task=NUMBERS, attempt=st.integers(1, 2**32 - 1), started=NUMBERS)
def test_another_process_reads_what_was_written(
    tmp_path_factory: object, task: int, attempt: int, started: int
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "cell")  # type: ignore[attr-defined]
    running = Running(task, attempt, started)
    with Cell(path) as cell:
        cell.write(running)
        assert read_cell(path) == cell.read() == running
        cell.write(None)
        assert read_cell(path) is None


@given(pid=st.integers(1, 2**31 - 1), code=st.integers(-64, 255))
def test_how_a_service_ended_stands_beside_the_task_that_ran(
    tmp_path_factory: object, pid: int, code: int
) -> None:
    path = str(tmp_path_factory.getbasetemp() / "ended")  # type: ignore[attr-defined]
    Path(path).unlink(missing_ok=True)
    assert read_service_end(path) is None
    running = Running(1, 2, 3)
    with Cell(path) as cell:
        cell.write(running)
        assert read_service_end(path) is None
        cell.end_service(ServiceEnd(pid, code))
        assert (read_service_end(path), read_cell(path)) == (ServiceEnd(pid, code), running)


def test_a_write_that_was_cut_short_names_no_task(tmp_path: Path) -> None:
    path = str(tmp_path / "cell")
    with Cell(path) as cell:
        cell.write(Running(1, 1, 1))
        cell.words[HEAD] += 1
        cell.words[TASK] = 2
        assert read_cell(path) is None
