"""The node channel: executor managers register their node and start and stop executors."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flame.core import effects, events
from flame.core.node import LEASE
from flame.model.errors import FlameError, InvalidRequest
from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, TaskId, Tenant, check_name
from flame.session_manager.access import executor_credential
from flame.session_manager.stream import SILENCE, Stream, channel_handler
from flame.wire import codec, frames
from flame.wire.frames import NodeFrame, NodeOrder
from flame.wire.status import refusal_of

if TYPE_CHECKING:
    from flame.session_manager.shell import Shell

log = logging.getLogger(__name__)


class NodeChannels:
    """All nodes' streams."""

    def __init__(self, shell: "Shell", token: str) -> None:
        self._shell = shell
        self._token = token
        self._streams: dict[NodeName, _Node] = {}
        self._alive: set[_Node] = set()

    def handler(self) -> Any:
        """Return the generic rpc handler of this channel."""
        return channel_handler(frames.NODE_CHANNEL, self._connect, NodeFrame, NodeOrder)

    def retry_package(self, tenant: Tenant, application: str) -> None:
        """Tell all nodes that an application was registered or changed."""
        shared = tenant == DEFAULT_TENANT
        order = frames.RetryPackage(tenant=tenant, application=application, shared=shared)
        for node in self._streams.values():
            node.stream.put(NodeOrder(retry_package=order))

    def performs(self) -> dict[type, Callable[[Any], None]]:
        """Return which effects this channel performs."""
        return {
            effects.StartExecutor: self._start,
            effects.StopExecutor: self._stop,
            effects.RefuseNode: self._refuse,
        }

    def beat(self, now: float) -> None:
        """End streams whose peer is silent; heartbeats are the node's to send."""
        for node in list(self._streams.values()):
            if now - node.stream.last_heard > SILENCE:
                log.info("node-silent node=%s", node.name)
                node.stream.cancel()

    def greet(self, node: "_Node") -> None:
        """Make this the node's stream, unless the core refuses it while an older one lives."""
        older = self._streams.get(node.name)
        if older is None or older.instance == node.instance:
            if older is not None:
                older.stream.cancel()
            self._streams[node.name] = node

    async def _connect(self, _requests: Any, context: Any) -> None:
        node = _Node(self._shell, self, context)
        self._alive.add(node)
        try:
            await node.stream.run()
        finally:
            self._alive.discard(node)
            if self._streams.get(node.name) is node:
                del self._streams[node.name]
                self._shell.package_states.forget(node.name)
                self._shell.post(events.NodeDisconnected(node.name, node.instance))

    # --- effects ---------------------------------------------------------------------------------

    def put(self, name: NodeName, order: NodeOrder) -> bool:
        """Send a node an order; returns whether it is connected."""
        # Without a stream the node will say which executors it has when it is back.
        node = self._streams.get(name)
        if node is not None:
            node.stream.put(order)
        return node is not None

    def names(self) -> list[NodeName]:
        """Return which nodes are connected."""
        return list(self._streams)

    def _start(self, effect: effects.StartExecutor) -> None:
        credential = executor_credential(self._token, effect.executor, effect.incarnation)
        order = frames.StartExecutor(
            executor=effect.executor,
            incarnation=effect.incarnation,
            application_name=effect.application_name,
            application=codec.application_spec_to(effect.application),
            resources=codec.resources_to(effect.resources),
            credential=credential,
            tenant=effect.tenant,
        )
        self.put(effect.node, NodeOrder(start=order))

    def _stop(self, effect: effects.StopExecutor) -> None:
        order = frames.StopExecutor(
            executor=effect.executor,
            incarnation=effect.incarnation,
            grace_ms=int(effect.grace * 1000),
        )
        self.put(effect.node, NodeOrder(stop=order))

    def _refuse(self, effect: effects.RefuseNode) -> None:
        for node in self._alive:
            if node.name == effect.node and node.instance == effect.instance:
                node.stream.close(effect.error)


class _Node:
    """One executor manager's stream."""

    def __init__(self, shell: "Shell", channels: NodeChannels, context: Any) -> None:
        self._shell = shell
        self._channels = channels
        self.name = NodeName("")
        self.instance = b""
        self.stream = Stream(context, self._receive, list, _refusal)

    def _receive(self, frame: NodeFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "register":
            self._register(frame.register)
            return
        if not self.name:
            raise InvalidRequest("the first frame of a stream must be a register")
        if kind == "renew":
            self._shell.post(events.NodeRenewed(self.name))
            self.stream.put(NodeOrder(renewed=frames.Renewed()))
        elif kind == "exited":
            exited = frame.exited
            self._shell.post(
                events.ExecutorExited(
                    self.name,
                    ExecutorId(exited.executor),
                    exited.incarnation,
                    TaskId(exited.task_id),
                    exited.attempt,
                    exited.cause,
                    exited.detail,
                    exited.pid,
                    exited.exit_code,
                    exited.signal,
                    (exited.stdout, exited.stderr),
                )
            )
        elif kind == "output":
            self._shell.outputs.answered(frame.output)
        elif kind == "package":
            self._shell.package_states.put(self.name, frame.package)
        elif kind == "start_delayed":
            delayed = frame.start_delayed
            executor = ExecutorId(delayed.executor)
            self._shell.post(events.StartDelayed(executor, delayed.incarnation, delayed.seconds))
        elif kind == "leaving":
            self._shell.post(events.NodeLeft(self.name))
        else:
            raise InvalidRequest("a frame arrived that says nothing this manager knows")

    def _register(self, register: frames.Register) -> None:
        if self.name:
            raise InvalidRequest("a second register arrived on one stream")
        check_name(register.name, "node")
        if len(register.instance) != 16:
            raise InvalidRequest("register: instance must have 16 bytes")
        self.name = NodeName(register.name)
        self.instance = register.instance
        self._channels.greet(self)
        self.stream.put(
            NodeOrder(
                registered=frames.Registered(
                    epoch=self._shell.epoch,
                    heartbeat_seconds=int(self._shell.heartbeat),
                    lease_seconds=int(LEASE),
                    framed=self._shell.framed,
                )
            )
        )
        self._shell.post(
            events.NodeConnected(
                self.name,
                self.instance,
                codec.resources_of(register.capacity, "capacity"),
                [(ExecutorId(e.executor), e.incarnation) for e in register.executors],
                register.hostname,
                register.info.arch,
                register.info.os,
                [(a.type, a.address) for a in register.addresses],
                codec.labels_of(register.labels, "labels"),
                register.isolation,
            )
        )


def _refusal(error: FlameError) -> NodeOrder:
    return NodeOrder(refusal=refusal_of(error, closing=True))
