"""What a command says on stderr of a session manager that is away."""

import sys

import pytest

from flame.cli import outages
from flame.sdk import outage


@pytest.fixture(autouse=True)
def _told() -> None:
    outages.tell_of_outages()
    outages.tell_of_outages()  # as often as commands connect


def test_an_outage_and_its_end_are_a_line_each_and_nothing_on_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outage.log.warning(outage.GONE, "http://there:1")
    outage.log.warning(outage.BACK, "http://there:1")
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines() == [
        "the session manager at http://there:1 does not answer; waiting for it, Ctrl-C gives up",
        "the session manager at http://there:1 answers again",
    ]


def test_who_waits_for_a_close_is_told_how_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    outage.log.warning(outage.CLOSING, "s1", "http://there:1")
    assert capsys.readouterr().err == (
        "session 's1' is being closed; waiting for the session manager at http://there:1, "
        "Ctrl-C leaves it open\n"
    )


def test_on_a_terminal_it_takes_the_place_of_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    outage.log.warning(outage.BACK, "http://there:1")
    assert capsys.readouterr().err.startswith("\r\x1b[Kthe session manager")
