"""What a shell completes with: commands and options, and the names of what the cluster has."""

import pytest
from click.shell_completion import ShellComplete

import flame
from flame.cli.flmctl import flmctl
from flame.model.errors import Unavailable
from flame.model.specs import SessionState
from tests.cli.builders import a_session, an_application
from tests.cli.fakes import FakeClient


def completed(*words: str, begun: str = "") -> list[str]:
    complete = ShellComplete(flmctl, {}, "flmctl", "_FLMCTL_COMPLETE")
    return [item.value for item in complete.get_completions(list(words), begun)]


def test_names_of_sessions_and_applications_are_completed(client: FakeClient) -> None:
    client.sessions = [
        a_session(number=1, name="old", state=SessionState.CLOSED),
        a_session(number=2, name="new"),
    ]
    client.applications = [an_application(name="pi"), an_application(name="pong")]
    assert completed("view", "-s") == ["new", "old"]
    assert completed("close", "-s") == ["new"]
    assert completed("delete", "-s") == ["old"]
    assert completed("create", "-a", begun="po") == ["pong"]


def test_where_there_is_no_cluster_nothing_is_completed_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def connect(*_args: object, timeout: float, **_options: object) -> flame.Client:
        asked.append(timeout)
        raise Unavailable("nobody is there")

    monkeypatch.setattr(flame, "connect", connect)
    assert completed("drain") == []
    assert completed("logs", "-e") == []
    assert max(asked) <= 1.0
    assert capfd.readouterr() == ("", "")
