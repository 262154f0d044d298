"""How far nodes are with applications' packages, as they say: kept in memory, told again on reconnect."""

from flame.model.ids import NodeName, Tenant
from flame.wire import frames, v1

#: Of one node; the oldest are forgotten above that.
KEPT = 500

Application = tuple[Tenant, str]


class PackageStates:
    """The last word of each node on each application."""

    def __init__(self) -> None:
        self._by_node: dict[NodeName, dict[Application, v1.NodePackage]] = {}

    def put(self, node: NodeName, state: frames.PackageState) -> None:
        """Take what a node says."""
        known = self._by_node.setdefault(node, {})
        key = (Tenant(state.tenant), state.application)
        known.pop(key, None)
        known[key] = v1.NodePackage(
            node=node,
            url=state.url,
            state=state.state,
            message=state.message,
            log=state.log,
            since=state.since_ms,
        )
        if len(known) > KEPT:
            del known[next(iter(known))]

    def forget(self, node: NodeName) -> None:
        """The node is gone; it tells everything when it is back."""
        self._by_node.pop(node, None)

    def of(self, tenant: Tenant, application: str) -> list[v1.NodePackage]:
        """Return what nodes said of an application, by node."""
        key = (tenant, application)
        return [known[key] for _, known in sorted(self._by_node.items()) if key in known]
