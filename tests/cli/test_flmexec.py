"""flmexec: what it sends, what it prints, how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from flame.cli.flmexec import flmexec
from flame.model.errors import TaskFailed
from tests.cli.builders import a_session
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient


def reply(text: str) -> bytes:
    return json.dumps({"data": list(text.encode())}).encode()


@pytest.fixture(autouse=True)
def requests(client: FakeClient) -> list[Any]:
    """The requests that reached the service, which answers each with its number."""
    client.sessions = [a_session(application="flmexec")]
    requests: list[Any] = []

    def service(input: bytes | None) -> bytes:
        requests.append(json.loads(input or b""))
        return reply(f"run {len(requests)}\n")

    client.service = service
    return requests


def test_outputs_are_printed_in_order(client: FakeClient, run: Run) -> None:
    result = run(flmexec, "-t", "3", "-c", "hostname")
    assert (result.exit_code, result.stdout) == (0, "run 1\nrun 2\nrun 3\n")
    assert client.created[0][0] == "flmexec"
    assert client.opened[0].closed == [False]


def test_a_request_says_what_the_released_service_reads(run: Run, requests: list[Any]) -> None:
    run(flmexec, "-t", "1", "-l", "python", "-r", "python3", "-c", "pass", "-i", "hé")
    assert requests == [
        {"language": "python", "runtime": "python3", "code": "pass", "input": [104, 195, 169]}
    ]


def test_what_is_not_given_is_not_sent(run: Run, requests: list[Any]) -> None:
    run(flmexec, "-t", "1", "-c", "ls")
    assert requests == [{"language": "shell", "code": "ls"}]


def test_script_and_input_may_come_from_files(
    run: Run, requests: list[Any], tmp_path: Path
) -> None:
    script = tmp_path / "script.sh"
    script.write_text("wc -c")
    run(flmexec, "-t", "1", "-c", f"@{script}", "-i", "@-", stdin="typed")
    assert requests == [{"language": "shell", "code": "wc -c", "input": list(b"typed")}]


def test_failing_tasks_are_named_and_the_others_printed(client: FakeClient, run: Run) -> None:
    outcomes: list[Any] = [reply("one\n"), TaskFailed("exit code 3", task=2), reply("three\n")]

    def service(input: bytes | None) -> bytes:
        outcome = outcomes.pop(0)
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    client.service = service
    result = run(flmexec, "-t", "3", "-c", "x")
    assert result.exit_code == 1
    assert result.stdout == "one\nthree\n"
    assert result.stderr == "task 2 failed: exit code 3\nError: 1 of 3 tasks failed\n"


def test_ctrl_c_closes_the_session_and_exits_with_130(client: FakeClient, run: Run) -> None:
    def interrupt(input: bytes | None) -> bytes | None:
        raise KeyboardInterrupt

    client.service = interrupt
    assert run(flmexec, "-c", "sleep 9").exit_code == 130
    assert client.opened[0].closed == [True]


def test_an_answer_that_is_no_scripts_output_is_told(client: FakeClient, run: Run) -> None:
    client.service = lambda input: b"garbage"
    result = run(flmexec, "-c", "x")
    assert result.exit_code == 1
    assert "Error: the service answered b'garbage'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["-c", "x", "-l", "perl"], 2),
        (["-c", "@-", "-i", "@-"], 2),
        (["-c", "x", "-t", "x"], 2),
        (["-c", "@/no/such/file"], 1),
    ],
)
def test_a_wrong_command_line_runs_nothing(
    client: FakeClient, run: Run, arguments: list[str], code: int
) -> None:
    assert run(flmexec, *arguments).exit_code == code
    assert client.created == []
