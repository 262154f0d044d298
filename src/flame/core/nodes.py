"""Nodes come, renew their leases, and go."""

from flame.core.effects import RefuseNode, StopExecutor
from flame.core.events import NodeConnected, NodeDisconnected, NodeLeft, NodeRenewed
from flame.core.executor import STOP_GRACE
from flame.core.loss import lose
from flame.core.node import DISCONNECT_GRACE, FORGET_AFTER, LEASE, Node
from flame.core.state import State
from flame.model.attempts import Cause, Loss
from flame.model.errors import AlreadyExists, WrongState
from flame.model.ids import NodeName
from flame.model.specs import ExecutorState, NodeState


def on_node_connected(state: State, event: NodeConnected, now: float) -> None:
    """A node registers, for the first time or again; agree on which executors it has."""
    node = state.nodes.get(event.node)
    if node is not None and node.connected and node.instance != event.instance:
        error = AlreadyExists(
            f"node {event.node!r} is registered by another executor manager that is alive; "
            "start this one with another --node name"
        )
        state.emit(RefuseNode(event.node, event.instance, error))
        return
    if node is None:
        node = Node(event.node, event.instance, NodeState.READY, event.capacity)
        state.nodes[event.node] = node
    node.instance = event.instance
    node.capacity = event.capacity
    node.hostname = event.hostname
    node.arch, node.os = event.arch, event.os
    node.addresses = tuple(event.addresses)
    node.labels = event.labels
    node.isolation = event.isolation
    node.state = NodeState.READY
    node.connected = True
    node.renewed = now
    state.touch_node(node.name)
    state.deadlines.clear(("forget", node.name))
    state.deadlines.set(("lease", node.name), now + LEASE)
    theirs = dict(event.executors)
    for executor in list(node.executors.values()):
        known = theirs.get(executor.id)
        if known is not None:
            executor.process = known
            if executor.state is ExecutorState.RELEASING:
                # The order may have been lost with the channel.
                state.emit(StopExecutor(node.name, executor.id, known, STOP_GRACE))
        elif executor.process:
            lose(state, executor, None, Loss(Cause.NODE_LOST, "its node no longer has it"), now)
    for executor_id, incarnation in event.executors:
        if executor_id not in node.executors:
            state.emit(StopExecutor(node.name, executor_id, incarnation, 0.0))
    state.replan = True


def on_renewed(state: State, event: NodeRenewed, now: float) -> None:
    """The node is alive."""
    node = state.nodes.get(event.node)
    if node is None:
        return
    if not node.connected:
        # It was silent for longer than its lease, on a channel that lives: it must start over.
        error = WrongState(f"the lease of node {event.node!r} has ended; register again")
        state.emit(RefuseNode(node.name, node.instance, error))
        return
    node.renewed = now
    state.deadlines.set(("lease", node.name), now + LEASE)


def on_node_disconnected(state: State, event: NodeDisconnected, now: float) -> None:
    """The node's channel broke: its executors keep their tasks for a short while."""
    node = state.nodes.get(event.node)
    if node is None or node.instance != event.instance or not node.connected:
        return
    node.connected = False
    node.state = NodeState.UNKNOWN
    state.touch_node(node.name)
    state.deadlines.set(("lease", node.name), now + DISCONNECT_GRACE)
    state.replan = True


def on_node_left(state: State, event: NodeLeft, now: float) -> None:
    """The node goes on purpose, after stopping its executors."""
    node = state.nodes.get(event.node)
    if node is not None:
        _lose_executors(state, node, Loss(Cause.STOPPED, "its node left"), now)
        forget(state, node.name)


def lease_ended(state: State, name: NodeName, now: float) -> None:
    """Nothing was heard in time: the node's executors are lost."""
    node = state.nodes.get(name)
    if node is None:
        return
    silence = (
        "its node's channel broke and did not come back"
        if not node.connected
        else (f"its node was silent for {LEASE:.0f} s")
    )
    node.connected = False
    node.state = NodeState.NOT_READY
    state.touch_node(name)
    _lose_executors(state, node, Loss(Cause.NODE_LOST, silence), now)
    state.deadlines.set(("forget", name), now + FORGET_AFTER)


def forget(state: State, name: NodeName) -> None:
    """Drop a node that is gone."""
    state.nodes.pop(name, None)
    state.touch_node(name)
    state.deadlines.clear(("lease", name))
    state.deadlines.clear(("forget", name))
    state.replan = True


def _lose_executors(state: State, node: Node, loss: Loss, now: float) -> None:
    for executor in list(node.executors.values()):
        lose(state, executor, None, loss, now)
