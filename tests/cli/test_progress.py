"""The progress bar."""

import pytest

from flame.cli import progress
from flame.cli.progress import Progress, StderrBar, bar_line


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


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time as the bar sees it."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def on_a_terminal(total: int | None) -> StderrBar:
    """A bar that is shown. What it prints has no control sequences, as it is none."""
    bar = StderrBar(total)
    bar.shown = True
    return bar


def test_a_bar_on_stderr_comes_after_a_second_and_then_five_times_a_second(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = on_a_terminal(4)
    advance = bar.advance_if_shown()
    assert advance is not None
    shown = []
    for now in (100.9, 101.1, 101.2, 101.4):
        clock.now = now
        advance()
        bar.draw()
        shown.append(capsys.readouterr().err)
    assert shown == ["", f"\r{bar_line(2, 4)}", "", f"\r{bar_line(4, 4)}"]
    bar.clear()
    bar.clear()
    assert capsys.readouterr().err == "\r"


def test_a_bar_of_nobody_knows_how_many_counts(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = on_a_terminal(None)
    clock.now += 2.0
    bar.draw()
    clock.now += 2.0
    bar.stand_at(3, 9)
    assert capsys.readouterr().err == f"\r0 done\r{bar_line(3, 9)}"


def test_without_a_terminal_there_is_no_bar(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = StderrBar(4)
    clock.now += 2.0
    assert bar.advance_if_shown() is None
    bar.stand_at(4, 4)
    assert capsys.readouterr().err == ""
