"""What operators do: ``client.admin``, for both faces.

with flame.connect() as client:
    client.admin.put_tenant(flame.TenantSpec("research", weight=3.0))
    print(client.admin.create_token("user", ["research"], note="Ada").secret)
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from flame.model.tenants import TenantSpec
from flame.sdk.admin_calls import AdminCalls, DrainProgress, NewToken, TenantInfo, TokenInfo
from flame.sdk.views import Logs, Node

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Admin:
    """What an operator may do with the cluster; a user's token lets its holder look at tenants only."""

    def __init__(self, calls: AdminCalls, run: Run) -> None:
        """Made by ``Client.admin``."""
        self._calls = calls
        self._run = run

    def list_tenants(self) -> list[TenantInfo]:
        """Return all tenants that one may see, parents first, and how well each is served."""
        found: list[TenantInfo] = self._run(self._calls.list_tenants())
        return found

    def get_tenant(self, name: str) -> TenantInfo:
        """Return a tenant, or raise NotFound."""
        found: TenantInfo = self._run(self._calls.get_tenant(name))
        return found

    def put_tenant(
        self, spec: TenantSpec, *, must_be_new: bool = False, must_exist: bool = False
    ) -> TenantInfo:
        """Create a tenant, or replace all that is said of it.

        Raises:
            AlreadyExists, NotFound: It must be new, or must exist, and is not so.
            InvalidRequest: It makes no sense, by itself or with the others; the field is named.
            WrongState: The configuration file declares it.
        """
        work = self._calls.put_tenant(spec, must_be_new=must_be_new, must_exist=must_exist)
        found: TenantInfo = self._run(work)
        return found

    def delete_tenant(self, name: str) -> None:
        """Forget a tenant.

        Raises:
            WrongState: It has tenants below it, open sessions, or tokens.
        """
        self._run(self._calls.delete_tenant(name))

    def create_token(self, role: str, tenants: Sequence[str] = (), *, note: str = "") -> NewToken:
        """Make a token: for an ``operator``, or for a ``user`` who may act for these tenants.

        A user's first tenant is meant where nothing else is said.
        """
        made: NewToken = self._run(self._calls.create_token(role, tenants, note))
        return made

    def list_tokens(self) -> list[TokenInfo]:
        """Return all tokens, without what is secret."""
        found: list[TokenInfo] = self._run(self._calls.list_tokens())
        return found

    def revoke_token(self, id: str) -> None:
        """Let its holder in no more; clients that are connected with it are cut."""
        self._run(self._calls.revoke_token(id))

    def cordon_node(self, name: str) -> Node:
        """Start nothing new on a node; what runs there goes on."""
        node: Node = self._run(self._calls.cordon_node(name))
        return node

    def uncordon_node(self, name: str) -> Node:
        """Use a node again."""
        node: Node = self._run(self._calls.uncordon_node(name))
        return node

    def executor_logs(self, executor: str, *, follow: bool = False) -> Iterator[Logs]:
        """Yield what an executor has written, in enter and leave too, piece by piece.

        It may have ended: its node keeps the output of its last 200. With ``follow`` this ends when the
        executor does.

        Raises:
            NotFound: No node has anything of such an executor; or one's own token is a user's, and
                the executor serves no session of theirs.
        """
        logs = self._calls.executor_logs(executor, follow=follow)
        while (piece := self._run(logs.next_piece())) is not None:
            yield piece

    def drain_node(self, name: str, timeout: float | None = None) -> Iterator[DrainProgress]:
        """Cordon a node and have its executors leave; yield how far that is until it is empty.

        With a timeout it ends then, too, with what is left; the drain itself goes on. Nothing is
        asked for before the first step of the iteration.
        """
        updates = self._calls.drain_node(name, timeout)

        async def following() -> DrainProgress | None:
            return await anext(updates, None)

        async def leave() -> None:
            await updates.aclose()

        try:
            while (progress := self._run(following())) is not None:
                yield progress
        finally:
            self._run(leave())


class AsyncAdmin:
    """The same as :class:`Admin`, as coroutines."""

    def __init__(self, calls: AdminCalls, run: Run) -> None:
        """Made by ``AsyncClient.admin``."""
        self._calls = calls
        self._run = run

    async def list_tenants(self) -> list[TenantInfo]:
        found: list[TenantInfo] = await self._run(self._calls.list_tenants())
        return found

    async def get_tenant(self, name: str) -> TenantInfo:
        found: TenantInfo = await self._run(self._calls.get_tenant(name))
        return found

    async def put_tenant(
        self, spec: TenantSpec, *, must_be_new: bool = False, must_exist: bool = False
    ) -> TenantInfo:
        work = self._calls.put_tenant(spec, must_be_new=must_be_new, must_exist=must_exist)
        found: TenantInfo = await self._run(work)
        return found

    async def delete_tenant(self, name: str) -> None:
        await self._run(self._calls.delete_tenant(name))

    async def create_token(
        self, role: str, tenants: Sequence[str] = (), *, note: str = ""
    ) -> NewToken:
        made: NewToken = await self._run(self._calls.create_token(role, tenants, note))
        return made

    async def list_tokens(self) -> list[TokenInfo]:
        found: list[TokenInfo] = await self._run(self._calls.list_tokens())
        return found

    async def revoke_token(self, id: str) -> None:
        await self._run(self._calls.revoke_token(id))

    async def cordon_node(self, name: str) -> Node:
        node: Node = await self._run(self._calls.cordon_node(name))
        return node

    async def uncordon_node(self, name: str) -> Node:
        node: Node = await self._run(self._calls.uncordon_node(name))
        return node

    async def executor_logs(self, executor: str, *, follow: bool = False) -> AsyncIterator[Logs]:
        logs = self._calls.executor_logs(executor, follow=follow)
        while (piece := await self._run(logs.next_piece())) is not None:
            yield piece

    async def drain_node(
        self, name: str, timeout: float | None = None
    ) -> AsyncIterator[DrainProgress]:
        updates = self._calls.drain_node(name, timeout)

        async def following() -> DrainProgress | None:
            return await anext(updates, None)

        async def leave() -> None:
            await updates.aclose()

        try:
            while (progress := await self._run(following())) is not None:
                yield progress
        finally:
            await self._run(leave())
