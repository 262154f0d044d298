"""The progress bar."""

import pytest

from flame.cli.progress import Progress, bar_line


def test_a_full_bar_is_the_line_of_the_mission() -> None:
    line = "[100%] =============================================   10000/10000"
    assert bar_line(10_000, 10_000) == line


def test_a_bar_fills_from_the_left_and_keeps_its_width() -> None:
    assert bar_line(0, 10).startswith("[  0%]  ")
    assert bar_line(5, 10).count("=") == 22
    assert len(bar_line(0, 10)) == len(bar_line(10, 10))


def test_no_tasks_at_all_are_done() -> None:
    assert bar_line(0, 0).startswith("[100%] ====")


def test_in_a_pipe_the_bar_is_printed_once_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Progress(3).follow(iter("abc"))) == ["a", "b", "c"]
    assert capsys.readouterr().out == bar_line(3, 3) + "\n"


def test_a_quiet_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Progress(2, quiet=True).follow("ab")) == ["a", "b"]
    assert capsys.readouterr().out == ""
