"""What a policy sees, and what it may answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.resources import Resources


@dataclass(frozen=True, slots=True)
class SessionDemand:
    """One open session that wants or has executors.

    Attributes:
        order: Smaller is older.
        wanted: Executors it could use now, within its own limits, those it has included.
        reserved: It keeps this many even without tasks (min_instances).
        bound: Executors it has, binding ones included, those on their way out excluded.
        batch_size: Executors come in multiples of this.
        application: Which processes it can take over.
    """

    session: SessionNumber
    tenant: Tenant
    application: str
    order: int
    priority: int
    weight: float
    request: Resources
    wanted: int
    reserved: int
    bound: int
    batch_size: int = 1


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """A node that is ready.

    ``free`` can be taken at once; ``returning`` is held by executors that are on their way out.
    """

    node: NodeName
    free: Resources
    returning: Resources


@dataclass(frozen=True, slots=True)
class IdleExecutor:
    """A warm process that serves no session; its resources are not in its node's ``free``."""

    executor: ExecutorId
    node: NodeName
    resources: Resources
    tenant: Tenant
    application: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one moment. Sessions by rising order, nodes by name."""

    sessions: Sequence[SessionDemand]
    nodes: Sequence[NodeOffer]
    idle: Sequence[IdleExecutor]
    total: Resources


@dataclass(frozen=True, slots=True)
class Assign:
    """Start an executor for the session on the node."""

    session: SessionNumber
    node: NodeName


@dataclass(frozen=True, slots=True)
class Reuse:
    """Bind a warm, idle executor to the session."""

    session: SessionNumber
    executor: ExecutorId


@dataclass(frozen=True, slots=True)
class Evict:
    """Stop an idle executor, to make room."""

    executor: ExecutorId


@dataclass(frozen=True, slots=True)
class Release:
    """Take ``count`` executors from the session: unstarted tasks return, the running one ends.

    Attributes:
        node: Only executors there help; None: any. A gang with a member there goes as a whole.
        grace: Seconds after which a task that still runs may be thrown away, if the budget allows;
            None: it is waited for.
    """

    session: SessionNumber
    count: int
    node: NodeName | None = None
    grace: float | None = None


Step = Assign | Reuse | Evict | Release
Plan = tuple[Step, ...]


class Policy(Protocol):
    """Decides who gets which executor."""

    def plan(self, snapshot: Snapshot) -> Plan:
        """Return steps in the order in which to take them. Equal snapshots give equal plans."""
