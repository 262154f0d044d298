"""A client built on version 0.2.0, against a cluster of today."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.compatibility.conftest import Cluster
from tests.compatibility.version_0_2_0 import (
    CLOSED,
    FAILED,
    GRPC,
    OPEN,
    PENDING,
    SHELL,
    STDIO,
    SUCCEED,
    Client,
)

Code = grpc.StatusCode


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.endpoint) as client:
        yield client


def refused(call: Any, **fields: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(**fields)
    code: grpc.StatusCode = caught.value.code()
    return code


def test_a_whole_session(client: Client) -> None:
    begin = int(time.time())
    upper = {"shim": STDIO, "command": "tr", "arguments": ["a-z", "A-Z"], "environments": ["A=b=c"]}
    assert client.RegisterApplication(name="upper", application=upper).return_code == 0
    shown = {a.metadata.name: a for a in client.ListApplication().applications}
    assert {"upper", "flmping", "flmexec"} <= shown.keys()
    assert shown["upper"].spec.shim == STDIO
    assert list(shown["upper"].spec.arguments) == ["a-z", "A-Z"]
    assert list(shown["upper"].spec.environments) == ["A=b=c"]
    assert shown["flmping"].spec.shim == GRPC  # one of ours, as the nearest that it knows

    session = client.CreateSession(session={"application": "upper", "slots": 1})
    number = session.metadata.id
    assert number.isdigit()
    assert session.metadata.name == number
    assert (session.spec.application, session.spec.slots) == ("upper", 1)
    assert session.status.state == OPEN
    assert begin <= session.status.creation_time <= time.time()  # seconds

    tasks = [
        client.CreateTask(task={"session_id": number, "input": text})
        for text in (b"one", b"two", b"")
    ]
    assert [task.metadata.id for task in tasks] == ["1", "2", "3"]
    assert tasks[0].metadata.owner == number
    assert tasks[0].status.state == PENDING
    for task, output in zip(tasks, (b"ONE", b"TWO", b""), strict=True):
        *_, last = client.watch(number, task.metadata.id)
        assert (last.status.state, last.spec.output) == (SUCCEED, output)
        assert begin <= last.status.completion_time <= time.time()
    assert client.GetTask(session_id=number, task_id="2").spec.input == b"two"

    assert client.OpenSession(session_id=number).metadata.id == number
    closed = client.CloseSession(session_id=number)
    assert (closed.status.state, closed.status.succeed) == (CLOSED, 3)
    assert closed.status.HasField("completion_time")
    [listed] = client.ListSession().sessions
    assert (listed.metadata.id, listed.status.state) == (number, CLOSED)
    assert client.DeleteSession(session_id=number).metadata.id == number
    assert len(client.ListSession().sessions) == 0
    assert client.UnregisterApplication(name="upper").return_code == 0


def test_a_command_for_flmexec_is_its_text(client: Client) -> None:
    number = client.CreateSession(session={"application": "flmexec", "slots": 2}).metadata.id
    assert client.GetSession(session_id=number).spec.slots == 2
    client.CreateTask(task={"session_id": number, "input": b"echo hi; echo $FLAME_TASK_ID"})
    client.CreateTask(task={"session_id": number, "input": b"exit 3"})
    *_, good = client.watch(number, "1")
    assert good.spec.output == b"hi\n1\n"
    *_, bad = client.watch(number, "2")  # it ends, and is not started for ever
    assert bad.status.state == FAILED
    counts = client.GetSession(session_id=number).status
    assert (counts.pending, counts.running, counts.succeed, counts.failed) == (0, 0, 1, 1)


def test_what_is_wrong_is_told(client: Client) -> None:
    assert refused(client.GetSession, session_id="x") is Code.INVALID_ARGUMENT
    assert refused(client.GetSession, session_id="99") is Code.NOT_FOUND
    assert refused(client.GetTask, session_id="99", task_id="1") is Code.NOT_FOUND
    create = client.CreateSession
    assert refused(create, session={"application": "no", "slots": 1}) is Code.NOT_FOUND
    assert refused(create, session={"application": "flmping"}) is Code.INVALID_ARGUMENT
    number = create(session={"application": "flmexec", "slots": 1}).metadata.id
    assert refused(client.DeleteSession, session_id=number) is Code.FAILED_PRECONDITION
    assert refused(client.GetTask, session_id=number, task_id="1") is Code.NOT_FOUND
    assert refused(client.GetTask, session_id=number, task_id="one") is Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError):
        list(client.watch(number, "1"))
    client.CreateTask(task={"session_id": number, "input": b"sleep 1"})
    assert refused(client.CloseSession, session_id=number) is Code.FAILED_PRECONDITION
    assert refused(client.DeleteTask, session_id=number, task_id="1") is Code.UNIMPLEMENTED
    assert [task.status.state for task in client.watch(number, "1")][-1] == SUCCEED
    client.CloseSession(session_id=number)
    client.CloseSession(session_id=number)  # no error
    assert refused(client.OpenSession, session_id=number) is Code.FAILED_PRECONDITION
    late = {"session_id": number, "input": b"true"}
    assert refused(client.CreateTask, task=late) is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("application", "said"),
    [
        ({"shim": 9}, "knows 0 to 4"),
        ({"shim": SHELL, "environments": ["no"]}, "NAME=value"),
        ({"shim": SHELL, "working_directory": "relative"}, "working_directory"),
    ],
)
def test_what_cannot_be_registered_is_told_in_the_result(
    client: Client, application: dict[str, Any], said: str
) -> None:
    result = client.RegisterApplication(name="a", application=application)
    assert result.return_code == -1
    assert said in result.message


def test_a_name_is_taken_once_and_an_update_replaces(client: Client) -> None:
    shell = {"shim": SHELL}
    assert client.RegisterApplication(name="a", application=shell).return_code == 0
    assert client.RegisterApplication(name="a", application=shell).return_code == -1
    bash = {"shim": SHELL, "command": "bash"}
    assert client.UpdateApplication(name="a", application=bash).return_code == 0
    assert client.GetApplication(name="a").spec.command == "bash"
    assert client.UnregisterApplication(name="none").return_code == -1


def test_it_needs_a_credential_unless_the_cluster_lets_everybody_in(
    cluster: Cluster,
) -> None:
    with Client(cluster.endpoint, token="wrong") as client:
        assert refused(client.ListSession) is Code.UNAUTHENTICATED
    with Client(cluster.endpoint, (cluster.directory / "token").read_text().strip()) as client:
        assert len(client.ListSession().sessions) == 0
