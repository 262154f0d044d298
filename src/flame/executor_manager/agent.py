"""The node channel, as its executor manager speaks it.

    register ─▶ registered ─▶ start, stop ... / exited ...      renew every few seconds

The session manager gives the node a lease, which ``renew`` extends for the node and all its
executors at once. A broken stream is opened again, for ever; its ``register`` says which executors
are here, and ends that the session manager has not confirmed are reported again.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from flame.executor_manager.capacity import node_info, own_address
from flame.executor_manager.packages.preparation import Key, Report
from flame.executor_manager.streams import NotLetIn, reason_of_end
from flame.executor_manager.supervisor import Supervisor
from flame.model.errors import FlameError, Unauthenticated
from flame.model.labels import Labels
from flame.model.resources import Resources
from flame.runtime.backoff import Backoff
from flame.runtime.tasks import Tasks
from flame.wire import frames, v1
from flame.wire.channels import Endpoint, bearer
from flame.wire.codec import labels_to, resources_to
from flame.wire.managers import CEILING_AMONG_SEVERAL, HELLO_AMONG_SEVERAL, Managers
from flame.wire.status import error_of_refusal, raise_status

log = logging.getLogger(__name__)

REGISTER_TIMEOUT = 15.0  # seconds for the answer
LEAVE_TIMEOUT = 2.0  # seconds to say goodbye
SILENT_HEARTBEATS = 3

Call = Any  # grpc.aio.StreamStreamCall[NodeFrame, NodeOrder], generic only in its stubs


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is and how it reaches the session managers."""

    name: str
    capacity: Resources
    endpoints: tuple[Endpoint, ...]
    token: str | None
    ca_file: str | None
    labels: Labels = ()
    gpu_ids: tuple[str, ...] = ()


class NodeAgent:
    """Keeps the node registered and passes orders to the supervisor.

    Args:
        on_registered: Called after each registration.
        isolation: What limits and contains executors here, for people.
    """

    def __init__(
        self,
        identity: Identity,
        supervisor: Supervisor,
        on_registered: Callable[[], None],
        isolation: str,
    ) -> None:
        self._identity = identity
        self._supervisor = supervisor
        self._on_registered = on_registered
        self._isolation = isolation
        self._instance = secrets.token_bytes(16)
        self._outgoing: deque[frames.NodeFrame] = deque()
        self._awake = asyncio.Event()
        self._written = asyncio.Event()
        self._registered = False
        self._ever_registered = False
        self._last_received = 0.0
        # Ends that were ordered: confirmed once a renewal sent after their report is answered.
        self._ordered: set[Key] = set()
        self._unanswered: deque[set[Key]] = deque()

    async def run(self) -> None:
        """Stay registered until cancelled.

        Raises:
            Unauthenticated: The very first registration was refused for its credential; later the
                session manager may only be restarting with another, so we keep trying.
            FlameError: The session manager refused the node and ended the conversation.
        """
        last_reason = ""
        async with Managers(self._identity.endpoints, ca_file=self._identity.ca_file) as managers:
            backoff = Backoff(ceiling=CEILING_AMONG_SEVERAL) if managers.several else Backoff()
            while True:
                endpoint = managers.current
                connect = managers.channels[endpoint].stream_stream(
                    frames.NODE_CHANNEL,
                    request_serializer=frames.NodeFrame.SerializeToString,
                    response_deserializer=frames.NodeOrder.FromString,
                )
                call = connect(metadata=bearer(self._identity.token))
                try:
                    conversation = self._converse(call, managers, backoff)
                    reason = await reason_of_end(conversation, managers, endpoint)
                except NotLetIn as refused:
                    if not self._ever_registered:
                        raise refused.error from None
                    reason = str(refused)
                finally:
                    self._registered = False
                    call.cancel()
                await managers.reopen_unless_connected(endpoint)
                delay = backoff.next_delay() if managers.failed(endpoint) else 0.0
                # A manager that is away for an hour is one line, not thousands.
                level = logging.DEBUG if reason == last_reason else logging.WARNING
                last_reason = reason
                log.log(
                    level,
                    "disconnected endpoint=%s reason=%r retry_in=%.2f",
                    endpoint,
                    reason,
                    delay,
                )
                await asyncio.sleep(delay)

    def exited(self, report: frames.ExecutorExited) -> None:
        """Report an end. Without a stream it waits in the supervisor for the next one."""
        if self._registered:
            self._tell(frames.NodeFrame(exited=report))

    def delayed(self, key: Key, seconds: float) -> None:
        """Say that an executor's process starts only within so many seconds; 0: now."""
        if self._registered:
            self._tell(
                frames.NodeFrame(
                    start_delayed=frames.StartDelayed(
                        executor=key[0], incarnation=key[1], seconds=round(seconds)
                    )
                )
            )

    def package(self, report: Report) -> None:
        """Say how far a package is."""
        if self._registered:
            self._tell(
                frames.NodeFrame(
                    package=frames.PackageState(
                        tenant=report.wanted.tenant,
                        application=report.wanted.application,
                        url=report.wanted.url,
                        state=report.state,
                        message=report.message,
                        log=report.log,
                        since_ms=int(report.since * 1000),
                    )
                )
            )

    async def leave(self) -> None:
        """Say that the node goes away on purpose, if anybody listens."""
        if not self._registered:
            return
        self._written.clear()
        self._tell(frames.NodeFrame(leaving=frames.Leaving()))
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._written.wait()
        except TimeoutError:
            log.warning("leave-unsent timeout=%s", LEAVE_TIMEOUT)

    async def _converse(self, call: Call, managers: Managers, backoff: Backoff) -> str:
        self._outgoing.clear()
        self._unanswered.clear()
        async with asyncio.timeout(HELLO_AMONG_SEVERAL if managers.several else REGISTER_TIMEOUT):
            await call.write(self._register(managers.current))
            first = await call.read()
        if first is grpc.aio.EOF:
            await raise_status(call)
            return "the session manager ended the stream before its answer"
        if first.WhichOneof("frame") == "refusal":
            self._on_refusal(first.refusal)
            return f"{first.refusal.code}: {first.refusal.message}"
        if first.WhichOneof("frame") != "registered":
            return f"the first frame is {first.WhichOneof('frame')!r}; registered is due"
        backoff.reset()
        managers.found()
        registered = first.registered
        self._supervisor.leader.endpoint = managers.current
        self._supervisor.leader.framed = registered.framed
        self._registered = self._ever_registered = True
        self._last_received = asyncio.get_running_loop().time()
        log.info(
            "registered node=%s endpoint=%s epoch=%s lease=%ss",
            self._identity.name,
            managers.current,
            registered.epoch,
            registered.lease_seconds,
        )
        for report in self._supervisor.unconfirmed.values():
            self._tell(frames.NodeFrame(exited=report))
        for key in self._supervisor.preparing:
            self.delayed(key, self._supervisor.packages.timeout)
        for each in self._supervisor.packages.reports():
            self.package(each)
        self._on_registered()

        def broken(error: BaseException) -> None:
            log.error("stream-failed", exc_info=error)
            call.cancel()

        async with Tasks("node-channel", broken) as tasks:
            tasks.start(self._send(call), "send")
            tasks.start(self._renew(call, registered.heartbeat_seconds or 5), "renew")
            while True:
                order = await call.read()
                if order is grpc.aio.EOF:
                    await raise_status(call)
                    return "the session manager ended the stream"
                self._last_received = asyncio.get_running_loop().time()
                self._obey(order)

    def _register(self, to: Endpoint) -> frames.NodeFrame:
        return frames.NodeFrame(
            register=frames.Register(
                name=self._identity.name,
                instance=self._instance,
                capacity=resources_to(self._identity.capacity),
                info=node_info(),
                hostname=socket.gethostname(),
                addresses=[
                    v1.NodeAddress(type="InternalIP", address=own_address(to.host, to.port))
                ],
                labels=labels_to(self._identity.labels),
                isolation=self._isolation,
                executors=[
                    frames.RunningExecutor(executor=executor, incarnation=incarnation)
                    for executor, incarnation in self._supervisor.known()
                ],
            )
        )

    def _obey(self, order: frames.NodeOrder) -> None:
        match order.WhichOneof("frame"):
            case "start":
                self._supervisor.start_executor(order.start)
            case "stop":
                stop = order.stop
                key = (stop.executor, stop.incarnation)
                if key in self._supervisor.known() and key not in self._supervisor.unconfirmed:
                    self._ordered.add(key)
                self._supervisor.stop_executor(*key, stop.grace_ms / 1000)
            case "renewed":
                self._on_renewed()
            case "retry_package":
                retry = order.retry_package
                self._supervisor.packages.retry(retry.tenant, retry.application, retry.shared)
            case "read_output":
                output = self._supervisor.read_output(order.read_output)
                self._tell(frames.NodeFrame(output=output))
            case "refusal":
                self._on_refusal(order.refusal)
            case "registered":
                pass
            case other:
                log.warning("order-unknown frame=%s", other)  # of a newer session manager

    def _on_renewed(self) -> None:
        if not self._unanswered:
            return
        for key in self._unanswered.popleft():
            self._supervisor.unconfirmed.pop(key, None)
            self._ordered.discard(key)

    def _on_refusal(self, refusal: frames.Refusal) -> None:
        error: FlameError = error_of_refusal(refusal)
        log.error("refused code=%s message=%r", refusal.code, refusal.message)
        if refusal.closing and (isinstance(error, Unauthenticated) or not self._ever_registered):
            raise error

    def _tell(self, frame: frames.NodeFrame) -> None:
        self._outgoing.append(frame)
        self._awake.set()

    async def _send(self, call: Call) -> None:
        try:
            while True:
                self._awake.clear()
                while self._outgoing:
                    await call.write(self._outgoing.popleft())
                self._written.set()
                await self._awake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the stream ended; whoever reads from it says why

    async def _renew(self, call: Call, heartbeat: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(heartbeat)
            if loop.time() - self._last_received > heartbeat * SILENT_HEARTBEATS:
                log.warning("session-manager-silent")
                call.cancel()
                return
            self._unanswered.append(self._ordered & self._supervisor.unconfirmed.keys())
            self._tell(frames.NodeFrame(renew=frames.Renew()))


def default_name() -> str:
    """Return a node name for this machine and process."""
    return f"{socket.gethostname()}-{os.getpid()}"
