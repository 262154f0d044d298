"""The v1 Frontend, called over loopback as released clients call it."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import grpc
import pytest

from flame.core import events
from flame.model.errors import (
    AlreadyExists,
    FlameError,
    IllegalTransition,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    Unavailable,
    WrongState,
)
from flame.model.resources import Resources
from flame.model.specs import Event, EventCode, SessionState, TaskState
from flame.model.task_notes import TaskNotes
from flame.session_manager.frontend import Frontend
from flame.session_manager.listening import Listener
from flame.wire import codec, v1
from flame.wire.channels import bearer
from flame.wire.status import error_of
from tests.session_manager.conftest import TOKEN, Client
from tests.session_manager.fake_manager import (
    A_NODE,
    FakeManager,
    a_session,
    a_task,
    an_application,
)

MIB = 1024 * 1024
Code = grpc.StatusCode


async def refusal(call: Any) -> tuple[grpc.StatusCode, FlameError]:
    """The status of a call that must fail, and the error that our SDK makes of it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    print(
        error.debug_error_string()
    )  # shown with a failure: what gRPC knows and the status does not
    trailing = [(key, value) for key, value in error.trailing_metadata() or ()]
    return error.code(), error_of(error.code(), error.details() or "", trailing)


# --- sessions ----------------------------------------------------------------------------------


async def test_a_session_is_created_and_echoed(manager: FakeManager, client: Client) -> None:
    manager.answer = a_session(closed_ms=None, events=(Event(1001, "no", 5),))
    spec = v1.SessionSpec(application="flmping", common_data=b"c", batch_size=1)
    session = await client("CreateSession", session_id="s1", session=spec)
    [event] = manager.events
    assert isinstance(event, events.CreateSession)
    assert (event.tenant, event.name) == ("default", "s1")
    assert event.spec.common_data == b"c"
    assert (session.metadata.id, session.metadata.name) == ("s1", "s1")
    assert session.spec.HasField("resreq")
    assert session.status.creation_time == 1_700_000_000_123  # milliseconds
    assert not session.status.HasField("completion_time")
    counts = session.status
    assert (counts.pending, counts.running, counts.succeed) == (1, 2, 3)
    assert (counts.failed, counts.cancelled) == (4, 5)
    assert [(e.code, e.message, e.creation_time) for e in counts.events] == [(1001, "no", 5)]
    assert counts.number == 7


@pytest.mark.parametrize("rpc", ["CreateSession", "RegisterApplication", "UpdateApplication"])
async def test_a_missing_specification_is_an_invalid_argument(client: Client, rpc: str) -> None:
    key = "session_id" if rpc == "CreateSession" else "name"
    code, error = await refusal(client(rpc, **{key: "x"}))
    assert code is Code.INVALID_ARGUMENT
    assert "has no specification" in str(error)


async def test_a_session_without_a_name_is_an_invalid_argument(client: Client) -> None:
    code, _ = await refusal(client("GetSession"))
    assert code is Code.INVALID_ARGUMENT


async def test_open_session_tells_get_from_get_or_create(
    manager: FakeManager, client: Client
) -> None:
    manager.answer = a_session()
    await client("OpenSession", session_id="s1")
    await client("OpenSession", session_id="s1", session=v1.SessionSpec(application="a"))
    assert [event.spec is None for event in manager.events] == [True, False]


@pytest.mark.parametrize(
    ("rpc", "error", "code"),
    [
        ("CreateSession", AlreadyExists("taken"), Code.ALREADY_EXISTS),
        ("CreateSession", NotFound("no application"), Code.NOT_FOUND),
        ("CreateSession", ResourceExhausted("full"), Code.RESOURCE_EXHAUSTED),
        ("CreateSession", Unavailable("stopping"), Code.UNAVAILABLE),
        ("CreateSession", IllegalTransition("bug"), Code.INTERNAL),
        ("OpenSession", WrongState("session 's1' is not open"), Code.INVALID_ARGUMENT),
        ("OpenSession", InvalidRequest("spec mismatch: min differs"), Code.INVALID_ARGUMENT),
        ("CloseSession", WrongState("Cannot close session with running tasks"), Code.INTERNAL),
        ("CloseSession", NotFound("no session"), Code.NOT_FOUND),
    ],
)
async def test_an_error_has_the_code_that_released_clients_expect(
    manager: FakeManager, client: Client, rpc: str, error: FlameError, code: grpc.StatusCode
) -> None:
    """Our SDK still gets the very class, from the trailing metadata."""
    manager.answer = error
    fields: dict[str, Any] = {"session_id": "s1"}
    if rpc != "CloseSession":
        fields["session"] = v1.SessionSpec(application="a")
    seen, rebuilt = await refusal(client(rpc, **fields))
    assert seen is code
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)


async def test_a_bug_of_ours_is_internal_and_the_next_call_goes_on(
    manager: FakeManager, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    manager.answer = KeyError("oops")
    code, error = await refusal(client("CloseSession", session_id="s1"))
    assert code is Code.INTERNAL
    assert "a bug in Flame" in str(error)
    assert "rpc_failed method=/flame.v1.Frontend/CloseSession" in caplog.text
    manager.answer = a_session(state=SessionState.CLOSED, closed_ms=9)
    session = await client("CloseSession", session_id="s1", cancel_running=True)
    assert session.status.state == v1.SessionState.Closed
    assert session.status.completion_time == 9
    assert [event.cancel_running for event in manager.events] == [False, True]


async def test_a_deleted_session_is_shown_as_it_was(manager: FakeManager, client: Client) -> None:
    manager.known_sessions = [a_session()]
    session = await client("DeleteSession", session_id="s1")
    assert session.metadata.id == "s1"
    assert isinstance(manager.events[0], events.DeleteSession)


async def test_deleting_an_open_session_is_an_invalid_argument(
    manager: FakeManager, client: Client
) -> None:
    manager.known_sessions = [a_session()]
    manager.answer = WrongState("session 's1' is open")
    code, _ = await refusal(client("DeleteSession", session_id="s1"))
    assert code is Code.INVALID_ARGUMENT


async def test_sessions_are_listed_and_found(manager: FakeManager, client: Client) -> None:
    manager.known_sessions = [a_session("a"), a_session("b")]
    listed = await client("ListSession")
    assert [session.metadata.id for session in listed.sessions] == ["a", "b"]
    assert (await client("GetSession", session_id="b")).metadata.id == "b"
    code, _ = await refusal(client("GetSession", session_id="c"))
    assert code is Code.NOT_FOUND


async def test_a_session_gets_the_cluster_s_resources_where_it_names_none(
    manager: FakeManager,
) -> None:
    frontend = Frontend(manager, default_resources=Resources(2000, 5, 1))
    spec = frontend._session_spec(v1.SessionSpec(application="a"))
    assert spec.resources == Resources(2000, 5, 1)


# --- applications ------------------------------------------------------------------------------


async def test_an_application_is_registered_updated_and_unregistered(
    manager: FakeManager, client: Client
) -> None:
    spec = v1.ApplicationSpec(command="run")
    for rpc in ("RegisterApplication", "UpdateApplication"):
        assert (await client(rpc, name="a", application=spec)).return_code == 0
    assert (await client("UnregisterApplication", name="a")).return_code == 0
    register, update, unregister = manager.events
    assert (register.replace, update.replace) == (False, True)
    assert register.spec.command == "run"
    assert isinstance(unregister, events.UnregisterApplication)


@pytest.mark.parametrize("error", [AlreadyExists("taken"), NotFound("none"), WrongState("in use")])
async def test_a_refused_registration_is_a_result_of_minus_1(
    manager: FakeManager, client: Client, error: FlameError
) -> None:
    """Released clients read the message of the Result; our SDK finds the class beside it."""
    manager.answer = error
    call = client.start("RegisterApplication", name="a", application=v1.ApplicationSpec())
    result = await call
    assert (result.return_code, result.message) == (-1, str(error))
    assert (v1.ERROR_KEY, type(error).__name__) in [
        (k, v) for k, v in await call.trailing_metadata()
    ]


async def test_an_invalid_registration_is_an_invalid_argument(client: Client) -> None:
    spec = v1.ApplicationSpec(working_directory="here")
    code, _ = await refusal(client("RegisterApplication", name="a", application=spec))
    assert code is Code.INVALID_ARGUMENT


async def test_applications_are_listed_and_found(manager: FakeManager, client: Client) -> None:
    manager.known_applications = [an_application("a")]
    assert (await client("GetApplication", name="a")).spec.command == "ping"
    assert [a.metadata.id for a in (await client("ListApplication")).applications] == ["a"]
    code, _ = await refusal(client("GetApplication", name="b"))
    assert code is Code.NOT_FOUND


# --- executors and nodes -----------------------------------------------------------------------


async def test_executors_and_nodes_are_shown(client: Client) -> None:
    [executor] = (await client("ListExecutor")).executors
    assert (executor.metadata.id, executor.spec.node) == ("e-1", "n1")
    assert (executor.status.state, executor.status.session_id) == (
        v1.ExecutorState.ExecutorBound,
        "s1",
    )
    [node] = (await client("ListNodes")).nodes
    assert node == (await client("GetNode", name="n1")).node
    assert (node.metadata.name, node.spec.hostname) == ("n1", "host")
    assert node.status.state == v1.NodeState.Ready
    assert (node.status.capacity.cpu, node.status.allocatable.cpu) == (4, 1)
    assert [(a.type, a.address) for a in node.status.addresses] == [("ip", "::1")]
    # The manager's clock says 100, the last heartbeat was at 90: ten seconds ago.
    assert A_NODE.last_heartbeat == 90
    assert node.status.last_heartbeat_time == pytest.approx(time.time() - 10, abs=5)
    code, _ = await refusal(client("GetNode", name="n2"))
    assert code is Code.NOT_FOUND


# --- tasks -------------------------------------------------------------------------------------


async def test_a_task_is_created(manager: FakeManager, client: Client) -> None:
    manager.answer = a_task(12)
    task = await client("CreateTask", task=v1.TaskSpec(session_id="s1", input=b""))
    assert (task.metadata.id, task.metadata.name) == ("12", "12")
    assert task.spec.session_id == "s1"
    assert manager.events[0].input == b""
    await client("CreateTask", task=v1.TaskSpec(session_id="s1"))
    assert manager.events[1].input is None


async def test_what_is_said_of_a_task_goes_with_it(manager: FakeManager, client: Client) -> None:
    manager.answer = a_task(12)
    labels = [v1.Label(name="run", value="7")]
    spec = v1.TaskSpec(session_id="s1", labels=labels, input_location="in/x")
    await client("CreateTask", task=spec)
    assert manager.events[0].notes == TaskNotes((("run", "7"),), "in/x")
    spec.output_location = "out/../x"
    code, error = await refusal(client("CreateTask", task=spec))
    assert code is Code.INVALID_ARGUMENT
    assert "output_location is 'out/../x'" in str(error)


async def test_an_input_over_the_limit_is_refused_with_size_and_limit(
    manager: FakeManager, client: Client
) -> None:
    spec = v1.TaskSpec(session_id="s1", input=bytes(16 * MIB + 1))
    code, error = await refusal(client("CreateTask", task=spec))
    assert code is Code.INVALID_ARGUMENT
    assert str(error) == "input has 16777217 bytes; the limit is 16777216 (16m)"
    assert manager.events == []


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.0", "99999999999999999999"])
@pytest.mark.parametrize("rpc", ["GetTask", "WatchTask"])
async def test_a_malformed_task_id_is_an_invalid_argument(
    client: Client, rpc: str, text: str
) -> None:
    call = client.start(rpc, task_id=text, session_id="s1")
    code, error = await refusal(call if rpc == "GetTask" else call.read())
    assert code is Code.INVALID_ARGUMENT
    assert "is not a whole number" in str(error)


async def test_a_failed_task_says_why(manager: FakeManager, client: Client) -> None:
    failure = (TaskState.FAILED, int(EventCode.FAILED), "ValueError: no")
    manager.known_tasks = [a_task(3, state=TaskState.FAILED, failure=failure, finished_ms=77)]
    task = await client("GetTask", task_id="3", session_id="s1")
    assert task.status.state == v1.TaskState.Failed
    assert task.status.completion_time == 77
    [event] = task.status.events
    assert (event.code, event.message, event.creation_time) == (3, "ValueError: no", 77)


async def test_an_unknown_task_is_not_found(client: Client) -> None:
    code, _ = await refusal(client("GetTask", task_id="9", session_id="s1"))
    assert code is Code.NOT_FOUND


async def test_watching_an_unknown_task_is_not_found(client: Client) -> None:
    """The released server answers with an empty stream, and its client then waits for ever."""
    code, _ = await refusal(client.start("WatchTask", task_id="9", session_id="s1").read())
    assert code is Code.NOT_FOUND


@pytest.mark.parametrize("last", [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED])
async def test_a_watch_ends_with_the_final_state(
    manager: FakeManager, client: Client, last: TaskState
) -> None:
    manager.known_tasks = [a_task(1)]
    manager.changes.append(a_task(1, state=TaskState.RUNNING))
    manager.changes.append(a_task(1, state=last, output=b"out"))
    call = client.start("WatchTask", task_id="1", session_id="s1")
    seen = [(task.status.state, task.spec.output) async for task in call]
    assert seen == [(1, b""), (int(last), b"out")]
    assert await call.code() is Code.OK


async def test_a_watch_ends_when_its_client_goes(manager: FakeManager, client: Client) -> None:
    manager.known_tasks = [a_task(1)]
    call = client.start("WatchTask", task_id="1", session_id="s1")
    async with asyncio.timeout(10):
        await manager.watching.wait()
        call.cancel()
        await manager.unwatched.wait()


async def test_tasks_are_listed_page_by_page(manager: FakeManager, client: Client) -> None:
    manager.known_tasks = [a_task(n) for n in range(1, 101)]
    call = client.start("ListTask", session_id="s1")
    assert [int(task.metadata.id) async for task in call] == list(range(1, 101))
    assert [after for after, _ in manager.pages] == [0, 16, 80]
    call = client.start("ListTask", session_id="s1", after=10, limit=3)
    assert [int(task.metadata.id) async for task in call] == [11, 12, 13]


async def test_a_list_of_large_tasks_is_read_in_small_pages(
    manager: FakeManager, client: Client
) -> None:
    manager.known_tasks = [a_task(n, output=bytes(MIB)) for n in range(1, 20)]
    call = client.start("ListTask", session_id="s1")
    assert len([task async for task in call]) == 19
    assert [limit for _, limit in manager.pages] == [16, 1, 1, 1, 1]


async def test_listing_the_tasks_of_an_unknown_session_is_not_found(client: Client) -> None:
    code, _ = await refusal(client.start("ListTask", session_id="s2").read())
    assert code is Code.NOT_FOUND


# --- no larger than a released client receives -------------------------------------------------

BIG = [("flame-max-receive", str(64 * MIB))]


async def test_a_result_over_4_mib_is_refused_for_a_released_client(
    manager: FakeManager, released_client: Client
) -> None:
    done = a_task(1, state=TaskState.SUCCEEDED, output=bytes(4 * MIB), finished_ms=5)
    manager.known_tasks = [done, a_task(2)]
    manager.changes.append(done)
    get = released_client("GetTask", task_id="1", session_id="s1")
    watch = released_client.start("WatchTask", task_id="1", session_id="s1").read()
    for call in (get, watch):
        code, error = await refusal(call)
        assert code is Code.RESOURCE_EXHAUSTED
        assert "this client receives at most 4194304 (4m)" in str(error)
        assert "task 1 of session 's1' takes 4194448 bytes" in str(error)
    assert (await released_client("GetTask", task_id="2", session_id="s1")).metadata.id == "2"


async def test_a_client_that_receives_more_gets_the_result(
    manager: FakeManager, client: Client
) -> None:
    manager.known_tasks = [a_task(1, output=bytes(4 * MIB))]
    task = await client("GetTask", BIG, task_id="1", session_id="s1")
    assert len(task.spec.output) == 4 * MIB


async def test_a_list_leaves_out_what_does_not_fit_and_goes_on(
    manager: FakeManager, released_client: Client
) -> None:
    manager.known_tasks = [
        a_task(1),
        a_task(2, output=bytes(5 * MIB), state=TaskState.SUCCEEDED),
        a_task(3),
    ]
    call = released_client.start("ListTask", session_id="s1")
    first, large, third = [task async for task in call]
    assert (first.spec.input, third.spec.input) == (b"in", b"in")
    assert not large.spec.HasField("output")
    assert "output of 5242880 bytes left out" in large.status.events[-1].message
    assert large.status.events[-1].code == EventCode.PAYLOAD_OMITTED


async def test_an_input_that_does_not_fit_beside_its_output_is_left_out(
    manager: FakeManager, released_client: Client
) -> None:
    manager.known_tasks = [a_task(1, input=bytes(3 * MIB), output=bytes(3 * MIB))]
    task = await released_client("GetTask", task_id="1", session_id="s1")
    assert len(task.spec.output) == 3 * MIB
    assert not task.spec.HasField("input")
    assert "input of 3145728 bytes left out" in task.status.events[0].message


async def test_common_data_that_does_not_fit_is_left_out(
    manager: FakeManager, released_client: Client
) -> None:
    spec = v1.SessionSpec(application="a", common_data=bytes(3 * MIB))
    view = a_session(spec=codec.session_spec_of(spec))
    manager.known_sessions = [view, a_session("s2", spec=view.spec)]
    listed = await released_client("ListSession")
    assert [session.spec.HasField("common_data") for session in listed.sessions] == [False, False]
    assert "common_data of 3145728 bytes left out" in listed.sessions[0].status.events[0].message
    whole = await released_client("GetSession", session_id="s1")
    assert len(whole.spec.common_data) == 3 * MIB


async def test_nodes_hear_of_a_changed_application_and_its_readers_of_them(
    manager: FakeManager, client: Client
) -> None:
    spec = v1.ApplicationSpec(command="x")
    for rpc in ("RegisterApplication", "UpdateApplication"):
        assert (await client(rpc, name="packaged", application=spec)).return_code == 0
    assert manager.changed == [("default", "packaged")] * 2
    manager.answer = NotFound("there is none")
    await client("UpdateApplication", name="other", application=spec)
    assert len(manager.changed) == 2
    manager.known_applications = [an_application("packaged"), an_application("other")]
    seen = (await client("GetApplication", name="packaged")).status.packages
    assert [(package.node, package.state) for package in seen] == [("n1", "ready")]
    assert not (await client("GetApplication", name="other")).status.packages


async def test_pickled_services_that_do_not_fit_are_left_out(
    manager: FakeManager, released_client: Client, client: Client
) -> None:
    view = an_application("a")
    view = replace(view, spec=replace(view.spec, pickled_service=bytes(5 * MIB)))
    manager.known_applications = [view]
    assert (await released_client("GetApplication", name="a")).spec.pickled_service == b""
    listed = await released_client("ListApplication")
    assert listed.applications[0].spec.pickled_service == b""
    whole = await client("GetApplication", BIG, name="a")
    assert len(whole.spec.pickled_service) == 5 * MIB


async def test_a_list_that_cannot_fit_is_refused_with_its_size(
    manager: FakeManager, released_client: Client
) -> None:
    manager.known_sessions = [a_session(f"s{n}" + "x" * 240) for n in range(16_000)]
    code, error = await refusal(released_client("ListSession"))
    assert code is Code.RESOURCE_EXHAUSTED
    assert "the list of 16000 sessions takes" in str(error)


# --- anything else on the wire, and the server's end ---


@pytest.mark.parametrize("rpc", list(v1.FRONTEND))
async def test_malformed_bytes_are_an_invalid_argument(client: Client, rpc: str) -> None:
    method = v1.FRONTEND[rpc]
    channel = client.channel
    make = channel.unary_stream if method.server_streams else channel.unary_unary
    rpc_of_bytes: Any = make(method.path)
    call = rpc_of_bytes(b"\xff\xff\xff", metadata=bearer(TOKEN), timeout=10)
    code, error = await refusal(call.read() if method.server_streams else call)
    assert code is Code.INVALID_ARGUMENT
    assert "the request is not a flame.v1." in str(error)


async def test_a_watch_is_cut_as_unavailable_when_the_server_stops(
    manager: FakeManager, listener: Listener, client: Client
) -> None:
    """Unavailable is what a client tries again."""
    manager.known_tasks = [a_task(1)]
    watch = asyncio.create_task(
        refusal(client.start("WatchTask", task_id="1", session_id="s1").read())
    )
    async with asyncio.timeout(10):
        await manager.watching.wait()
        await listener.stop()
        code, _ = await watch
        await manager.unwatched.wait()
    assert code is Code.UNAVAILABLE


# --- tenants and the backend -------------------------------------------------------------------


async def test_an_operator_chooses_the_tenant(manager: FakeManager, client: Client) -> None:
    await client("ListSession")
    await client("ListSession", [(v1.TENANT_KEY, "blue")])
    assert manager.tenants == ["default", "blue"]


async def test_the_backend_says_why_it_is_not_there(client: Client) -> None:
    for method in v1.BACKEND.values():
        call = method.on(client.channel)
        message = method.request()
        if method.client_streams:
            pending = call(iter([message]), metadata=bearer(TOKEN), timeout=10).read()
        else:
            pending = call(message, metadata=bearer(TOKEN), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await pending
        assert caught.value.code() is Code.UNIMPLEMENTED
        assert "channels" in (caught.value.details() or "")
