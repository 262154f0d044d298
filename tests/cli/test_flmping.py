"""flmping: the mission's lines, the checking of outputs, the ways it ends."""

import json
import re

import pytest

from flame.cli.flmping import Payloads, flmping
from flame.model.errors import InvalidRequest, TaskFailed
from flame.model.resources import UNIT, Resources
from tests.cli.builders import a_session
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient


@pytest.fixture(autouse=True)
def _session(client: FakeClient) -> None:
    client.sessions = [a_session(number=4)]


def test_it_prints_the_lines_of_the_mission(run: Run) -> None:
    result = run(flmping, "-t", "10000")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"Session <4> was created in <\d+ ms>, start to run <10,000> tasks in the session:\n"
        r"\n"
        r"\[100%\] =============================================   10000/10000\n"
        r"\n"
        r"<10,000> tasks was completed in <[\d,]+ ms>.\n",
        result.stdout,
    )


def test_it_runs_ten_tasks_of_16_bytes_unless_told_otherwise(client: FakeClient, run: Run) -> None:
    run(flmping)
    [session] = client.opened
    assert [len(input or b"") for input in session.inputs] == [16] * 10
    assert session.closed == [False]


@pytest.mark.parametrize("size", [8, 16, 1000])
def test_every_payload_is_different(size: int) -> None:
    payload = Payloads(size)
    made = [payload(index) for index in range(1000)]
    assert len(set(made)) == 1000
    assert {len(each) for each in made} == {size}


@pytest.mark.parametrize("size", [0, 1, 7])
def test_small_payloads_keep_their_size(size: int) -> None:
    assert len(Payloads(size)(300)) == size


def test_perf_adds_duration_counts_and_throughput(run: Run) -> None:
    output = run(flmping, "--perf").stdout
    assert re.search(
        r"\nDuration:    \d+\.\d{3} s\nSucceeded:   10\nFailed:      0\n"
        r"Throughput:  [\d,]+ tasks/s\n$",
        output,
    )


def test_a_wrong_output_is_told_and_exits_with_1(client: FakeClient, run: Run) -> None:
    client.service = lambda input: b"Completed" if input and input[0] == 3 else input
    result = run(flmping)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: task 4 answered b'Completed', not b'\\x03")


def test_failed_tasks_are_counted_and_a_few_of_them_told(client: FakeClient, run: Run) -> None:
    def fail(input: bytes | None) -> bytes | None:
        raise TaskFailed("no luck", session="s", task=5, code=3)

    client.service = fail
    result = run(flmping, "-t", "100", "--perf")
    assert result.exit_code == 1
    assert "Succeeded:   0\nFailed:      100\n" in result.stdout
    assert result.stderr.count("Error: task 5 failed: no luck\n") == 5
    assert "Error: ... and 95 more like these\n" in result.stderr


def test_a_document_is_the_only_thing_on_stdout(run: Run) -> None:
    report = json.loads(run(flmping, "-t", "3", "-o", "json").stdout)
    assert {key: report[key] for key in ("session", "tasks", "succeeded", "failed")} == {
        "session": 4,
        "tasks": 3,
        "succeeded": 3,
        "failed": 0,
    }
    assert report["throughput"] > 0


def test_no_tasks_are_completed_at_once(run: Run) -> None:
    result = run(flmping, "-t", "0")
    assert result.exit_code == 0
    assert "<0> tasks was completed" in result.stdout


def test_options_of_the_session_reach_the_cluster(client: FakeClient, run: Run) -> None:
    run(flmping, "-P", "3", "-s", "2", "--durability", "sync", "-c", "{}")
    assert client.created == [
        (
            "flmping",
            {"resources": UNIT * 2, "common_data": b"{}", "priority": 3, "durability": "sync"},
        )
    ]
    run(flmping, "-r", "cpu=4,mem=2g")
    assert client.created[1][1]["resources"] == Resources(4000, 2 * 1024**3)


def test_duration_and_memory_are_settings_of_the_service(client: FakeClient, run: Run) -> None:
    run(flmping, "-d", "50", "-m", "1k")
    assert json.loads(client.created[0][1]["common_data"]) == {
        "duration_ms": 50,
        "memory": 1024,
    }
    run(flmping, "-d", "50", "-c", '{"text": "x"}')
    assert json.loads(client.created[1][1]["common_data"]) == {"text": "x", "duration_ms": 50}


@pytest.mark.parametrize("text", ["hello", "[1]", "7"])
def test_common_data_that_the_service_cannot_read_is_refused_at_once(
    client: FakeClient, run: Run, text: str
) -> None:
    result = run(flmping, "-c", text)
    assert result.exit_code == 1
    assert f"Error: --common-data is {text!r}" in result.stderr
    assert client.created == []


def test_ctrl_c_closes_the_session_and_exits_with_130(client: FakeClient, run: Run) -> None:
    def interrupt(input: bytes | None) -> bytes | None:
        raise KeyboardInterrupt

    client.service = interrupt
    result = run(flmping)
    assert result.exit_code == 130
    assert client.opened[0].closed == [True]
    assert "Interrupted: session <4> is closed." in result.stderr


def test_it_may_start_a_cluster_of_its_own(client: FakeClient, run: Run) -> None:
    run(flmping, "--executors", "3")
    assert client.connected_with == ((), {"executors": 3})


def test_a_session_is_closed_when_its_tasks_are_refused(client: FakeClient, run: Run) -> None:
    def refuse(input: bytes | None) -> bytes | None:
        raise InvalidRequest("too large")

    client.service = refuse
    result = run(flmping)
    assert (result.exit_code, result.stderr) == (1, "Error: too large\n")
    assert client.opened[0].closed == [True]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--executors", "2", "--endpoint", "http://there:1"],
        ["-t", "many"],
        ["-t", "-1"],
        ["--size", "big"],
        ["-s", "1", "-r", "cpu=1"],
        ["-r", "cpus=1"],
        ["--durability", "eternal"],
        ["extra"],
    ],
)
def test_a_wrong_command_line_exits_with_2(
    client: FakeClient, run: Run, arguments: list[str]
) -> None:
    assert run(flmping, *arguments).exit_code == 2
    assert client.created == []
