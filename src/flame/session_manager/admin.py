"""The operators' service, ``flame.admin.v1``: tenants, tokens, nodes.

A handler decodes, asks the session manager, and encodes the answer, as those of ``frontend`` do.
Users may call five of these rpcs (see ``access``), and are told of their own tenants only.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from flame.core import events
from flame.core.effects import NodeView, TenantView, TokenView
from flame.core.events import Reply
from flame.core.tenants import tenant_view
from flame.model.credentials import TokenId, check_token, digest_of, token_text
from flame.model.errors import InvalidRequest, NotFound
from flame.model.ids import MAX_TASK_ID, ExecutorId, NodeName, TaskId, Tenant, check_name
from flame.model.logs import TaskLog
from flame.model.tenants import parse_tenant
from flame.session_manager import serving, views
from flame.session_manager.access import Caller, CallerKind
from flame.session_manager.outputs import From, Outputs, Piece
from flame.session_manager.serving import Context
from flame.wire import admin, v1

#: Seconds between two looks at a node that is being drained. Only changes are told.
LOOK = 0.1
#: Seconds after which the caller is told how far a drain is, even if nothing has changed.
TELL = 10.0
#: Logs in one answer; each has at most 66 KiB.
MOST_LOGS = 64


class Manager(Protocol):
    """What the service needs of the session manager."""

    async def call(self, event_of: Callable[[Reply], Any]) -> Any:
        """Hand the engine the event made for a reply handle, or raise what the core refused it with."""

    def tenants(self) -> list[TenantView]:
        """Return all tenants, parents first."""

    def tokens(self) -> list[TokenView]:
        """Return all tokens."""

    def node(self, name: NodeName) -> NodeView:
        """Return a node, or raise NotFound."""

    async def logs(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> tuple[list[TaskLog], bool]:
        """Return logs of tasks, and whether older ones were dropped; raise NotFound."""


class Admin:
    """The handlers of the rpcs.

    Args:
        manager: Where the answers come from.
        outputs: What executors and running tasks write.
        node_message: Writes a node as the Frontend does.
    """

    def __init__(
        self, manager: Manager, outputs: Outputs, node_message: Callable[[NodeView], v1.Node]
    ) -> None:
        self._manager = manager
        self._outputs = outputs
        self._node_message = node_message

    def handler(self) -> Any:
        """Return what a gRPC server needs to serve this."""
        answers: dict[str, serving.Answer] = {
            "ListTenants": self._list_tenants,
            "GetTenant": self._get_tenant,
            "PutTenant": self._put_tenant,
            "DeleteTenant": self._delete_tenant,
            "CreateToken": self._create_token,
            "ListTokens": self._list_tokens,
            "RevokeToken": self._revoke_token,
            "CordonNode": self._cordon_node,
            "UncordonNode": self._uncordon_node,
            "ListTaskLogs": self._list_task_logs,
            "ReadTaskOutput": self._read_task_output,
            "ReadExecutorOutput": self._read_executor_output,
        }
        rpcs = admin.ADMIN
        methods = {rpcs[name].path: serving.unary(rpcs[name], a) for name, a in answers.items()}
        drain = rpcs["DrainNode"]
        methods[drain.path] = serving.streaming(drain, self._drain_node)
        return serving.service(methods)

    # --- tenants -------------------------------------------------------------------------------

    async def _list_tenants(
        self, _request: admin.ListTenantsRequest, caller: Caller, _context: Context
    ) -> admin.TenantList:
        found = [view for view in self._manager.tenants() if caller.may_be(view.spec.name)]
        return admin.TenantList(tenants=[views.tenant_message(view) for view in found])

    async def _get_tenant(
        self, request: admin.GetTenantRequest, caller: Caller, _context: Context
    ) -> admin.TenantMessage:
        return self._tenant(parse_tenant(request.name), caller)

    async def _put_tenant(
        self, request: admin.PutTenantRequest, caller: Caller, _context: Context
    ) -> admin.TenantMessage:
        if not request.HasField("spec"):
            raise InvalidRequest("the request has no specification of a tenant")
        spec = admin.tenant_spec_of(request.spec)
        expected = request.precondition
        await self._manager.call(
            lambda reply: events.PutTenant(
                spec,
                reply,
                must_be_new=expected == admin.PutTenantRequest.NEW,
                must_exist=expected == admin.PutTenantRequest.KNOWN,
            )
        )
        return self._tenant(spec.name, caller)

    async def _delete_tenant(
        self, request: admin.DeleteTenantRequest, _caller: Caller, _context: Context
    ) -> admin.DeleteTenantResponse:
        name = parse_tenant(request.name)
        await self._manager.call(lambda reply: events.DeleteTenant(name, reply))
        return admin.DeleteTenantResponse()

    def _tenant(self, name: Tenant, caller: Caller) -> admin.TenantMessage:
        # What another tenant has is not there, as far as a user can tell.
        seen = [view for view in self._manager.tenants() if caller.may_be(view.spec.name)]
        return views.tenant_message(tenant_view(seen, name))

    # --- tokens --------------------------------------------------------------------------------

    async def _create_token(
        self, request: admin.CreateTokenRequest, _caller: Caller, _context: Context
    ) -> admin.CreatedToken:
        secret = secrets.token_urlsafe(32)
        spec = check_token(request.role, request.tenants, digest_of(secret), request.note)
        token = TokenId(secrets.token_hex(8))
        await self._manager.call(lambda reply: events.CreateToken(token, spec, reply))
        view = next(view for view in self._manager.tokens() if view.token == token)
        return admin.CreatedToken(token=views.token_message(view), secret=token_text(token, secret))

    async def _list_tokens(
        self, _request: admin.ListTokensRequest, _caller: Caller, _context: Context
    ) -> admin.TokenList:
        return admin.TokenList(tokens=[views.token_message(t) for t in self._manager.tokens()])

    async def _revoke_token(
        self, request: admin.RevokeTokenRequest, _caller: Caller, _context: Context
    ) -> admin.RevokeTokenResponse:
        token = TokenId(request.id)
        await self._manager.call(lambda reply: events.RevokeToken(token, reply))
        return admin.RevokeTokenResponse()

    # --- nodes ---------------------------------------------------------------------------------

    async def _cordon_node(
        self, request: admin.CordonNodeRequest, _caller: Caller, _context: Context
    ) -> admin.CordonNodeResponse:
        name = NodeName(check_name(request.name, "node"))
        await self._manager.call(lambda reply: events.CordonNode(name, False, reply))
        return admin.CordonNodeResponse(node=self._node_message(self._manager.node(name)))

    async def _uncordon_node(
        self, request: admin.UncordonNodeRequest, _caller: Caller, _context: Context
    ) -> admin.UncordonNodeResponse:
        name = NodeName(check_name(request.name, "node"))
        await self._manager.call(lambda reply: events.UncordonNode(name, reply))
        return admin.UncordonNodeResponse(node=self._node_message(self._manager.node(name)))

    async def _drain_node(
        self, request: admin.DrainNodeRequest, _caller: Caller, context: Context
    ) -> None:
        name = NodeName(check_name(request.name, "node"))
        seconds = request.timeout_seconds
        if not 0 <= seconds <= 10**9:  # NaN, too
            raise InvalidRequest(
                f"timeout_seconds is {seconds:g}; it must be 0 (as long as it takes) or more"
            )
        await self._manager.call(lambda reply: events.CordonNode(name, True, reply))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds if seconds else float("inf")
        told: admin.DrainProgress | None = None
        told_at = 0.0
        while True:
            progress = views.drain_progress(self._manager.node(name))
            now = loop.time()
            progress.timed_out = progress.executors > 0 and now >= deadline
            if progress != told or now - told_at >= TELL:
                await context.write(progress.SerializeToString())
                told, told_at = progress, now
            if progress.timed_out or not progress.executors:
                return
            await asyncio.sleep(min(LOOK, max(0.0, deadline - now)))

    # --- logs ----------------------------------------------------------------------------------

    async def _list_task_logs(
        self, request: admin.ListTaskLogsRequest, caller: Caller, _context: Context
    ) -> admin.TaskLogList:
        limit = min(request.limit or MOST_LOGS, MOST_LOGS)
        after = min(request.after, MAX_TASK_ID)
        logs, dropped = await self._manager.logs(caller.tenant, request.session_id, after, limit)
        found = [
            admin.TaskLogMessage(
                task_id=log.task_id, attempt=log.attempt, stdout=log.stdout, stderr=log.stderr
            )
            for log in logs
        ]
        return admin.TaskLogList(logs=found, dropped=dropped)

    async def _read_task_output(
        self, request: admin.ReadTaskOutputRequest, caller: Caller, _context: Context
    ) -> admin.OutputPiece:
        task_id = TaskId(min(request.task_id, MAX_TASK_ID))
        start = From(request.stdout_from, request.stderr_from)
        piece = await self._outputs.of_task(caller.tenant, request.session_id, task_id, start)
        return admin.OutputPiece(over=True) if piece is None else _message_of(piece)

    async def _read_executor_output(
        self, request: admin.ReadExecutorOutputRequest, caller: Caller, _context: Context
    ) -> admin.OutputPiece:
        executor, incarnation = ExecutorId(request.executor), request.incarnation
        if caller.kind is not CallerKind.OPERATOR:
            serving = self._outputs.serving(executor)
            if serving is None or not caller.may_be(serving[0]):
                raise NotFound(f"executor {executor!r} serves no session of yours")
            incarnation = serving[1]  # its earlier processes may have been somebody else's
        start = From(request.stdout_from, request.stderr_from, request.rotated)
        piece = await self._outputs.of_executor(executor, incarnation, start)
        message = _message_of(piece)
        message.over = not piece.output.running
        return message


def _message_of(piece: Piece) -> admin.OutputPiece:
    output = piece.output
    return admin.OutputPiece(
        stdout=output.stdout,
        stderr=output.stderr,
        stdout_end=output.stdout_end,
        stderr_end=output.stderr_end,
        attempt=piece.attempt,
        incarnation=output.incarnation,
    )
