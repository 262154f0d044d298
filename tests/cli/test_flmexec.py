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


def reply(stdout: str, stderr: str = "") -> bytes:
    return f"{len(stdout.encode())}\n{stdout}{stderr}".encode()


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


def test_a_request_says_all_that_was_given(run: Run, requests: list[Any]) -> None:
    run(flmexec, "-t", "1", "-l", "python", "-r", "python3", "-c", "pass", "-i", "hé")
    assert requests == [
        {
            "language": "python",
            "runtime": "python3",
            "code": "pass",
            "input": "hé",
            "reply": "streams",
        }
    ]


def test_what_is_not_given_is_not_sent(run: Run, requests: list[Any]) -> None:
    run(flmexec, "-t", "1", "-c", "ls")
    assert requests == [{"language": "shell", "code": "ls", "reply": "streams"}]


def test_script_and_input_may_come_from_files(
    run: Run, requests: list[Any], tmp_path: Path
) -> None:
    script = tmp_path / "script.sh"
    script.write_text("wc -c")
    run(flmexec, "-t", "1", "-c", f"@{script}", "-i", "@-", stdin="typed")
    assert [(request["code"], request["input"]) for request in requests] == [("wc -c", "typed")]


def test_each_item_is_a_task(run: Run, requests: list[Any]) -> None:
    result = run(flmexec, "-c", "gzip {} >{/.}.{#}", "a b.log", "it's")
    assert (result.exit_code, result.stdout) == (0, "run 1\nrun 2\n")
    assert [request["code"] for request in requests] == [
        "gzip 'a b.log' >'a b'.1",
        """gzip 'it'"'"'s' >'it'"'"'s'.2""",
    ]
    assert [request["arguments"] for request in requests] == [["a b.log"], ["it's"]]


def test_items_come_from_the_lines_of_a_file(run: Run, requests: list[Any], tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\n\ntwo words\r\nthree")
    run(flmexec, "-c", "echo", "-a", str(tmp_path / "lines"))
    assert [request["code"] for request in requests] == [
        "echo one",
        "echo 'two words'",
        "echo three",
    ]
    (tmp_path / "names").write_bytes(b"a\nb\0c\0")
    run(flmexec, "-c", "ls $1", "-0", "-a", str(tmp_path / "names"))
    assert [request["arguments"] for request in requests[3:]] == [["a\nb"], ["c"]]


def test_items_that_are_no_text_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"ok\n\xff\n")
    result = run(flmexec, "-c", "echo", "-a", str(tmp_path / "lines"))
    assert result.exit_code == 1
    assert f"item 2 of {tmp_path / 'lines'} is no UTF-8 text" in result.stderr


def test_tasks_without_items_know_their_number(client: FakeClient, run: Run) -> None:
    assert (
        run(flmexec, "--dry-run", "-t", "2", "-c", "echo {#} {}").output == "echo 1 {}\necho 2 {}\n"
    )
    python = run(flmexec, "--dry-run", "-l", "python", "-t", "1", "-c", "print('{#}')")
    assert python.output == "print('{#}')\n"


def test_a_dry_run_prints_the_scripts(client: FakeClient, run: Run) -> None:
    result = run(flmexec, "--dry-run", "-c", "cc -c {} -o {.}.o", "src/a.c", "b.c")
    assert result.stdout == "cc -c src/a.c -o src/a.o\ncc -c b.c -o b.o\n"
    assert client.created == []


def test_a_python_script_finds_its_item_in_argv(run: Run, requests: list[Any]) -> None:
    run(flmexec, "-l", "python", "-c", "print({}, sys.argv)", "x")
    assert requests[0]["code"] == "print({}, sys.argv)"
    assert requests[0]["arguments"] == ["x"]


def test_lines_can_be_tagged(client: FakeClient, run: Run) -> None:
    client.service = lambda input: reply("a\nb\n", "c\n")
    result = run(flmexec, "--tag", "-c", "x", "host")
    assert (result.stdout, result.stderr) == ("host\ta\nhost\tb\n", "host\tc\n")


def test_json_is_a_line_for_each_task(client: FakeClient, run: Run) -> None:
    outcomes: list[Any] = [TaskFailed("exit code 3", task=1), reply("out\n", "err\n")]

    def service(input: bytes | None) -> bytes:
        if isinstance(outcomes[0], bytes):
            return reply("out\n", "err\n")
        raise outcomes.pop(0)

    client.service = service
    result = run(flmexec, "-o", "json", "-c", "x", "a", "b")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "task": 1, "item": "a", "state": "Failed", "stdout": "", "stderr": "",
            "message": "exit code 3",
        },
        {
            "task": 2, "item": "b", "state": "Succeed", "stdout": "out\n", "stderr": "err\n",
            "message": None,
        },
    ]  # fmt: skip
    assert result.exit_code == 1


def test_halt_cancels_the_rest(client: FakeClient, run: Run) -> None:
    def service(input: bytes | None) -> bytes:
        raise TaskFailed("no")

    client.service = service
    result = run(flmexec, "--halt", "2", "-t", "9", "-c", "x")
    assert result.exit_code == 1
    assert "Error: 2 of the first 2 tasks failed; the rest was cancelled" in result.stderr
    assert client.opened[0].closed == [True]


def test_what_a_session_is_asked_for(client: FakeClient, run: Run) -> None:
    run(flmexec, "-c", "x", "-j", "3", "--retries", "2", "--timeout", "1.5", "-P", "4")
    asked = client.created[0][1]
    assert (asked["max_instances"], asked["retry_on_failure"]) == (3, 2)
    assert (asked["task_timeout"], asked["priority"]) == (1.5, 4)


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
        (["-c", "x", "-t", "1", "item"], 2),
        (["-c", "x", "-a", "-", "item"], 2),
        (["-c", "@-", "-a", "-"], 2),
        (["-c", "x", "--halt", "0"], 2),
        (["-c", "@/no/such/file"], 1),
    ],
)
def test_a_wrong_command_line_runs_nothing(
    client: FakeClient, run: Run, arguments: list[str], code: int
) -> None:
    assert run(flmexec, *arguments).exit_code == code
    assert client.created == []
