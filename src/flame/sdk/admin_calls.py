"""What operators see, and the calls behind ``client.admin``."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from flame.model.errors import AlreadyExists, NotFound, Unavailable
from flame.model.ids import Tenant
from flame.model.tenants import TenantSpec, check_tenant
from flame.sdk.frontend import Frontend, backoff_among
from flame.sdk.live_logs import ExecutorLogs
from flame.sdk.views import Node, node_of
from flame.wire import admin


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant and how well it is served. Sums include the tenants below it.

    Attributes:
        spec: What it is entitled to.
        declared: By the configuration file, which then has the last word.
        created_ms: Milliseconds since the epoch; 0: declared, or never created.
        got: The part of the cluster that its executors are now, by the dominant resource.
        deserved: The part that is its due now, given what others want.
        usage: ``got`` over time, decayed; noted only while several tenants have open sessions.
        usage_deserved: ``deserved`` over time, likewise.
        open_sessions: Its open sessions.
        executors: Executors that serve them.
        queued_tasks: Tasks in them that wait for an executor.
        queued_bytes: The size of their inputs.
    """

    spec: TenantSpec
    declared: bool
    created_ms: int
    got: float
    deserved: float
    usage: float
    usage_deserved: float
    open_sessions: int
    executors: int
    queued_tasks: int
    queued_bytes: int

    @property
    def name(self) -> str:
        """Its path."""
        return self.spec.name

    @property
    def ratio(self) -> float | None:
        """Got over deserved; None if nothing is deserved."""
        return self.got / self.deserved if self.deserved else None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token, without its secret."""

    id: str
    role: str
    tenants: tuple[str, ...]
    note: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as its holder gets it; the secret is not kept anywhere else."""

    info: TokenInfo
    secret: str


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far the drain of a node is.

    Attributes:
        executors: Still there; 0: the node is empty.
        running: Tasks that run.
        held: Tasks in executors' hands, those that run included.
        timed_out: The deadline has passed; the drain goes on.
        sessions: Whose tasks are waited for, as TENANT/SESSION.
    """

    executors: int
    running: int
    held: int
    timed_out: bool
    sessions: tuple[str, ...]


class AdminCalls:
    """The rpcs of ``flame.admin.v1``, on the I/O thread's loop."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def list_tenants(self) -> list[TenantInfo]:
        answer = await self._frontend.call("ListTenants", admin.ListTenantsRequest())
        return [_tenant_of(message) for message in answer.tenants]

    async def get_tenant(self, name: str) -> TenantInfo:
        return _tenant_of(await self._frontend.call("GetTenant", admin.GetTenantRequest(name=name)))

    async def put_tenant(
        self, spec: TenantSpec, *, must_be_new: bool, must_exist: bool
    ) -> TenantInfo:
        expected = admin.PutTenantRequest.ANY
        if must_be_new:
            expected = admin.PutTenantRequest.NEW
        elif must_exist:
            expected = admin.PutTenantRequest.KNOWN
        message = admin.tenant_spec_to(check_tenant(spec))
        request = admin.PutTenantRequest(spec=message, precondition=expected)
        done = AlreadyExists if must_be_new else None
        answer = await self._frontend.call("PutTenant", request, done=done)
        return await self.get_tenant(spec.name) if answer is None else _tenant_of(answer)

    async def delete_tenant(self, name: str) -> None:
        request = admin.DeleteTenantRequest(name=name)
        await self._frontend.call("DeleteTenant", request, done=NotFound)

    async def create_token(self, role: str, tenants: Sequence[str], note: str) -> NewToken:
        request = admin.CreateTokenRequest(role=role, tenants=tenants, note=note)
        answer = await self._frontend.call("CreateToken", request)
        return NewToken(_token_of(answer.token), answer.secret)

    async def list_tokens(self) -> list[TokenInfo]:
        answer = await self._frontend.call("ListTokens", admin.ListTokensRequest())
        return [_token_of(message) for message in answer.tokens]

    async def revoke_token(self, id: str) -> None:
        request = admin.RevokeTokenRequest(id=id)
        await self._frontend.call("RevokeToken", request, done=NotFound)

    async def cordon_node(self, name: str) -> Node:
        answer = await self._frontend.call("CordonNode", admin.CordonNodeRequest(name=name))
        return node_of(answer.node)

    async def uncordon_node(self, name: str) -> Node:
        answer = await self._frontend.call("UncordonNode", admin.UncordonNodeRequest(name=name))
        return node_of(answer.node)

    async def drain_node(
        self, name: str, timeout: float | None
    ) -> AsyncGenerator[DrainProgress, None]:
        """Yield how far it is. A lost connection is not the end: the drain is asked for again."""
        deadline = None if timeout is None else time.monotonic() + timeout
        backoff = backoff_among(self._frontend.managers)
        give_up = time.monotonic() + self._frontend.retry_seconds
        while True:
            left = 0.0 if deadline is None else max(0.001, deadline - time.monotonic())
            request = admin.DrainNodeRequest(name=name, timeout_seconds=left)
            try:
                async for message in self._frontend.stream("DrainNode", request):
                    give_up = time.monotonic() + self._frontend.retry_seconds
                    yield DrainProgress(
                        message.executors,
                        message.running,
                        message.held,
                        message.timed_out,
                        tuple(message.sessions),
                    )
                return
            except Unavailable:
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(backoff.next_delay())

    def executor_logs(self, executor: str, *, follow: bool) -> ExecutorLogs:
        return ExecutorLogs(self._frontend, executor, follow=follow)


def _tenant_of(message: Any) -> TenantInfo:
    status = message.status
    return TenantInfo(
        admin.tenant_spec_of(message.spec),
        status.declared,
        status.creation_time,
        status.got,
        status.deserved,
        status.usage,
        status.usage_deserved,
        status.open_sessions,
        status.executors,
        status.queued_tasks,
        status.queued_bytes,
    )


def _token_of(message: Any) -> TokenInfo:
    return TokenInfo(
        message.id,
        message.role,
        tuple(Tenant(name) for name in message.tenants),
        message.note,
        message.creation_time,
    )
