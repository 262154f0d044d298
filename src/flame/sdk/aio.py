"""The asyncio face: the same client, awaited.

    async with flame.aio.connect() as client, client.create_session(work) as session:
        futures = [session.run(data) for data in inputs]
        outputs = [await future for future in futures]

``asyncio.gather(*futures)`` does the same, and takes as long again as all the rest: its own work for
each future costs as much as a task's whole way.

The network I/O stays on the private thread. What it brings reaches the user's loop in batches, with
one wake-up for all that has piled up, and is given to the futures there.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, TypeVar, Unpack

from flame.model.errors import FlameError, WrongState
from flame.model.specs import ApplicationSpec
from flame.sdk.admin import AsyncAdmin
from flame.sdk.async_future import AsyncFuture, Delivery
from flame.sdk.async_session import AsyncSession
from flame.sdk.client import CONNECT_TIMEOUT, RETRY_SECONDS, Client, choose
from flame.sdk.configuration import resolve
from flame.sdk.connection import Connection
from flame.sdk.io_thread import check_not_forked, io_thread
from flame.sdk.opening import opening
from flame.sdk.session_options import SessionArguments, SessionOptions, new_session
from flame.sdk.session_stream import Deliver
from flame.sdk.views import Application, Executor, Node, Package, SessionInfo

__all__ = ["AsyncClient", "AsyncFuture", "AsyncSession", "connect"]

T = TypeVar("T")


class AsyncClient:
    """A connection to a cluster, for one event loop; its methods are those of ``flame.Client``."""

    def __init__(self, client: Client) -> None:
        """Made by :func:`connect`."""
        self._client = client
        self._connection = client._connection
        self._delivery: Deliver = Delivery(asyncio.get_running_loop())

    @property
    def endpoint(self) -> str:
        """Where the session manager is; of several, the one that led last."""
        return str(self._connection.managers.current)

    @opening
    async def create_session(
        self,
        application: object,
        *,
        name: str | None = None,
        **arguments: Unpack[SessionArguments],
    ) -> AsyncSession:
        """Create a session; see ``Client.create_session``."""
        new = new_session(application, name, SessionOptions(**arguments))
        info, stream = await self._call(self._connection.create_session(new, self._delivery))
        return AsyncSession(self, info, stream)

    @opening
    async def open_session(
        self,
        name: str,
        application: object | None = None,
        *,
        submitter: str | None = None,
        **arguments: Unpack[SessionArguments],
    ) -> AsyncSession:
        """Get the open session of this name, or create it; see ``Client.open_session``."""
        options = SessionOptions(**arguments)
        new = None if application is None else new_session(application, name, options)
        info, stream = await self._call(
            self._connection.open_session(name, new, self._delivery, submitter)
        )
        return AsyncSession(self, info, stream)

    @opening
    async def get_session(self, name: str) -> AsyncSession:
        """Get a session, open or closed."""
        info, stream = await self._call(self._connection.get_session(name, self._delivery))
        return AsyncSession(self, info, stream)

    async def list_sessions(self, *, all_tenants: bool = False) -> list[SessionInfo]:
        """Return the tenant's sessions, closed ones too; or of every tenant that the token is for."""
        return await self._call(self._connection.frontend.list_sessions(all_tenants=all_tenants))

    async def close_session(self, name: str, cancel_running: bool = False) -> SessionInfo:
        """Close a session."""
        return await self._call(
            self._connection.frontend.close_session(name, cancel_running=cancel_running)
        )

    async def delete_session(self, name: str) -> None:
        """Forget a closed session and its tasks."""
        await self._call(self._connection.frontend.delete_session(name))

    async def register_application(self, name: str, spec: ApplicationSpec) -> None:
        """Make an application known under a name."""
        await self._call(self._connection.frontend.register_application(name, spec))

    async def update_application(self, name: str, spec: ApplicationSpec) -> None:
        """Replace an application's specification."""
        await self._call(self._connection.frontend.update_application(name, spec))

    async def upload_package(
        self,
        path: str | os.PathLike[str],
        *,
        exclude: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Package:
        """Upload what an application is made of; see ``Client.upload_package``."""
        upload = self._client.upload_package
        return await asyncio.to_thread(upload, path, exclude=exclude, progress=progress)

    async def unregister_application(self, name: str) -> None:
        """Forget an application."""
        await self._call(self._connection.frontend.unregister_application(name))

    async def get_application(self, name: str) -> Application:
        """Return an application, or raise NotFound."""
        return await self._call(self._connection.frontend.get_application(name))

    async def list_applications(self) -> list[Application]:
        """Return all applications."""
        return await self._call(self._connection.frontend.list_applications())

    async def list_executors(self) -> list[Executor]:
        """Return all executors."""
        return await self._call(self._connection.frontend.list_executors())

    async def list_nodes(self) -> list[Node]:
        """Return all nodes."""
        return await self._call(self._connection.frontend.list_nodes())

    async def get_node(self, name: str) -> Node:
        """Return a node, or raise NotFound."""
        return await self._call(self._connection.frontend.get_node(name))

    @property
    def admin(self) -> AsyncAdmin:
        """Tenants, tokens, and nodes to cordon or drain: what operators do."""
        return AsyncAdmin(self._connection.admin, self._call)

    async def close(self) -> None:
        """Disconnect. Futures without an outcome say so; their tasks go on."""
        # It may have a cluster to stop, which blocks.
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            check_not_forked()
            if self._connection.closed:
                raise WrongState("the client is closed; connect() again")
        except FlameError:
            work.close()
            raise
        return await self._connection.io.arun(work)

    def __repr__(self) -> str:
        return f"<flame.aio.AsyncClient of {self.endpoint}>"


@opening
async def connect(
    endpoint: str | None = None,
    *,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    timeout: float = CONNECT_TIMEOUT,
    retry: float = RETRY_SECONDS,
    executors: int | None = None,
    storage: str | None = None,
    default_endpoint: str | None = None,
    tenant: str | None = None,
) -> AsyncClient:
    """Connect to a cluster, or start one; see ``flame.connect``."""
    check_not_forked()
    configuration, embedded = await asyncio.to_thread(
        choose,
        endpoint,
        executors,
        storage,
        lambda: resolve(
            endpoint,
            token=token,
            token_file=token_file,
            ca_file=ca_file,
            config=config,
            default_endpoint=default_endpoint,
            tenant=tenant,
        ),
    )
    io = io_thread()
    try:
        connection = await io.arun(Connection.open(io, configuration, timeout=timeout, retry=retry))
    except BaseException:
        if embedded is not None:
            await asyncio.to_thread(embedded.release)
        raise
    return AsyncClient(Client(connection, embedded))
