"""What the tests of the command lines share."""

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

import flame
from tests.cli.fakes import FakeClient

Run = Callable[..., Result]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that every command connects to, whatever its options say."""
    fake = FakeClient()
    monkeypatch.setattr(flame, "connect", fake.connect)
    for name in ("FLAME_ENDPOINT", "FLAME_TOKEN", "FLAME_TOKEN_FILE", "FLAME_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLAME_CONFIG_DIR", "/no/such/directory")
    return fake


@pytest.fixture
def run(client: FakeClient) -> Run:
    """Run a command as the shell would."""

    def run(command: click.Command, *arguments: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(command, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a traceback for the user is a bug
        return result

    return run
