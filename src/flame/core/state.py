"""The cluster's state, and the small things that every rule needs: emit, look up, deadlines."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flame.core.backlog import Backlogs
from flame.core.deadlines import Deadlines
from flame.core.effects import Effect, Store
from flame.core.events import AttachmentId
from flame.core.executor import Executor
from flame.core.node import Node
from flame.core.outcome_log import Attachment
from flame.core.records import ApplicationPut, CordonPut, Record, TenantPut, TokenPut
from flame.core.session import Session
from flame.model.credentials import TokenId
from flame.model.errors import NotFound
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.specs import (
    DEFAULT_DELAY_RELEASE,
    DEFAULT_MAX_INPUT_BYTES,
    DEFAULT_STANDBY,
    SessionState,
)
from flame.model.tenants import TenantSpec
from flame.scheduling.budget import Budget
from flame.scheduling.ledger import Ledger
from flame.scheduling.turns import Turns
from flame.scheduling.usage import Usage


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cluster refuses to exceed.

    Attributes:
        max_input_bytes: Of one task.
        max_queued_tasks, max_queued_bytes: Of one session; beyond, submit credit is withheld.
        max_sessions: Open ones, of all tenants together.
        max_cluster_tasks, max_cluster_bytes: Queued in all sessions together; beyond, submits are
            refused.
        max_executors: Processes of the whole cluster.
        max_connections: Clients that are connected at once; the shell sees to it.
        submit_credit: Bytes a client may have on their way to the store, per session.
        delay_release: Seconds an executor without tasks stays bound, unless its application says.
        standby: Seconds that it may stay longer while nobody else wants it, unless its session or
            application says.
        bind_attempts: Failed binds in a row after which a session's pending tasks fail.
        cancel_grace: Seconds that a service has to end a task which is final already.
        preemption_rate: Executor-seconds of work, a second, that may be thrown away in the long run.
        preemption_burst: And at most this many at once.
        memory_only: Nothing survives this cluster's manager, so every session says so.
    """

    max_input_bytes: int = DEFAULT_MAX_INPUT_BYTES
    max_queued_tasks: int = 5_000_000
    max_queued_bytes: int = 4 * 1024**3
    max_sessions: int | None = None
    max_cluster_tasks: int | None = None
    max_cluster_bytes: int | None = None
    max_executors: int | None = None
    max_connections: int | None = None
    submit_credit: int = 64 * 1024 * 1024
    delay_release: float = DEFAULT_DELAY_RELEASE
    standby: float = DEFAULT_STANDBY
    bind_attempts: int = 5
    memory_only: bool = False
    cancel_grace: float = 5.0
    preemption_rate: float = 1.0
    preemption_burst: float = 600.0


@dataclass(slots=True, eq=False)
class State:
    """Everything the core knows.

    ``effects`` collects what the current event causes; ``replan`` is set by whatever may change who
    should have which executor; ``waiting``: after the last plan some session could have had more.
    ``touched_…``: what the ledger was not told of yet. ``out_of_work``: executors with nothing to do,
    to be looked at when the event is done, because another session waits. ``full``: why the store
    takes nothing more; empty while it does. ``tenants`` are stored, ``declared`` come from the
    configuration, ``tree`` is what both make.
    """

    limits: Limits
    new_id: Callable[[], str]
    epoch: int = 0
    next_session: int = 1
    next_incarnation: int = 1
    next_request: int = 1
    applications: dict[tuple[Tenant, str], ApplicationPut] = field(default_factory=dict)
    sessions: dict[SessionNumber, Session] = field(default_factory=dict)
    names: dict[tuple[Tenant, str], Session] = field(default_factory=dict)
    attachments: dict[AttachmentId, Attachment] = field(default_factory=dict)
    nodes: dict[NodeName, Node] = field(default_factory=dict)
    executors: dict[ExecutorId, Executor] = field(default_factory=dict)
    deadlines: Deadlines = field(default_factory=Deadlines)
    effects: list[Effect] = field(default_factory=list)
    full: str = ""
    replan: bool = False
    waiting: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    backlogs: Backlogs = field(default_factory=Backlogs)
    tenants: dict[Tenant, TenantPut] = field(default_factory=dict)
    declared: dict[Tenant, TenantSpec] = field(default_factory=dict)
    tree: dict[Tenant, TenantSpec] = field(default_factory=dict)
    tokens: dict[TokenId, TokenPut] = field(default_factory=dict)
    cordons: dict[NodeName, CordonPut] = field(default_factory=dict)
    touched_nodes: dict[NodeName, None] = field(default_factory=dict)
    touched_sessions: dict[SessionNumber, None] = field(default_factory=dict)
    touched_executors: dict[ExecutorId, None] = field(default_factory=dict)
    touched_gangs: dict[SessionNumber, None] = field(default_factory=dict)
    out_of_work: dict[ExecutorId, None] = field(default_factory=dict)
    budget: Budget | None = None  # from the first task that is to be thrown away
    usage: Usage[Tenant] | None = None  # from the first time that two tenants have sessions
    turns: Turns[Tenant] | None = None
    session_turns: Turns[SessionNumber] | None = None
    usage_watched: bool = False
    possible: dict[tuple[Resources, Labels], bool] = field(default_factory=dict)  # on some node
    stale_results: int = 0  # outcomes that came too late, counted for metrics

    def emit(self, effect: Effect) -> None:
        """Add an effect behind those that are there."""
        self.effects.append(effect)

    def touch_session(self, session: Session) -> None:
        """What the session wants may be something else than before."""
        self.touched_sessions[session.number] = None

    def touch_executor(self, executor: Executor) -> None:
        """Whom the executor serves, or whether it leaves, is something else than before."""
        self.touched_executors[executor.id] = None
        if executor.session is not None:
            self.touched_sessions[executor.session.number] = None
            if executor.session.spec.batch_size > 1:
                self.touched_gangs[executor.session.number] = None

    def touch_node(self, node: NodeName) -> None:
        """The node is another than before, or gone."""
        self.touched_nodes[node] = None

    def store(
        self,
        record: Record,
        cause: object = None,
        *,
        session: Session | None = None,
        sync: bool = False,
    ) -> None:
        """Have a record committed; ``cause`` comes back with it. Kept as its session wants."""
        if session is None:
            self.effects.append(Store(record, cause, sync=sync))
        else:
            self.effects.append(Store(record, cause, session.is_volatile, session.is_sync))

    def application(self, tenant: Tenant, name: str) -> ApplicationPut:
        """Return the tenant's application of this name, or the shared one.

        Raises:
            NotFound: There is neither.
        """
        found = self.applications.get((tenant, name)) or self.applications.get(
            (DEFAULT_TENANT, name)
        )
        if found is None:
            raise NotFound(
                f"there is no application {name!r}; `flmctl list -a` shows those there are"
            )
        return found

    def session_named(self, tenant: Tenant, name: str) -> Session:
        """Return the tenant's session of this name.

        Raises:
            NotFound: There is none.
        """
        session = self.names.get((tenant, name))
        if session is None:
            raise NotFound(
                f"there is no session {name!r} of tenant {tenant!r}; "
                "`flmctl list` shows those there are"
            )
        return session

    def delay_release(self, session: Session) -> float:
        """Return how long the session's executors stay bound without a task, in seconds."""
        own = self.application_of(session)
        if own is None or own.spec.delay_release is None:
            return self.limits.delay_release
        return float(own.spec.delay_release)

    def standby(self, session: Session) -> float:
        """Return how long they may stay after that while nobody else wants them, in seconds."""
        if session.spec.standby is not None:
            return float(session.spec.standby)
        own = self.application_of(session)
        if own is None or own.spec.standby is None:
            return self.limits.standby
        return float(own.spec.standby)

    def application_of(self, session: Session) -> ApplicationPut | None:
        """Return what the session runs; None: it is not registered any more."""
        name = session.spec.application
        return self.applications.get((session.tenant, name)) or self.applications.get(
            (DEFAULT_TENANT, name)
        )

    def drains(self, node: NodeName) -> bool:
        """Whether the node's executors have to leave."""
        cordon = self.cordons.get(node)
        return cordon is not None and cordon.drain

    def take_request(self) -> int:
        """Return a number for a question to an executor."""
        self.next_request += 1
        return self.next_request - 1

    def take_incarnation(self) -> int:
        """Return a number that no incarnation had."""
        self.next_incarnation += 1
        return self.next_incarnation - 1


def await_client(state: State, session: Session, now: float, at_least: float = 0.0) -> None:
    """No client is attached: close the session in a while, if that is what it asks for."""
    wait = session.spec.client_lost_ms
    if wait is not None and session.state is SessionState.OPEN:
        state.deadlines.set(("orphan", session.number), now + max(wait / 1000, at_least))


def milliseconds(now: float) -> int:
    """Return a time of the core's clock as the records write it."""
    return int(now * 1000)
