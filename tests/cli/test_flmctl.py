"""flmctl: what it prints, what it asks the cluster, how it ends."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flame.cli.flmctl import flmctl
from flame.model.errors import Unavailable
from flame.model.resources import GIB, Resources
from flame.model.specs import (
    ApplicationSpec,
    Event,
    EventCode,
    SessionState,
    ShimKind,
    TaskState,
)
from tests.cli.builders import (
    a_node,
    a_session,
    a_task,
    an_application,
    an_executor,
)
from tests.cli.conftest import Run
from tests.cli.fakes import FakeClient

CLOSED = SessionState.CLOSED


def test_plain_list_prints_the_table_of_the_mission(client: FakeClient, run: Run) -> None:
    client.sessions = [
        a_session(number=1, state=CLOSED, application="pi", succeeded=100),
        a_session(number=2, state=CLOSED, application="flmexec", succeeded=10),
        a_session(number=4, state=CLOSED, application="flmexec", succeeded=10_000),
    ]
    lines = run(flmctl, "list").stdout.splitlines()
    assert lines[0] == (
        "ID        State     App            Slots     Pending   Running   Succeed   Failed    Created"
    )
    assert re.fullmatch(
        r"4         Closed    flmexec        1         0         0         10000     0         "
        r"\d\d:\d\d:\d\d",
        lines[3],
    )


def test_open_sessions_come_first_then_the_older_ones(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(number=2, state=CLOSED), a_session(number=9), a_session(number=3)]
    lines = run(flmctl, "list").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["3", "9", "2"]


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        (Resources(1000, GIB), 1),
        (Resources(3000, GIB), 3),
        (Resources(1000, 5 * GIB // 2), 3),
        (Resources(100, 1024), 1),
        (Resources(0, 0, 2), 1),
    ],
)
def test_slots_are_the_unit_executors_of_an_instance(
    client: FakeClient, run: Run, resources: Resources, slots: int
) -> None:
    client.sessions = [a_session(resources=resources)]
    assert run(flmctl, "list").stdout.splitlines()[1].split()[3] == str(slots)


def test_a_list_of_sessions_names_them_with_resources_and_priority(
    client: FakeClient, run: Run
) -> None:
    client.sessions = [a_session(name="flmping-x1y2z3", priority=7)]
    header, line = run(flmctl, "list", "-s").stdout.splitlines()
    assert " ".join(header.split()) == (
        "ID State App Resources Priority Pending Running Succeed Failed Created"
    )
    assert line.split()[:5] == ["flmping-x1y2z3", "Open", "flmping", "cpu=1,mem=1g", "7"]


def test_sessions_of_all_tenants_are_listed_when_asked_for(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(number=1)]
    client.others_sessions = [a_session(number=2, name="theirs", tenant="research")]
    header, mine, theirs = run(flmctl, "list", "--all-tenants").stdout.splitlines()
    assert header.split()[:3] == ["ID", "Tenant", "State"]
    assert mine.split()[:2] == ["1", "default"]
    assert theirs.split()[:2] == ["2", "research"]
    last = run(flmctl, "list", "-s", "--all-tenants").stdout.splitlines()[-1]
    assert last.split()[:2] == ["theirs", "research"]
    documents = json.loads(run(flmctl, "list", "--all-tenants", "-o", "json").stdout)
    assert [each["metadata"]["tenant"] for each in documents] == ["default", "research"]
    assert len(run(flmctl, "list").stdout.splitlines()) == 2


@pytest.mark.parametrize("given", ["2", "theirs"])
def test_a_session_of_another_tenant_is_not_shown_but_where_it_is(
    client: FakeClient, run: Run, given: str
) -> None:
    client.others_sessions = [a_session(number=2, name="theirs", tenant="research")]
    result = run(flmctl, "view", "-s", given)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: session '{given}' is of another tenant, 'research': say --tenant research\n"
    )


def test_lists_of_other_things_have_their_own_columns(client: FakeClient, run: Run) -> None:
    client.applications = [an_application(labels=("a", "b"), command="/bin/run")]
    client.executors = [an_executor()]
    client.nodes = [a_node()]
    header = run(flmctl, "list", "-a").stdout.splitlines()[0]
    assert " ".join(header.split()) == "Name State Shim Tags Created Command"
    assert run(flmctl, "list", "-e").stdout.splitlines()[1].split() == (
        ["executor-1", "Bound", "flmping-x1y2z3", "node-1"]
    )
    header, line = run(flmctl, "list", "-n").stdout.splitlines()
    assert " ".join(header.split()) == "NAME HOSTNAME STATUS CPU MEMORY ARCH OS GPU LABELS"
    assert line.split() == (
        ["node-1", "host-1", "Ready", "2", "4g", "x86_64", "linux", "1", "zone=a"]
    )


def test_executors_that_stand_by_are_shown_as_such_and_counted(
    client: FakeClient, run: Run
) -> None:
    client.executors = [replace(an_executor(), standby=True)]
    assert run(flmctl, "list", "-e").stdout.splitlines()[1].split()[1] == "Standby"
    client.sessions = [replace(a_session(), standing_by=2)]
    said = run(flmctl, "view", "-s", "flmping-x1y2z3").stdout
    assert "2 executors without work, warm until somebody needs the room" in said
    status = json.loads(run(flmctl, "view", "-s", "flmping-x1y2z3", "-o", "json").stdout)["status"]
    assert status["standing_by"] == 2


def test_a_session_may_say_how_long_its_executors_stand_by_or_that_they_do_not(
    client: FakeClient, run: Run
) -> None:
    client.sessions = [a_session()]
    for seconds in (0, 600):
        run(flmctl, "create", "-a", "app", "--standby", str(seconds))
        assert client.created[-1][1]["standby"] == seconds


def test_an_empty_list_is_only_a_header_and_an_empty_document(client: FakeClient, run: Run) -> None:
    assert len(run(flmctl, "list").stdout.splitlines()) == 1
    assert json.loads(run(flmctl, "list", "-n", "-o", "json").stdout) == []


def test_lists_are_documents_for_programs(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(number=4, name="s", succeeded=3)]
    [session] = json.loads(run(flmctl, "list", "-o", "json").stdout)
    assert session["metadata"] == {"name": "s", "number": 4, "tenant": "default"}
    assert session["status"]["succeeded"] == 3
    assert yaml.safe_load(run(flmctl, "list", "-o", "yaml").stdout) == [session]


def test_a_session_is_found_by_its_id_or_by_its_number(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(number=4, name="flmping-x1y2z3", common_data=b"{}")]
    by_name = run(flmctl, "view", "-s", "flmping-x1y2z3")
    by_number = run(flmctl, "view", "-s", "4")
    assert by_name.exit_code == 0
    assert by_name.stdout == by_number.stdout
    assert "Durability:   durable" in by_name.stdout


def test_a_task_is_shown_with_what_happened_to_it(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(name="s")]
    client.tasks = {
        17: a_task(id=17, state=TaskState.FAILED, input=b"\xff\x00", message="Boom\n  line 2")
    }
    shown = run(flmctl, "view", "-s", "s", "-t", "17").stdout
    assert re.search(r"State: +Failed", shown)
    assert re.search(r"Input: +/wA= \(2 bytes, base64\)", shown)
    assert "Failed  Boom" in shown
    document = json.loads(run(flmctl, "view", "-s", "s", "-t", "17", "-o", "json").stdout)
    assert document["spec"]["input"] == {"base64": "/wA="}
    assert document["status"]["events"][0]["message"] == "Boom\n  line 2"


def test_a_lost_task_is_shown_with_each_attempt_once_and_whose_output_there_is(
    client: FakeClient, run: Run
) -> None:
    attempts = [f"attempt {n} on node a, executor e{n}: exit: last\nwords" for n in (1, 2)]
    why = "\n".join(["the executor died 2 times", *attempts])
    events = (
        Event(EventCode.LOST, why, 2000),
        Event(EventCode.FAILED, why, 2000),
        *(
            Event(EventCode.ATTEMPT_SPENT, text, 1000 * n, f"e{n}")
            for n, text in enumerate(attempts, 1)
        ),
        Event(4711, "of a newer manager", 3000),
    )
    client.sessions = [a_session(name="s")]
    client.tasks = {1: replace(a_task(state=TaskState.FAILED), events=events)}
    shown = run(flmctl, "view", "-s", "s", "-t", "1").stdout
    lines = [line.strip() for line in shown[shown.index("Events:") :].splitlines()]
    ends = [
        "AttemptSpent  attempt 1 on node a, executor e1: exit: last",
        "words",
        "AttemptSpent  attempt 2 on node a, executor e2: exit: last",
        "words",
        "Lost  the executor died 2 times",
        "4711  of a newer manager",
    ]
    assert len(lines) == len(ends)
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True))
    document = json.loads(run(flmctl, "view", "-s", "s", "-t", "1", "-o", "json").stdout)
    seen = [(e["name"], e.get("executor")) for e in document["status"]["events"]]
    assert seen[:1] + seen[2:] == [
        ("Lost", None),
        ("AttemptSpent", "e1"),
        ("AttemptSpent", "e2"),
        ("4711", None),
    ]


def test_what_view_prints_as_yaml_can_be_registered(
    client: FakeClient, run: Run, tmp_path: Path
) -> None:
    spec = ApplicationSpec(shim=ShimKind.PYTHON, entry_point="m:S", environments=(("A", "1"),))
    client.applications = [an_application(name="pi", spec=spec)]
    shown = run(flmctl, "view", "-a", "pi", "-o", "yaml").stdout
    result = run(flmctl, "register", "-f", "-", stdin=shown)
    assert result.stdout == "Application pi is registered.\n"
    assert ("register", "pi", spec) in client.changes


def test_update_and_unregister_say_what_they_did(
    client: FakeClient, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("metadata: {name: pi}\nspec: {command: /bin/pi}\n")
    for option in ("-f", "-a"):
        assert run(flmctl, "update", option, str(path)).stdout == "Application pi is updated.\n"
    assert run(flmctl, "unregister", "-a", "pi").stdout == "Application pi is unregistered.\n"
    assert ("unregister", "pi") in client.changes


def test_a_wrong_file_registers_nothing(client: FakeClient, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("metadata: {name: a}\nspec: {}\n---\nmetadata: {name: b}\n")
    result = run(flmctl, "register", "-f", str(path))
    assert result.exit_code == 1
    assert "spec is missing" in result.stderr
    assert client.changes == []


def test_create_passes_on_what_it_is_given(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session()]
    run(
        flmctl, "create", "-a", "app", "-r", "cpu=0.5,gpu=1,fpga=1", "--batch-size", "2",
        "--max-instances", "4", "--require", "zone=a", "--prefer", "disk=ssd:2", "--near", "n1",
        "--retry-on", "OSError", "--retry-on", "75", "--retry-on-failure", "4",
    )  # fmt: skip
    assert client.created == [
        (
            "app",
            {
                "resources": Resources(500, 0, 1, (("fpga", 1),)),
                "priority": 0,
                "batch_size": 2,
                "max_instances": 4,
                "require": "zone=a",
                "prefer": "disk=ssd:2",
                "near": ("n1",),
                "retry_on": ("OSError", "75"),
                "retry_on_failure": 4,
            },
        ),
    ]


def test_create_prints_the_id_that_other_commands_take(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(name="flmping-x1y2z3")]
    result = run(flmctl, "create", "-a", "flmping", "-p", "5", "-s", "2")
    assert result.stdout == "flmping-x1y2z3\n"
    assert client.created == [
        ("flmping", {"resources": Resources(2000, 2 * GIB), "priority": 5}),
    ]


def test_create_takes_resources_as_text(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session()]
    run(flmctl, "create", "-a", "flmping", "-r", "cpu=2,mem=512m,gpu=1")
    assert client.created[0][1]["resources"] == Resources(2000, GIB // 2, 1)


def test_close_cancels_running_tasks_only_when_told(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(name="s")]
    assert run(flmctl, "close", "-s", "s").stdout == "Session s is closed.\n"
    run(flmctl, "close", "-s", "s", "--cancel-running")
    assert [session.closed for session in client.opened] == [[False], [True]]


def test_a_session_with_running_tasks_is_not_closed_without_a_word_on_how(
    client: FakeClient, run: Run
) -> None:
    client.sessions = [replace(a_session(name="s"), running=2)]
    refused = run(flmctl, "close", "-s", "s")
    assert refused.exit_code == 1
    assert "running tasks: 2 tasks run; --cancel-running ends them, too" in refused.stderr
    assert run(flmctl, "close", "-s", "s", "--cancel-running").exit_code == 0


@pytest.mark.parametrize("given", ["s", "4"])
def test_a_closed_session_is_deleted_by_its_id_or_its_number(
    client: FakeClient, run: Run, given: str
) -> None:
    client.sessions = [a_session(name="s", number=4, state=CLOSED)]
    assert run(flmctl, "delete", "-s", given).stdout == f"Session {given} is deleted.\n"
    assert ("delete", "s") in client.changes


def test_what_was_deleted_is_a_document_for_programs(client: FakeClient, run: Run) -> None:
    client.sessions = [a_session(name="s", number=4, state=CLOSED, succeeded=3)]
    deleted = json.loads(run(flmctl, "delete", "-s", "s", "-o", "json").stdout)
    assert deleted["metadata"]["number"] == 4
    assert deleted["status"]["succeeded"] == 3


def test_an_open_session_is_deleted_only_by_force(client: FakeClient, run: Run) -> None:
    client.sessions = [replace(a_session(name="s"), running=2)]
    refused = run(flmctl, "delete", "-s", "s")
    assert refused.exit_code == 1
    assert refused.stderr == (
        "Error: session 's' is open; close it before it is deleted: flmctl close -s s; "
        "or --force, which cancels its tasks\n"
    )
    assert ("delete", "s") not in client.changes
    assert run(flmctl, "delete", "-s", "s", "--force").exit_code == 0
    assert client.opened[-1].closed == [True]
    assert ("delete", "s") in client.changes


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "-a", "-e"],
        ["list", "-n", "--all-tenants"],
        ["view"],
        ["view", "-a", "x", "-s", "y"],
        ["view", "-n", "x", "-t", "1"],
        ["create"],
        ["create", "-a", "x", "-s", "1", "-r", "cpu=1"],
        ["create", "-a", "x", "-r", "cpus=1"],
        ["create", "-a", "x", "-s", "0"],
        ["close"],
        ["delete"],
        ["register"],
        ["list", "-o", "xml"],
        ["completion", "tcsh"],
        ["frobnicate"],
    ],
)
def test_a_wrong_command_line_exits_with_2_and_asks_nothing(
    client: FakeClient, run: Run, arguments: list[str]
) -> None:
    result = run(flmctl, *arguments)
    assert result.exit_code == 2
    assert "Error:" in result.stderr
    assert client.changes == []


def test_a_node_says_what_contains_its_executors(run: Run, client: FakeClient) -> None:
    client.nodes = [a_node()]
    assert "memory by watching; user nobody" in run(flmctl, "view", "-n", "node-1").stdout
    document = json.loads(run(flmctl, "view", "-n", "node-1", "-o", "json").stdout)
    assert document["status"]["isolation"] == "memory by watching; user nobody"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["view", "-s", "nope"], "Error: there is no session 'nope'\n"),
        (["view", "-s", "12"], "Error: there is no session '12'\n"),
        (["view", "-a", "nope"], "Error: there is no application 'nope'\n"),
        (["view", "-n", "nope"], "Error: there is no node 'nope'\n"),
        (["view", "-s", "x", "-t", "1x"], "Error: task id '1x' is not a whole number"),
        (["close", "-s", "nope"], "Error: there is no session 'nope'\n"),
        (["delete", "-s", "nope"], "Error: there is no session 'nope'\n"),
    ],
)
def test_an_error_of_the_cluster_is_one_sentence_on_stderr(
    run: Run, arguments: list[str], told: str
) -> None:
    result = run(flmctl, *arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1


def test_commands_connect_to_the_cluster_of_this_machine_unless_told_otherwise(
    client: FakeClient, run: Run
) -> None:
    run(flmctl, "list")
    arguments, options = client.connected_with
    assert arguments == (None,)
    assert options["default_endpoint"] == "http://127.0.0.1:8080"
    run(flmctl, "list", "--endpoint", "http://there:1", "--token-file", "t", "--config", "c")
    arguments, options = client.connected_with
    assert arguments == ("http://there:1",)
    assert (options["token_file"], options["config"]) == ("t", "c")


def test_a_cluster_that_is_not_there_is_an_error_of_the_cluster(
    client: FakeClient, run: Run
) -> None:
    client.error = Unavailable("nobody answers at http://127.0.0.1:8080")
    result = run(flmctl, "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: nobody answers at http://127.0.0.1:8080. To start a cluster here: flame up\n"
    )


def test_a_certificate_of_another_authority_is_told_with_the_option_for_it(
    client: FakeClient, run: Run
) -> None:
    client.error = Unavailable("nobody answers (CERTIFICATE_VERIFY_FAILED: self signed)")
    assert "--ca-file" in run(flmctl, "list", "--endpoint", "https://there:1").stderr


@pytest.mark.parametrize("command", [[], ["tenant"], ["tenant", "list"], ["close"]])
def test_h_is_short_for_help(run: Run, command: list[str]) -> None:
    assert run(flmctl, *command, "-h").stdout == run(flmctl, *command, "--help").stdout


@pytest.mark.parametrize("command", ["", *flmctl.commands])
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    result = run(flmctl, *filter(None, [command]), "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples?:\n +(flmctl|eval)", result.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_covers_every_program(run: Run, shell: str) -> None:
    script = run(flmctl, "completion", shell).stdout
    for program in ("flame", "flmctl", "flmping", "flmexec"):
        assert f"_{program.upper()}_COMPLETE={shell}_complete" in script
