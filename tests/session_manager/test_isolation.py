"""A user's token, over every rpc: what belongs to another tenant is not there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from flame.core import events
from flame.core.state import Limits
from flame.model.ids import ExecutorId, NodeName, TaskId, Tenant
from flame.model.resources import UNIT
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.tenants import TenantSpec
from flame.runtime.tasks import Tasks
from flame.session_manager.admin import Admin
from flame.session_manager.channel_calls import ChannelCalls
from flame.session_manager.frontend import Frontend
from flame.session_manager.frontend_v0 import FrontendV0
from flame.session_manager.listening import Listener
from flame.session_manager.shell import Shell
from flame.storage.memory import MemoryStore
from flame.wire import admin, frames, v0, v1
from flame.wire.channels import bearer, open_channel
from flame.wire.frames import ClientFrame
from tests.session_manager.conftest import task_channel

TOKEN = "correct-horse"
BLUE, RED = Tenant("blue"), Tenant("red")
Code = grpc.StatusCode
Metadata = Sequence[tuple[str, str]]


@dataclass
class World:
    """A session manager in which red has an application, a session and a task; and blue's user."""

    shell: Shell
    channel: grpc.aio.Channel
    user: Metadata = ()
    operator: Metadata = field(default_factory=lambda: bearer(TOKEN))

    async def call(self, name: str, metadata: Metadata, /, **fields: Any) -> Any:
        method = {**v1.FRONTEND, **admin.ADMIN}[name]
        call = method.on(self.channel)(method.request(**fields), metadata=metadata, timeout=10)
        if method.server_streams:
            return [message async for message in call]
        return await call

    async def refused(self, name: str, metadata: Metadata, /, **fields: Any) -> tuple[Code, str]:
        """The status, or what a Result says."""
        try:
            answer = await self.call(name, metadata, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        assert isinstance(answer, v1.Result), (name, answer)
        assert answer.return_code == -1
        return Code.NOT_FOUND, answer.message


async def furnish(shell: Shell, tenant: Tenant) -> None:
    """Give the tenant an application, a session and a task."""
    application, name = f"app-{tenant}", f"session-{tenant}"
    spec = SessionSpec(application)
    await shell.calls.call(
        lambda reply: events.RegisterApplication(tenant, application, ApplicationSpec(), reply)
    )
    await shell.calls.call(lambda reply: events.CreateSession(tenant, name, spec, reply))
    await shell.calls.call(lambda reply: events.CreateTask(tenant, name, b"secret", reply))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    tenants = [TenantSpec(BLUE), TenantSpec(RED)]
    shell = Shell(store=MemoryStore(), token=TOKEN, tenants=tenants, limits=Limits())
    await shell.start()
    listener = Listener.open(
        "127.0.0.1", 0, token=TOKEN, anonymous=False, tls=None, max_input_bytes=1024
    )
    frontend = Frontend(shell.calls, now=shell.clock)
    service = Admin(shell.calls, shell.outputs, frontend.node_message)
    old = FrontendV0(shell.calls)
    listener.serve(
        [frontend.handler(), old.handler(), service.handler(), *shell.channel_handlers()]
    )
    listener.access.find_token = shell.calls.token
    tasks = Tasks("calls")
    shell.clients.calls = ChannelCalls(frontend.session_answers(), shell.lapsed, tasks)
    await listener.start()
    shell.post(events.NodeConnected(NodeName("n"), b"1" * 16, UNIT * 2, [(ExecutorId("none"), 1)]))
    for tenant in (BLUE, RED):
        await furnish(shell, tenant)
    async with open_channel(listener.endpoint) as channel:
        world = World(shell, channel)
        made = await world.call("CreateToken", world.operator, role="user", tenants=["blue"])
        world.user = bearer(made.secret)
        yield world
    await listener.stop()
    await tasks.close()
    await shell.stop()


#: Every rpc that names something, asked for what is red's.
NAMED: dict[str, dict[str, Any]] = {
    "GetApplication": {"name": "app-red"},
    "UpdateApplication": {"name": "app-red", "application": v1.ApplicationSpec()},
    "UnregisterApplication": {"name": "app-red"},
    "CreateSession": {
        "session_id": "mine",
        "session": v1.SessionSpec(application="app-red"),
    },
    "OpenSession": {"session_id": "session-red"},
    "GetSession": {"session_id": "session-red"},
    "CloseSession": {"session_id": "session-red"},
    "DeleteSession": {"session_id": "session-red"},
    "CreateTask": {"task": v1.TaskSpec(session_id="session-red", input=b"x")},
    "GetTask": {"task_id": "1", "session_id": "session-red"},
    "WatchTask": {"task_id": "1", "session_id": "session-red"},
    "ListTask": {"session_id": "session-red"},
    "ListTaskLogs": {"session_id": "session-red"},
    "ReadTaskOutput": {"session_id": "session-red", "task_id": 1},
    "ReadExecutorOutput": {"executor": "executor-red"},
    "GetTenant": {"name": "red"},
}
#: Those that answer with lists of what one may see; and one that makes something of one's own.
LISTS = {"ListApplication", "ListExecutor", "ListSession", "ListTenants", "RegisterApplication"}


@pytest.mark.parametrize("rpc", NAMED)
async def test_what_is_another_tenants_is_not_found(world: World, rpc: str) -> None:
    code, told = await world.refused(rpc, world.user, **NAMED[rpc])
    assert code is Code.NOT_FOUND, told
    # And it says no more than of what was never there.
    renamed = {
        key: value.replace("red", "nil") if isinstance(value, str) else value
        for key, value in NAMED[rpc].items()
    }
    if renamed != NAMED[rpc]:
        assert await world.refused(rpc, world.user, **renamed) == (
            code,
            told.replace("red", "nil"),
        )
    assert world.shell.calls.session(RED, "session-red").pending == 1


@pytest.mark.parametrize("rpc", NAMED)
async def test_naming_the_other_tenant_does_not_help(world: World, rpc: str) -> None:
    chosen = (*world.user, (v1.TENANT_KEY, "red"))
    code, told = await world.refused(rpc, chosen, **NAMED[rpc])
    assert code is Code.PERMISSION_DENIED
    assert "it is for blue" in told


async def test_lists_hold_only_what_is_ones_own(world: World) -> None:
    applications = await world.call("ListApplication", world.user)
    assert [a.metadata.name for a in applications.applications] == ["app-blue"]
    sessions = await world.call("ListSession", world.user)
    assert [s.metadata.name for s in sessions.sessions] == ["session-blue"]
    sessions = await world.call("ListSession", world.user, all_tenants=True)
    assert [s.metadata.name for s in sessions.sessions] == ["session-blue"]
    tenants = await world.call("ListTenants", world.user)
    assert [t.spec.name for t in tenants.tenants] == ["blue"]
    mine = {str(e.executor) for e in world.shell.calls.executors() if e.tenant == BLUE}
    executors = await world.call("ListExecutor", world.user)
    assert {e.metadata.id for e in executors.executors} == mine
    assert len(mine) == 1
    everybodys = await world.call("ListExecutor", world.operator)
    assert len(everybodys.executors) == 2
    everybodys = await world.call("ListSession", world.operator, all_tenants=True)
    assert {(s.metadata.name, s.status.tenant) for s in everybodys.sessions} == {
        ("session-blue", "blue"),
        ("session-red", "red"),
    }
    assert not (await world.call("ListSession", world.operator)).sessions


async def test_a_session_that_is_not_there_is_so_in_the_tenant_that_was_looked_in(
    world: World,
) -> None:
    for metadata, tenant in ((world.user, "blue"), (world.operator, "default")):
        _, told = await world.refused("GetSession", metadata, session_id="17")
        assert told.startswith(f"there is no session '17' of tenant '{tenant}'; ")


async def test_names_of_two_tenants_do_not_clash(world: World) -> None:
    await world.call(
        "RegisterApplication", world.user, name="app-red", application=v1.ApplicationSpec()
    )
    spec = v1.SessionSpec(application="app-red")
    await world.call("CreateSession", world.user, session_id="session-red", session=spec)
    assert world.shell.calls.session(BLUE, "session-red").pending == 0
    assert world.shell.calls.session(RED, "session-red").pending == 1


# --- the API of version 0.2.0 ------------------------------------------------------------------

#: Every rpc of it that names something; SESSION stands for the number of a session.
SESSION = "SESSION"
NAMED_V0: dict[str, dict[str, Any]] = {
    "GetApplication": {"name": "app-red"},
    "UpdateApplication": {"name": "app-red", "application": v0.ApplicationSpec()},
    "UnregisterApplication": {"name": "app-red"},
    "CreateSession": {"session": v0.SessionSpec(application="app-red", slots=1)},
    "OpenSession": {"session_id": SESSION},
    "GetSession": {"session_id": SESSION},
    "CloseSession": {"session_id": SESSION},
    "DeleteSession": {"session_id": SESSION},
    "CreateTask": {"task": {"session_id": SESSION, "input": b"x"}},
    "GetTask": {"task_id": "1", "session_id": SESSION},
    "WatchTask": {"task_id": "1", "session_id": SESSION},
}


async def refused_v0(world: World, name: str, session: int) -> tuple[Code | None, str]:
    """The status; None: the sentence of a Result that says no."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        return str(session) if value == SESSION else value

    method = v0.FRONTEND[name]
    call = method.on(world.channel)(
        method.request(**filled(NAMED_V0[name])), metadata=world.user, timeout=10
    )
    try:
        if method.server_streams:
            answer: Any = [message async for message in call]
        else:
            answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    assert isinstance(answer, v0.Result), (name, answer)
    assert answer.return_code == -1
    return None, answer.message


@pytest.mark.parametrize("rpc", NAMED_V0)
async def test_version_0_2_0_does_not_find_what_is_another_tenants(world: World, rpc: str) -> None:
    number = world.shell.calls.session(RED, "session-red").number
    code, told = await refused_v0(world, rpc, number)
    assert code in (Code.NOT_FOUND, None), told
    # And it says no more than of a number that was never given out.
    never = await refused_v0(world, rpc, number + 1000)
    assert never == (code, told.replace(str(number), str(number + 1000)))
    assert world.shell.calls.session(RED, "session-red").pending == 1
    assert [view.name for view in world.shell.calls.applications(RED)] == ["app-red"]


async def test_lists_of_version_0_2_0_hold_only_what_is_ones_own(world: World) -> None:
    def ask(name: str) -> Any:
        method = v0.FRONTEND[name]
        return method.on(world.channel)(method.request(), metadata=world.user, timeout=10)

    applications = await ask("ListApplication")
    assert [a.metadata.name for a in applications.applications] == ["app-blue"]
    sessions = await ask("ListSession")
    blue = world.shell.calls.session(BLUE, "session-blue").number
    assert [s.metadata.id for s in sessions.sessions] == [str(blue)]


def test_the_cases_of_version_0_2_0_are_all_rpcs() -> None:
    others = {"ListApplication", "ListSession", "RegisterApplication", "DeleteTask"}
    assert {*NAMED_V0, *others} == {*v0.FRONTEND}


ADMINISTRATION = [
    *sorted(set(admin.ADMIN) - {"ListTenants"} - set(NAMED)),
    "ListNodes",
    "GetNode",
]


@pytest.mark.parametrize("rpc", ADMINISTRATION)
async def test_a_user_does_not_administer(world: World, rpc: str) -> None:
    code, told = await world.refused(rpc, world.user)
    assert code is Code.PERMISSION_DENIED
    assert "(user) does not open" in told


def test_the_cases_above_are_all_rpcs() -> None:
    assert {*NAMED, *LISTS, *ADMINISTRATION} == {*v1.FRONTEND, *admin.ADMIN}


async def talk(world: World, metadata: Metadata, *frames_: ClientFrame) -> Any:
    connect = task_channel(world.channel)
    stream: Any = connect(metadata=metadata)
    for frame in (ClientFrame(hello=frames.ClientHello()), *frames_):
        await stream.write(frame)
    assert (await stream.read()).WhichOneof("frame") == "hello"
    return stream


async def test_the_task_channel_attaches_to_ones_own_sessions_only(world: World) -> None:
    def attach(alias: int, session: str) -> ClientFrame:
        return ClientFrame(attach=frames.Attach(alias=alias, session=session))

    stream = await talk(world, world.user, attach(1, "session-red"), attach(2, "session-blue"))
    refused = (await stream.read()).attach_refused
    assert (refused.alias, refused.refusal.code) == (1, "NotFound")
    assert (await stream.read()).attached.alias == 2
    stream.cancel()


def a_call(number: int, method: str, **fields: Any) -> ClientFrame:
    request = v1.FRONTEND[method].request(**fields).SerializeToString()
    return ClientFrame(call=frames.Call(number=number, method=method, request=request))


@pytest.mark.parametrize("rpc", ["CreateSession", "OpenSession", "GetSession", "CloseSession"])
async def test_a_call_over_the_task_channel_does_not_find_another_tenants_either(
    world: World, rpc: str
) -> None:
    stream = await talk(world, world.user, a_call(5, rpc, **NAMED[rpc]))
    answer = (await stream.read()).answer
    assert (answer.number, answer.refusal.code, answer.response) == (5, "NotFound", b"")
    stream.cancel()


async def test_calls_over_the_task_channel_open_and_close_ones_own(world: World) -> None:
    spec = v1.SessionSpec(application="app-blue")
    created = a_call(1, "CreateSession", session_id="mine", session=spec)
    stream = await talk(world, world.user, created)
    answer = (await stream.read()).answer
    assert v1.Session.FromString(answer.response).metadata.id == "mine"
    await stream.write(a_call(2, "CloseSession", session_id="mine"))
    answer = (await stream.read()).answer
    assert answer.number == 2
    assert v1.Session.FromString(answer.response).status.state == v1.SessionState.Closed
    stream.cancel()


async def test_an_attach_right_behind_the_call_that_creates_its_session_finds_it(
    world: World,
) -> None:
    spec = v1.SessionSpec(application="app-blue")
    created = a_call(1, "CreateSession", session_id="mine", session=spec)
    attach = ClientFrame(attach=frames.Attach(alias=1, session="mine"))
    stream = await talk(world, world.user, created, attach)
    kinds = {(await stream.read()).WhichOneof("frame") for _ in range(2)}
    assert kinds == {"answer", "attached"}
    stream.cancel()


async def test_a_call_that_has_to_wait_is_answered_all_the_same(world: World) -> None:
    go_on = asyncio.Event()

    async def slowly(_request: Any, _caller: Any, _context: Any) -> bytes:
        await go_on.wait()
        await asyncio.sleep(0)
        return b"at last"

    tasks = Tasks("calls")
    world.shell.clients.calls = ChannelCalls({"GetSession": slowly}, world.shell.lapsed, tasks)
    stream = await talk(world, world.user, a_call(1, "GetSession"))
    assert len(tasks) == 1
    go_on.set()
    assert (await stream.read()).answer.response == b"at last"
    await tasks.close()
    stream.cancel()


async def test_a_call_that_waits_ends_with_its_session_manager(world: World) -> None:
    ended = asyncio.Event()

    async def never(_request: Any, _caller: Any, _context: Any) -> bytes:
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    tasks = Tasks("calls")
    world.shell.clients.calls = ChannelCalls({"GetSession": never}, world.shell.lapsed, tasks)
    stream = await talk(world, world.user, a_call(1, "GetSession"))
    await tasks.close()
    assert ended.is_set()
    stream.cancel()


@pytest.mark.parametrize(
    "call",
    [
        a_call(7, "ListNodes"),  # not over this channel, whoever asks
        ClientFrame(call=frames.Call(number=7, method="Nonsense")),
        ClientFrame(call=frames.Call(number=7, method="GetSession", request=b"\xff")),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused_and_the_stream_goes_on(
    world: World, call: ClientFrame
) -> None:
    stream = await talk(world, world.operator, call)
    answer = (await stream.read()).answer
    assert (answer.number, answer.refusal.code) == (7, "InvalidRequest")
    await stream.write(a_call(8, "GetSession", session_id="nobody's"))
    assert (await stream.read()).answer.number == 8
    stream.cancel()


async def test_an_answer_too_large_for_the_channel_is_left_to_grpc(world: World) -> None:
    spec = v1.SessionSpec(application="app-blue", common_data=bytes(frames.CALL_BYTES + 1))
    await world.call("CreateSession", world.user, session_id="large", session=spec)
    stream = await talk(world, world.user, a_call(1, "GetSession", session_id="large"))
    answer = (await stream.read()).answer
    assert answer.elsewhere
    assert not answer.response
    stream.cancel()


async def test_more_calls_at_once_than_may_be_end_the_stream(world: World) -> None:
    def slowly(_request: Any, _caller: Any, _context: Any) -> Any:
        return asyncio.Event().wait()

    tasks = Tasks("calls")
    world.shell.clients.calls = ChannelCalls({"GetSession": slowly}, world.shell.lapsed, tasks)
    calls = [a_call(n, "GetSession") for n in range(frames.CALLS_AT_ONCE + 1)]
    stream = await talk(world, world.user, *calls)
    refusal = (await stream.read()).refusal
    assert (refusal.code, refusal.closing) == ("InvalidRequest", True)
    assert "64 calls are under way" in refusal.message
    await tasks.close()


async def test_a_revoked_token_opens_nothing_and_ends_the_channel_it_opened(world: World) -> None:
    stream = await talk(world, world.user)
    (token,) = (await world.call("ListTokens", world.operator)).tokens
    assert (token.role, list(token.tenants)) == ("user", ["blue"])
    assert "secret" not in {f.name for f in token.DESCRIPTOR.fields}
    await world.call("RevokeToken", world.operator, id=token.id)
    refusal = (await stream.read()).refusal
    assert (refusal.code, refusal.closing) == ("Unauthenticated", True)
    assert await stream.read() is grpc.aio.EOF
    code, told = await world.refused("GetSession", world.user, session_id="session-blue")
    assert code is Code.UNAUTHENTICATED
    assert "was revoked" in told
    code, _ = await world.refused("RevokeToken", world.operator, id=token.id)
    assert code is Code.NOT_FOUND


async def test_an_operators_token_administers_until_it_is_revoked(world: World) -> None:
    made = await world.call("CreateToken", world.operator, role="operator", note="night shift")
    other = bearer(made.secret)
    await world.call("PutTenant", other, spec=admin.TenantSpecMessage(name="green", weight=2))
    green = await world.call("GetTenant", other, name="green")
    assert admin.tenant_spec_of(green.spec) == TenantSpec(Tenant("green"), 2.0)
    listed = await world.call("ListTenants", other)
    assert [t.spec.name for t in listed.tenants] == ["blue", "default", "green", "red"]
    await world.call("RevokeToken", world.operator, id=made.token.id)
    code, _ = await world.refused("ListTenants", other)
    assert code is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"role": "root"}, "role is 'root'; it must be one of operator, user"),
        ({"role": "user"}, "tenants: a user's token must name at least one tenant"),
        ({"role": "operator", "tenants": ["blue"]}, "an operator's token is for all tenants"),
        ({"role": "user", "tenants": ["blue", "a//b"]}, "name: at most 8 parts"),
        ({"role": "user", "tenants": ["blue"], "note": "a\nb"}, "note must have at most"),
    ],
)
async def test_a_token_that_makes_no_sense_is_not_made(
    world: World, fields: dict[str, Any], told: str
) -> None:
    code, said = await world.refused("CreateToken", world.operator, **fields)
    assert code is Code.INVALID_ARGUMENT
    assert told in said


async def test_a_token_for_an_unknown_tenant_is_not_made(world: World) -> None:
    code, said = await world.refused("CreateToken", world.operator, role="user", tenants=["nil"])
    assert (code, said) == (
        Code.NOT_FOUND,
        "tenants: there is no tenant 'nil'; create it first",
    )


async def test_a_drain_tells_how_far_it_is_and_what_is_left_at_the_deadline(world: World) -> None:
    (blue,) = [e for e in world.shell.calls.executors() if e.tenant == BLUE]
    world.shell.post(
        events.ExecutorConnected(blue.executor, blue.incarnation, False, 0, 1)  # type: ignore[arg-type]
    )
    world.shell.post(events.BindDone(blue.executor, blue.incarnation, 0, ""))
    world.shell.post(events.TaskStarted(blue.executor, blue.incarnation, TaskId(1), 1))
    told = await world.call("DrainNode", world.operator, name="n", timeout_seconds=0.3)
    last = told[-1]
    assert (last.timed_out, last.running, last.held) == (True, 1, 1)
    assert list(last.sessions) == ["blue/session-blue"]
    node = (await world.call("GetNode", world.operator, name="n")).node.status
    assert (node.cordoned, node.draining) == (True, True)
    world.shell.post(events.NodeLeft(NodeName("n")))
    code, _ = await world.refused("DrainNode", world.operator, name="never")
    assert code is Code.NOT_FOUND
    code, _ = await world.refused("DrainNode", world.operator, name="n", timeout_seconds=-1.0)
    assert code is Code.INVALID_ARGUMENT
