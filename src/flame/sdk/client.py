"""``flame.connect`` and what it returns: a client of one cluster."""

import atexit
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from flame.model.errors import InvalidRequest, WrongState
from flame.model.resources import Resources
from flame.model.specs import DEFAULT_MAX_ATTEMPTS, ApplicationSpec, Durability
from flame.sdk.admin import Admin
from flame.sdk.configuration import ClientConfiguration, resolve
from flame.sdk.connection import Connection
from flame.sdk.future import resolve as resolve_futures
from flame.sdk.io_thread import check_not_forked, io_thread, stop_io_thread
from flame.sdk.session import Session
from flame.sdk.session_options import RetryOn, SessionArguments, SessionOptions, new_session
from flame.sdk.views import Application, Executor, Node, Package, SessionInfo

if TYPE_CHECKING:
    from flame.sdk.embedded import EmbeddedUse
    from flame.sdk.local_cluster import LocalCluster

T = TypeVar("T")

CONNECT_TIMEOUT = 30.0  # seconds
RETRY_SECONDS = 30.0

_open: "set[Client]" = set()


def connect(
    endpoint: str | Sequence[str] | None = None,
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
) -> "Client":
    """Connect to a cluster.

    Without an endpoint (here, in FLAME_ENDPOINT, or in flame.yaml) it is a cluster of this process's
    own, on loopback, which starts now and ends with its last client or with the process.

    Args:
        endpoint: ``http://host:8080``, or ``https://`` with TLS; several (a list, or with commas) if
            session managers stand by for one another: the one that leads is found, now and later.
        token: The cluster's token.
        token_file: A file that holds it.
        ca_file: The certificate authority of an https endpoint, if it is not a public one.
        config: Another ``flame.yaml`` than the one in ~/.flame.
        timeout: Seconds to wait for the cluster's first word.
        retry: Seconds for which calls are repeated while it cannot be reached. Futures wait longer:
            they outlive any outage.
        executors: For a cluster of its own: how many executors; default: as many as CPUs.
        storage: For a cluster of its own: ``memory``, or a ``sqlite:///FILE`` that stays.
        default_endpoint: Used instead of a cluster of its own if nothing is configured.
        tenant: For whom, among those that the token is for; None: the first of them (``default``
            with the cluster's own token).

    Raises:
        Unavailable: Nobody answered in time.
        Unauthenticated: The cluster does not know the token, or needs one.
        InvalidConfiguration: An option, variable or file has a wrong value.
    """
    check_not_forked()
    configuration, embedded = choose(
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
        connection = io.run(Connection.open(io, configuration, timeout=timeout, retry=retry))
    except BaseException:
        if embedded is not None:
            embedded.release()
        raise
    return Client(connection, embedded)


def choose(
    endpoint: str | Sequence[str] | None,
    executors: int | None,
    storage: str | None,
    configured: Callable[[], ClientConfiguration],
) -> tuple[ClientConfiguration, "EmbeddedUse | None"]:
    """Return what to connect to; start the cluster of this process's own if that is it.

    Raises:
        InvalidRequest: An endpoint is given, and options that are for a cluster of its own.
    """
    own = executors is not None or storage is not None
    if own and endpoint is not None:
        raise InvalidRequest(
            "executors and storage are for a cluster that connect() starts itself; "
            f"they say nothing to the one at {endpoint}"
        )
    configuration = ClientConfiguration() if own else configured()
    if configuration.endpoints:
        return configuration, None
    from flame.sdk.embedded import use_embedded  # most clients need none of it

    embedded = use_embedded(executors, storage)
    return embedded.configuration, embedded


class Client:
    """A connection to a cluster. Any thread may use it; as a context manager it is closed at the end.

    Sessions and their tasks live in the cluster: closing the client does not close them. (The
    embedded cluster is the exception: it ends with its last client.)
    """

    def __init__(self, connection: Connection, embedded: "EmbeddedUse | None") -> None:
        """Made by :func:`connect`."""
        self._connection = connection
        self._embedded = embedded
        _open.add(self)

    @property
    def endpoint(self) -> str:
        """Where the session manager is; of several, the one that led last."""
        return str(self._connection.managers.current)

    @property
    def embedded(self) -> "LocalCluster | None":
        """The cluster of this process's own that it uses, if it does."""
        return None if self._embedded is None else self._embedded.cluster

    # --- sessions -------------------------------------------------------------------------------

    def create_session(
        self,
        application: object,
        *,
        name: str | None = None,
        common_data: bytes | None = None,
        min_instances: int = 0,
        max_instances: int | None = None,
        batch_size: int = 1,
        priority: int = 0,
        resources: Resources | str | None = None,
        durability: Durability | str = "durable",
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        task_timeout: float | None = None,
        deadline: float | None = None,
        retry_on_failure: int | None = None,
        on_client_lost: float | None = None,
        require: str | Mapping[str, str] | None = None,
        prefer: str | Mapping[str, int] | None = None,
        near: Sequence[str] = (),
        retry_on: RetryOn = (),
        standby: int | None = None,
    ) -> Session:
        """Create a session.

        Args:
            application: The name of a registered application; or the service itself: a function
                from bytes to bytes, or a FlameService (class or object).
            name: Unique among your sessions; made up if None.
            common_data: Given to ``on_session_enter`` of every executor.
            min_instances: Executors to keep while the session is open, even without tasks.
            max_instances: At most this many executors; None: as many as are fair.
            batch_size: Executors that only make sense together (1: each by itself).
            priority: Higher goes first.
            resources: What one executor takes, for example ``"cpu=2,mem=4g,gpu=1,fpga=1"``; None:
                the cluster's default.
            durability: What an acknowledged task survives: ``"durable"`` (the death of any process),
                ``"sync"`` (and the loss of power), ``"memory"`` (neither).
            max_attempts: Starts of a task before a lost executor makes it fail.
            task_timeout: Seconds that a task may run. Then it has failed; its service sees
                ``context.cancelled``, and its process is replaced if it does not return soon.
            deadline: Seconds from a task's creation within which it must be final, whatever it
                waits for. It ends as with ``task_timeout``.
            retry_on_failure: How often a task is tried again that its service failed; None: not at all,
                or with ``retry_on`` twice.
            retry_on: Which failures those are, any if empty: exceptions, as classes or names
                (``"ConnectionError"``, ``"mylib.Transient"``; those that derive from them count
                too), and exit codes or statuses of other services: ``[ConnectionError, 75]``.
            on_client_lost: The session is closed, and its tasks are cancelled, so many seconds after
                its last client has gone; None: it lives on, and anyone may attach to it.
            require: Labels that a node must have: ``"zone=a"`` or ``{"zone": "a"}``.
            prefer: Labels that a node had better have, with weights from 1 to 1000:
                ``"disk=ssd:2,zone=a"`` or ``{"disk=ssd": 2, "zone=a": 1}``.
            near: Nodes that hold the session's data, by name, and had better be used.
            standby: Seconds that an executor without work may stay, its service warm, after the
                application's delay_release while nobody else wants its room; None: as the
                application says, else 60.

        Raises:
            AlreadyExists: A session of this name exists.
            NotFound: There is no such application.
            InvalidRequest: An argument has a value that is not allowed.
        """
        options = SessionOptions(
            common_data, min_instances, max_instances, batch_size, priority, resources,
            durability, max_attempts, task_timeout, deadline, retry_on_failure, on_client_lost,
            require, prefer, near, retry_on, standby,
        )  # fmt: skip
        new = new_session(application, name, options)
        info, stream = self._call(self._connection.create_session(new, resolve_futures))
        return Session(self, info, stream)

    def open_session(
        self,
        name: str,
        application: object | None = None,
        *,
        submitter: str | None = None,
        **arguments: Unpack[SessionArguments],
    ) -> Session:
        """Get the open session of this name; with an application, create it if there is none.

        ``submitter`` is a text that stands for this program's tasks. Whoever opens the session with the
        same text later, and submits the same inputs in the same order, gets the tasks and results that
        there are: a program that was killed is simply run again. (One at a time; not with durability
        ``memory``.) The other arguments are those of :meth:`create_session`.

        Raises:
            NotFound: There is none, and no application was given.
            InvalidRequest: It is there with another specification; the text names the difference
                (``common_data``, ``standby``, ``prefer`` and ``near`` may differ).
            WrongState: It is closed.
        """
        options = SessionOptions(**arguments)
        new = None if application is None else new_session(application, name, options)
        info, stream = self._call(
            self._connection.open_session(name, new, resolve_futures, submitter)
        )
        return Session(self, info, stream)

    def get_session(self, name: str) -> Session:
        """Get a session, open or closed: to run tasks in, or to look at.

        Raises:
            NotFound: There is none of this name.
        """
        info, stream = self._call(self._connection.get_session(name, resolve_futures))
        return Session(self, info, stream)

    def list_sessions(self, *, all_tenants: bool = False) -> list[SessionInfo]:
        """Return the tenant's sessions, closed ones too.

        With ``all_tenants`` those of every tenant that the token is for: to an operator, all.
        """
        return self._call(self._connection.frontend.list_sessions(all_tenants=all_tenants))

    def close_session(self, name: str, cancel_running: bool = False) -> SessionInfo:
        """Close a session that this program need not have opened; see :meth:`Session.close`."""
        return self._call(
            self._connection.frontend.close_session(name, cancel_running=cancel_running)
        )

    def delete_session(self, name: str) -> None:
        """Forget a closed session and its tasks.

        Raises:
            WrongState: It is open.
        """
        self._call(self._connection.frontend.delete_session(name))

    # --- applications ---------------------------------------------------------------------------

    def register_application(self, name: str, spec: ApplicationSpec) -> None:
        """Make an application known under a name.

        Raises:
            AlreadyExists: The name is taken.
        """
        self._call(self._connection.frontend.register_application(name, spec))

    def update_application(self, name: str, spec: ApplicationSpec) -> None:
        """Replace an application's specification; executors that run keep the old one."""
        self._call(self._connection.frontend.update_application(name, spec))

    def upload_package(
        self,
        path: str | os.PathLike[str],
        *,
        exclude: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Package:
        """Upload what an application is made of, unless the same content is there already.

        Give its ``url`` to an application's specification, together with an ``installer``.
        What no application refers to is deleted after a day.

        Args:
            path: A directory, which is packed; an archive (.tar.gz, .zip, .whl); or a single file.
            exclude: Patterns of files in a directory that are left out, besides caches and the like.
            progress: Called, in another thread, with the bytes sent so far and those there are.

        Raises:
            InvalidRequest: It cannot be packed, or is larger than the cluster takes.
            ResourceExhausted: The cluster has no room for it.
        """
        from flame.sdk.packing import no_progress, packed  # only who packs pays for archives

        with packed(Path(path), exclude) as archive:
            return self._call(self._connection.upload(archive, progress or no_progress))

    def unregister_application(self, name: str) -> None:
        """Forget an application.

        Raises:
            WrongState: A session of it is open.
        """
        self._call(self._connection.frontend.unregister_application(name))

    def get_application(self, name: str) -> Application:
        """Return an application, or raise NotFound."""
        return self._call(self._connection.frontend.get_application(name))

    def list_applications(self) -> list[Application]:
        """Return all applications."""
        return self._call(self._connection.frontend.list_applications())

    # --- the cluster ----------------------------------------------------------------------------

    def list_executors(self) -> list[Executor]:
        """Return all executors."""
        return self._call(self._connection.frontend.list_executors())

    def list_nodes(self) -> list[Node]:
        """Return all nodes."""
        return self._call(self._connection.frontend.list_nodes())

    def get_node(self, name: str) -> Node:
        """Return a node, or raise NotFound."""
        return self._call(self._connection.frontend.get_node(name))

    @property
    def admin(self) -> Admin:
        """Tenants, tokens, and nodes to cordon or drain: what operators do."""
        return Admin(self._connection.admin, self._call)

    # --- the client -----------------------------------------------------------------------------

    def close(self) -> None:
        """Disconnect. Futures without an outcome say so; their tasks go on."""
        _open.discard(self)
        if not self._connection.closed:
            self._connection.io.run(self._connection.close())
        if self._embedded is not None:
            embedded, self._embedded = self._embedded, None
            embedded.release()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            check_not_forked()
            if self._connection.closed:
                raise WrongState("the client is closed; connect() again")
        except BaseException:
            work.close()
            raise
        return self._connection.io.run(work)

    def __repr__(self) -> str:
        return f"<flame.Client of {self.endpoint}>"


def _close_all() -> None:
    for client in list(_open):
        client.close()
    stop_io_thread()


def _after_fork_in_child() -> None:
    # They are the parent's, and so is the embedded cluster: the child must not close them.
    for client in _open:
        client._embedded = None
    _open.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
