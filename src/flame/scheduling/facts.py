"""What the ledger is told: the wishes, the machines, the executors. Absolute values, one fact each.

The core reports each fact when it changes; a repeated report of the same value costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.labels import Labels, Preferences
from flame.model.resources import Resources


@dataclass(frozen=True, slots=True)
class Wish:
    """One open session.

    Attributes:
        order: Smaller is older; no two sessions have the same.
        wanted: Executors it could use now, within its own limits, those it has included.
        reserved: It keeps this many even without tasks (min_instances).
        batch_size: Executors come in gangs of this many, all or none.
        application: Which warm processes it can take over.
        requires: Labels that its nodes must have.
        prefers: Labels that its nodes had better have.
        locality: How much of its data a node holds, 0 to 1, where it is known.
        protected: How many of its executors run a task that was preempted twice.
    """

    session: SessionNumber
    tenant: Tenant
    application: str
    order: int
    request: Resources
    wanted: int
    reserved: int = 0
    priority: int = 0
    weight: float = 1.0
    batch_size: int = 1
    requires: Labels = ()
    prefers: Preferences = ()
    locality: Mapping[NodeName, float] = field(default_factory=dict)
    protected: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """One node.

    Attributes:
        cordoned: Nothing new starts there, for whatever reason; what runs there stays.
        away: As the node is silent.
        drained: As an operator has it emptied.
    """

    node: NodeName
    capacity: Resources
    labels: Labels = ()
    cordoned: bool = False
    away: bool = False
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """One executor that occupies room.

    Attributes:
        session: Whom it serves or is binding to; None: it is warm and idle.
        leaving: It is on its way out; its room returns when it is gone.
        standby: Idle in this session, which it can serve again as it is.
        reusable: Idle, it can serve any session of its tenant and application.
    """

    executor: ExecutorId
    node: NodeName
    resources: Resources
    tenant: Tenant
    application: str
    session: SessionNumber | None = None
    leaving: bool = False
    standby: SessionNumber | None = None
    reusable: bool = True
