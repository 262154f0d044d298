"""Every rpc of every service, under every kind of credential."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from flame.model.credentials import TokenId, check_token, digest_of, token_text
from flame.model.errors import InvalidConfiguration, NotLeading, PermissionDenied, Unauthenticated
from flame.model.ids import ExecutorId, Tenant
from flame.session_manager import access
from flame.session_manager.access import Access, Caller, CallerKind, caller_of
from flame.session_manager.grpc_server import GrpcServer
from flame.wire import admin, reflection, v0, v1
from flame.wire.channels import AUTHORIZATION, bearer
from flame.wire.frames import EXECUTOR_CHANNEL, NODE_CHANNEL, TASK_CHANNEL
from flame.wire.packages import DOWNLOAD, UPLOAD

TOKEN = "correct-horse"
EXECUTOR = access.executor_credential(TOKEN, ExecutorId("e-1"), 7)
Code = grpc.StatusCode

SECRET = "s" * 20 + "S" * 20 + "-_9"
OPERATOR, USER = TokenId("0perator"), TokenId("0user123")
TOKENS = {
    OPERATOR: check_token("operator", [], digest_of(SECRET), ""),
    USER: check_token("user", ["blue", "red/x"], digest_of(SECRET), ""),
}


def guard(*, anonymous: bool = False) -> Access:
    made = Access(TOKEN, anonymous=anonymous)
    made.find_token = TOKENS.get
    return made


#: Of the Frontend and of Admin: what is about the cluster, and what is about a tenant of the caller's.
ABOUT_NODES = ("ListNodes", "GetNode")
ABOUT_TENANTS = (
    "ListTenants",
    "GetTenant",
    "ListTaskLogs",
    "ReadTaskOutput",
    "ReadExecutorOutput",
)

SERVICES: dict[str, list[str]] = {
    "frontend": [m.path for name, m in v1.FRONTEND.items() if name not in ABOUT_NODES]
    + [m.path for m in v0.FRONTEND.values()],
    "about nodes": [v1.FRONTEND[name].path for name in ABOUT_NODES],
    "admin": [m.path for name, m in admin.ADMIN.items() if name not in ABOUT_TENANTS],
    "about tenants": [admin.ADMIN[name].path for name in ABOUT_TENANTS],
    "backend": [method.path for method in v1.BACKEND.values()],
    "clients": [TASK_CHANNEL],
    "nodes": [NODE_CHANNEL, *(method.path for method in DOWNLOAD.values())],
    "uploads": [method.path for method in UPLOAD.values()],
    "executors": [EXECUTOR_CHANNEL],
    "standard": [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
    "unknown": [
        "/flame.v1.Instance/OnTaskInvoke",
        "/flame.v1.Frontends/GetTask",
        "/flame.v1.Frontend.x/GetTask",
        "/flame.v1/Frontend/GetTask",
        "/other.Service/Method",
        "//GetTask",
        "/",
    ],
}

CREDENTIALS: dict[str, tuple[tuple[str, str], ...]] = {
    "operator": bearer(TOKEN),
    "executor": bearer(EXECUTOR),
    "operator's token": bearer(token_text(OPERATOR, SECRET)),
    "user's token": bearer(token_text(USER, SECRET)),
    "revoked": bearer(token_text(TokenId("revoked1"), SECRET)),
    "wrong secret": bearer(token_text(USER, SECRET[::-1])),
    "malformed": bearer(f"f.{USER}"),
    "wrong": bearer(TOKEN + "x"),
    "scheme": ((AUTHORIZATION, TOKEN),),
    "none": (),
}

EVERYTHING = {
    "frontend",
    "about nodes",
    "about tenants",
    "admin",
    "backend",
    "clients",
    "nodes",
    "uploads",
    "standard",
}

#: What each credential opens; everything else is closed to it.
OPEN = {
    "operator": EVERYTHING,
    "operator's token": EVERYTHING,
    "user's token": {"frontend", "about tenants", "clients", "uploads", "standard"},
    "executor": {"executors"},
}
OPEN_TO_ANONYMOUS = {"frontend", "about nodes", "uploads", "standard"}


class Echo(grpc.GenericRpcHandler):
    """Answers any method of any service with who called."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        async def handle(_requests: Any, context: Any) -> None:
            await context.write(repr(caller_of(context)).encode())

        return grpc.stream_stream_rpc_method_handler(handle)


@pytest.fixture(params=[False, True], ids=["closed", "anonymous"])
async def echo(request: pytest.FixtureRequest) -> AsyncIterator[tuple[grpc.aio.Channel, bool]]:
    server = GrpcServer(guard(anonymous=request.param).admit)
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, request.param
    await server.stop(None)


async def call(
    channel: grpc.aio.Channel, path: str, metadata: tuple[tuple[str, str], ...]
) -> tuple[grpc.StatusCode, str]:
    """The status of a call, and who the handler saw."""
    stream: Any = channel.stream_stream(path)(metadata=metadata, timeout=10)
    await stream.done_writing()
    try:
        return Code.OK, "".join([part.decode() async for part in stream])
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""


@pytest.mark.parametrize("credential", CREDENTIALS)
async def test_a_credential_opens_what_it_is_for_and_nothing_else(
    echo: tuple[grpc.aio.Channel, bool], credential: str
) -> None:
    channel, anonymous = echo
    opened = OPEN.get(credential, set())
    if credential == "none" and anonymous:
        opened = OPEN_TO_ANONYMOUS
    known = credential in OPEN
    for service, paths in SERVICES.items():
        for path in paths:
            code, _ = await call(channel, path, CREDENTIALS[credential])
            expected = Code.PERMISSION_DENIED if known else Code.UNAUTHENTICATED
            assert code is (Code.OK if service in opened else expected), (path, credential)


def test_the_matrix_above_covers_every_service_that_is_served() -> None:
    named = {path[1:].rpartition("/")[0] for paths in SERVICES.values() for path in paths}
    assert set(reflection.served_services()) <= named
    assert {name.partition("/")[0] for name in access.ALLOWED} == set(reflection.served_services())
    methods = {path[1:] for paths in SERVICES.values() for path in paths}
    assert {name for name in access.ALLOWED if "/" in name} <= methods


async def test_a_handler_learns_who_calls(echo: tuple[grpc.aio.Channel, bool]) -> None:
    channel, anonymous = echo
    frontend = v1.FRONTEND["GetTask"].path
    _, seen = await call(channel, frontend, CREDENTIALS["operator"])
    assert seen == repr(Caller("default", CallerKind.OPERATOR))  # type: ignore[arg-type]
    _, seen = await call(channel, frontend, (*bearer(TOKEN), (v1.TENANT_KEY, "blue")))
    assert seen == repr(Caller("blue", CallerKind.OPERATOR))  # type: ignore[arg-type]
    _, seen = await call(channel, EXECUTOR_CHANNEL, CREDENTIALS["executor"])
    assert seen == repr(Caller("default", CallerKind.EXECUTOR, "e-1", 7))  # type: ignore[arg-type]
    if anonymous:
        _, seen = await call(channel, frontend, ((v1.TENANT_KEY, "blue"),))
        assert seen == repr(Caller("default", CallerKind.ANONYMOUS))  # type: ignore[arg-type]


def caller(token: TokenId, tenant: str | None = None) -> Caller:
    chosen = () if tenant is None else ((v1.TENANT_KEY, tenant),)
    return guard().authenticate((*bearer(token_text(token, SECRET)), *chosen))


def test_a_users_token_is_for_its_tenants_and_those_below_them() -> None:
    assert (caller(USER).tenant, caller(USER).kind) == ("blue", CallerKind.USER)
    for tenant in ("blue", "blue/any", "red/x", "red/x/y"):
        assert caller(USER, tenant).tenant == tenant
    for tenant in ("red", "default", "blues", "red/xy"):
        with pytest.raises(PermissionDenied, match="it is for blue, red/x and those below"):
            caller(USER, tenant)


def test_an_operators_token_is_for_any_tenant() -> None:
    assert caller(OPERATOR).tenant == "default"
    assert caller(OPERATOR, "red").tenant == "red"
    assert caller(OPERATOR, "red").may_be(Tenant("blue"))


def test_a_session_manager_that_does_not_lead_yet_knows_no_tokens_and_says_so() -> None:
    """A client must look elsewhere, and not think that its token was revoked."""
    with pytest.raises(NotLeading):
        Access(TOKEN).authenticate(bearer(token_text(USER, SECRET)))
    assert Access(TOKEN).authenticate(bearer(TOKEN)).kind is CallerKind.OPERATOR


def test_a_secret_is_compared_as_a_whole_whatever_is_known_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unknown id and a wrong secret cost the same comparison of the same length."""
    seen: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        seen.append((len(a), len(b)))
        return False

    monkeypatch.setattr("flame.model.credentials.hmac.compare_digest", compare)
    for token in (USER, TokenId("unknown1")):
        with pytest.raises(Unauthenticated):
            guard().authenticate(bearer(token_text(token, "x" * 43)))
    assert seen[-1] == (32, 32)
    assert seen.count((32, 32)) == 2


async def test_a_malformed_tenant_is_an_invalid_argument(
    echo: tuple[grpc.aio.Channel, bool],
) -> None:
    channel, _ = echo
    metadata = (*bearer(TOKEN), (v1.TENANT_KEY, "t" * 300))
    code, told = await call(channel, v1.FRONTEND["GetTask"].path, metadata)
    assert code is Code.INVALID_ARGUMENT
    assert "tenant" in told


def test_a_credential_with_any_bytes_is_refused_and_nothing_worse() -> None:
    guard = Access(TOKEN)
    for value in ("", "Bearer", "Bearer ", "Bearer x.", "Bearer x..", "Bearer x...", b"\xff\x00"):
        with pytest.raises(Unauthenticated):
            guard.authenticate(((AUTHORIZATION, value),))


@given(st.text(max_size=40))
def test_no_text_is_an_executor_s_credential_by_chance(text: str) -> None:
    assert access.verify_executor_credential(TOKEN, text) is None
    assert access.verify_executor_credential(TOKEN, f"x.e-1.7.{text}") is None


def test_an_executor_s_credential_is_for_one_incarnation_of_one_cluster() -> None:
    assert access.verify_executor_credential(TOKEN, EXECUTOR) == ("e-1", 7)
    assert access.verify_executor_credential("other", EXECUTOR) is None
    head, _, signature = EXECUTOR.rpartition(".")
    for changed in (
        head.replace(".7", ".8"),
        head.replace("e-1", "e-2"),
        head + "0",
        "y" + head[1:],
    ):
        assert access.verify_executor_credential(TOKEN, f"{changed}.{signature}") is None
    assert TOKEN not in EXECUTOR


async def test_health_answers_beside_the_real_services(listener: Any) -> None:
    async with grpc.aio.insecure_channel(listener.endpoint.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="flame.v1.Frontend")
        answer = await stub.Check(request, metadata=bearer(TOKEN), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(request, timeout=10)
        assert caught.value.code() is Code.UNAUTHENTICATED


# --- the token's file --------------------------------------------------------------------------


def test_a_token_is_generated_once_for_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = access.read_or_create_token(path)
    assert len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert access.read_or_create_token(path) == token
    assert os.listdir(path.parent) == ["token"]


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o644)
    with pytest.raises(InvalidConfiguration, match=r"has mode 0644.*chmod 600"):
        access.read_or_create_token(path)


@pytest.mark.parametrize("text", ["", "\n", "two words", "caf\u00e9", "a\x00b"])
def test_a_token_that_cannot_travel_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidConfiguration, match="one word of printable ASCII"):
        access.read_or_create_token(path)


def test_a_token_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfiguration, match=r"token file .*file/token"):
        access.read_or_create_token(tmp_path / "file" / "token")


# --- the address -------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    access.check_listening(host, tls=False, anonymous=True)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_a_public_address_needs_tls_and_a_token(host: str) -> None:
    with pytest.raises(InvalidConfiguration, match="without TLS"):
        access.check_listening(host, tls=False, anonymous=False)
    with pytest.raises(InvalidConfiguration, match="lets everybody in"):
        access.check_listening(host, tls=True, anonymous=True)
    access.check_listening(host, tls=True, anonymous=False)
