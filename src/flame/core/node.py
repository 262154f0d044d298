"""The node: a machine whose executor manager holds a lease with us.

    Ready ──channel lost, or silence──▶ Unknown ──lease ends──▶ Not ready ──registers──▶ Ready
                                            └──registers again──▶ Ready

While a node is Unknown its executors keep their tasks; when its lease ends they are lost, and the
node itself is forgotten a while later.
"""

from dataclasses import dataclass, field

from flame.core.executor import Executor
from flame.model.ids import ExecutorId, NodeName
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.model.specs import NodeState

#: Seconds of silence after which a connected node's lease ends.
LEASE = 15.0
#: Seconds that a node has to come back after its channel broke.
DISCONNECT_GRACE = 5.0
#: Seconds that nodes have to come back after the manager was restarted.
RESTART_GRACE = 10.0
#: Seconds for which a lost node stays listed.
FORGET_AFTER = 600.0


@dataclass(slots=True, eq=False)
class Node:
    """One node. ``used`` is the sum of what its executors occupy."""

    name: NodeName
    instance: bytes
    state: NodeState
    capacity: Resources
    hostname: str = ""
    arch: str = ""
    os: str = ""
    addresses: tuple[tuple[str, str], ...] = ()
    labels: Labels = ()
    isolation: str = ""
    connected: bool = False
    renewed: float = 0.0
    used: Resources = field(default_factory=Resources)
    executors: dict[ExecutorId, Executor] = field(default_factory=dict)

    @property
    def free(self) -> Resources:
        """What can be taken now."""
        return self.capacity - self.used
