"""What a cluster consists of, as rows, properties and documents: nodes, executors, session managers."""

from typing import TYPE_CHECKING

from flame.cli.documents.values import Document, present, resources_document, state_name
from flame.model.labels import format_labels
from flame.model.resources import format_bytes
from flame.sdk.views import Executor, Node

if TYPE_CHECKING:
    from flame.sdk.managers import ManagerInfo


MANAGERS = {"ENDPOINT": 30, "ROLE": 12, "DETAIL": 20}
EXECUTORS = {"ID": 40, "State": 12, "Session": 20, "Node": 15}
NODES = {
    "NAME": 15,
    "HOSTNAME": 20,
    "STATUS": 10,
    "CPU": 8,
    "MEMORY": 10,
    "ARCH": 10,
    "OS": 10,
    "GPU": 5,
    "LABELS": 20,
}
#: Labels that every node has by itself, and that a table shows already.
OWN_LABELS = ("arch", "os", "hostname", "node")


def manager_row(manager: "ManagerInfo") -> list[object]:
    """A row of :data:`MANAGERS`."""
    return [manager.endpoint, manager.role, manager.detail]


def manager_document(manager: "ManagerInfo") -> Document:
    """The whole session manager."""
    return {
        "metadata": {"endpoint": manager.endpoint},
        "status": present(role=manager.role, detail=manager.detail or None),
    }


def executor_row(executor: Executor) -> list[object]:
    """A row of :data:`EXECUTORS`."""
    return [executor.id, _executor_state(executor), executor.session, executor.node]


def executor_document(executor: Executor) -> Document:
    """The whole executor."""
    return {
        "metadata": {"id": executor.id},
        "spec": present(
            node=executor.node,
            resources=resources_document(executor.resources),
            shim=state_name(executor.shim),
        ),
        "status": present(
            state=_executor_state(executor),
            session=executor.session,
            gpu_ids=list(executor.gpu_ids) or None,
            rank=executor.rank,
        ),
    }


def _executor_state(executor: Executor) -> str:
    return "Standby" if executor.standby else state_name(executor.state)


def node_state(node: Node) -> str:
    """``Ready``, and whether it may be used: ``Ready,cordoned``, or how far its drain is."""
    name = state_name(node.state)
    if node.draining:
        return f"{name},{'draining' if node.executors else 'drained'}"
    return f"{name},cordoned" if node.cordoned else name


def node_row(node: Node) -> list[object]:
    """A row of :data:`NODES`."""
    return [
        node.name,
        node.hostname,
        node_state(node),
        f"{node.capacity.cpu_millis / 1000:g}",
        format_bytes(node.capacity.memory_bytes),
        node.arch,
        node.os,
        node.capacity.gpus,
        format_labels(tuple(pair for pair in node.labels if pair[0] not in OWN_LABELS)),
    ]


def node_properties(node: Node) -> list[tuple[str, object]]:
    """What ``flmctl view -n`` prints."""
    return [
        ("Name", node.name),
        ("Hostname", node.hostname),
        ("State", node_state(node)),
        ("Executors", node.executors),
        ("Capacity", node.capacity),
        ("Allocatable", node.allocatable),
        ("Arch", node.arch),
        ("OS", node.os),
        ("Labels", format_labels(node.labels)),
        ("Addresses", "\n".join(f"{kind}: {address}" for kind, address in node.addresses)),
        ("Isolation", node.isolation),
    ]


def node_document(node: Node) -> Document:
    """The whole node."""
    return {
        "metadata": {"name": node.name},
        "spec": {"hostname": node.hostname, "labels": dict(node.labels)},
        "status": present(
            state=state_name(node.state),
            cordoned=node.cordoned,
            draining=node.draining,
            executors=node.executors,
            capacity=resources_document(node.capacity),
            allocatable=resources_document(node.allocatable),
            arch=node.arch,
            os=node.os,
            addresses=[{"type": kind, "address": address} for kind, address in node.addresses],
            isolation=node.isolation or None,
        ),
    }
