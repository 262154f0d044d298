"""What calls ask of the session manager: changes of the core, live state, finished tasks of the store.

The gRPC services translate; this answers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from flame.core import effects, events
from flame.core.cluster import Cluster
from flame.core.effects import (
    ApplicationView,
    ExecutorView,
    NodeView,
    SessionView,
    TaskView,
    TenantView,
    TokenView,
)
from flame.core.records import StoredTask
from flame.core.session import Session
from flame.core.views import attempt_of, task_view
from flame.model.credentials import TokenId, TokenSpec
from flame.model.errors import FlameError, NotFound, NotLeading
from flame.model.ids import NodeName, SessionNumber, TaskId, Tenant
from flame.model.logs import TaskLog
from flame.model.packages import kept_package
from flame.model.task_notes import NO_NOTES, TaskNotes
from flame.runtime.tasks import Tasks
from flame.session_manager.recent import RecentTasks
from flame.session_manager.replies import Answerable, CallReply, Watching
from flame.session_manager.store_reader import StoreReader
from flame.wire import v1

if TYPE_CHECKING:
    from flame.session_manager.shell import Shell


class Calls:
    """Answers the calls of a shell."""

    def __init__(self, shell: "Shell", cluster: Cluster, reader: StoreReader, tasks: Tasks) -> None:
        self._shell = shell
        self._cluster = cluster
        self._reader = reader
        self._tasks = tasks
        self._recent = RecentTasks()

    def performs(self) -> dict[type, Callable[[Any], None]]:
        """Return how effects are performed that are for single calls."""
        return {
            effects.Done: lambda e: e.reply.answer(None),
            effects.Refuse: lambda e: e.reply.refuse(e.error),
            effects.Answer: lambda e: e.reply.answer(e.view),
            effects.NotifyTask: lambda e: e.watcher.notify(e.view),
            effects.FinalTask: self._show_final,
        }

    async def call(self, event_of: Callable[[Any], Any]) -> Any:
        """Post the event made for a reply handle; return the answer.

        Raises:
            FlameError: The core refused.
        """
        if self._shell.lapsed():
            raise NotLeading("this session manager leads no more")
        reply = CallReply()
        self._shell.post(event_of(reply))
        return await reply.future

    # --- tasks -------------------------------------------------------------------------------------

    async def task(self, tenant: Tenant, session_name: str, task_id: TaskId) -> TaskView:
        """Return one task.

        Raises:
            NotFound: There is no such session or task, or it is no longer kept.
        """
        view = self._cluster.task(tenant, session_name, task_id)
        if view is not None:
            return view
        session = self._cluster.state.session_named(tenant, session_name)
        return await self._stored_view(session, task_id)

    async def _stored_view(self, session: Session, task_id: TaskId) -> TaskView:
        store = self._reader.store_of(session)
        stored: StoredTask | None = await self._reader.read(
            store, lambda: store.task(session.number, task_id)
        )
        if stored is None:
            raise NotFound(
                f"task {task_id} of session {session.name!r} is no longer kept: finished tasks of "
                "a session with durability 'memory' are dropped"
            )
        return _view_of(session, stored)

    async def tasks(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> list[TaskView]:
        """Return up to ``limit`` tasks above ``after``, by rising id.

        Raises:
            NotFound: There is no such session.
        """
        session = self._cluster.state.session_named(tenant, session_name)
        store = self._reader.store_of(session)
        page: list[StoredTask] = await self._reader.read(
            store, lambda: store.tasks(session.number, after, limit)
        )
        views: list[TaskView] = []
        for stored in page:
            live = None if stored.state.is_final else session.live.get(stored.task_id)
            views.append(
                task_view(session, live) if live is not None else _view_of(session, stored)
            )
        return views

    async def logs(
        self, tenant: Tenant, session_name: str, after: int, limit: int
    ) -> tuple[list[TaskLog], bool]:
        """Return up to ``limit`` logs of tasks above ``after``, and whether older ones were dropped.

        Raises:
            NotFound: There is no such session.
        """
        session = self._cluster.state.session_named(tenant, session_name)
        store = self._reader.store_of(session)
        found: tuple[list[TaskLog], bool] = await self._reader.read(
            store, lambda: store.logs(session.number, after, limit)
        )
        return found

    def create(
        self,
        tenant: Tenant,
        session_name: str,
        payload: bytes | None,
        reply: Answerable,
        notes: TaskNotes = NO_NOTES,
    ) -> None:
        """Make a task that is likely to be watched; the reply gets its view, or an error."""
        event = events.CreateTask(tenant, session_name, payload, reply, self._recent, notes)
        self._shell.post(event, pump=self._shell.pump_soon)

    def watch(
        self, tenant: Tenant, session_name: str, task_id: TaskId, watcher: Watching
    ) -> Callable[[], None]:
        """Tell the watcher of a task's changes from Pending on, last of its final state.

        It may be told during this call. What is returned ends the watch before that.
        """
        session = self._cluster.state.names.get((tenant, session_name))
        if session is not None:
            view = self._recent.take(session.number, task_id)
            if view is not None:
                watcher.notify(view)
                return _nothing
        self._shell.post(events.WatchTask(tenant, session_name, task_id, watcher))
        if session is None:
            return _nothing
        number = session.number
        return lambda: self._shell.post(events.UnwatchTask(number, task_id, watcher))

    def _show_final(self, effect: effects.FinalTask) -> None:
        session = self._cluster.state.sessions[effect.session]
        self._tasks.start(
            self._show_stored(session, effect.task_id, cast(Watching, effect.watcher)),
            "watch-final",
        )

    async def _show_stored(self, session: Session, task_id: TaskId, watcher: Watching) -> None:
        try:
            watcher.notify(await self._stored_view(session, task_id))
        except FlameError as error:
            watcher.refuse(error)
        except Exception as error:  # a bug of ours must not leave its client waiting
            watcher.refuse(FlameError(f"a bug in Flame: {error!r}"))
            raise

    # --- the cluster -----------------------------------------------------------------------------------

    def applications(self, tenant: Tenant) -> list[ApplicationView]:
        """Return the tenant's applications."""
        return self._cluster.applications(tenant)

    def application(self, tenant: Tenant, name: str) -> ApplicationView:
        """Return one of them, or raise NotFound."""
        return self._cluster.application(tenant, name)

    def packages_in_use(self) -> set[tuple[Tenant, str]]:
        """Return whose packages, and which, applications refer to."""
        found = set()
        for put in self._cluster.state.applications.values():
            package = kept_package(put.spec.url)
            if package is not None:
                found.add((put.tenant, package[0]))
        return found

    def packages_of(self, tenant: Tenant, application: str) -> list[v1.NodePackage]:
        """Return how far nodes are with an application's package."""
        return self._shell.package_states.of(tenant, application)

    def application_changed(self, tenant: Tenant, application: str) -> None:
        """It was registered or updated: nodes may try again what failed."""
        self._shell.nodes_connected.retry_package(tenant, application)

    def sessions(self, tenant: Tenant | None) -> list[SessionView]:
        """Return the tenant's sessions, closed ones too; None: those of all tenants."""
        return self._cluster.sessions(tenant)

    def session_name(self, tenant: Tenant, number: SessionNumber) -> str:
        """Return the name of the tenant's session of this number, or raise NotFound."""
        return self._cluster.session_name(tenant, number)

    def session(self, tenant: Tenant, name: str) -> SessionView:
        """Return one of them, or raise NotFound."""
        return self._cluster.session(tenant, name)

    def executors(self) -> list[ExecutorView]:
        """Return all executors."""
        return self._cluster.executors()

    def nodes(self) -> list[NodeView]:
        """Return all nodes."""
        return self._cluster.nodes()

    def node(self, name: NodeName) -> NodeView:
        """Return one of them, or raise NotFound."""
        return self._cluster.node(name)

    def tenants(self) -> list[TenantView]:
        """Return all tenants, parents first."""
        return self._cluster.tenants()

    def tokens(self) -> list[TokenView]:
        """Return all tokens, without what is secret."""
        return self._cluster.tokens()

    def token(self, token: TokenId) -> TokenSpec | None:
        """Return what a token opens, or None."""
        return self._cluster.token(token)


def _nothing() -> None:
    """Ends a watch that has ended."""


def _view_of(session: Session, stored: StoredTask) -> TaskView:
    return TaskView(
        session.number,
        session.name,
        stored.task_id,
        stored.state,
        stored.input,
        stored.output,
        stored.created_ms,
        stored.finished_ms,
        stored.failure,
        attempt_of(stored.failure, stored.attempts),
        stored.history,
        stored.notes,
    )
