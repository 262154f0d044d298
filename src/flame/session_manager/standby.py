"""One of several session managers on one store: it stands by, leads, and may stand by again.

    standing by ──the lease is free──▶ leading ──lease lost, database away──▶ standing by ...

A standby has its port open, so that whoever comes is told at once that it does not lead, and who does.
One that has lost its lease drops every connection and starts over with empty hands: nothing that it
remembers may reach anybody.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from flame.model.errors import NotLeading
from flame.session_manager.serving import Context, refuse
from flame.session_manager.stream import HEARTBEAT
from flame.wire.channels import Endpoint

#: What is Flame's own; health and reflection are answered by every session manager.
_OURS = "/flame."


class Duty(grpc.GenericRpcHandler):
    """What a session manager answers that may lead or not.

    Attributes:
        leader: Who leads, as far as is known; empty: nobody.
    """

    def __init__(self) -> None:
        self.leader = ""
        self._handlers: Sequence[Any] = ()
        self._leads: Callable[[], bool] = _never
        # Streaming both ways suits every method.
        self._refusal: Any = grpc.stream_stream_rpc_method_handler(self._refuse)

    def lead(self, handlers: Sequence[Any], leads: Callable[[], bool]) -> None:
        """Answer calls with these from now on, for as long as ``leads`` says so."""
        self._handlers, self._leads = handlers, leads

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.startswith(_OURS):
            return None
        if not self._leads():
            return self._refusal
        for each in self._handlers:
            handler = each.service(handler_call_details)
            if handler is not None:
                return handler
        return None

    async def _refuse(self, _requests: Any, context: Context) -> None:
        # A client whose first message is on its way when the status arrives may see an error of its
        # own transport instead.
        await context.read()
        await refuse(context, NotLeading(self.sentence()))

    def sentence(self) -> str:
        """Say who leads instead."""
        if self.leader:
            return f"this session manager stands by; {self.leader} leads"
        return "this session manager stands by, and does not know of one that leads"


def advertised(listening: Endpoint, advertise: str | None, hostname: str) -> str:
    """Return the address that others name to clients."""
    if advertise is not None:
        return str(Endpoint.parse(advertise))
    if listening.host in ("0.0.0.0", "::"):
        return str(Endpoint(hostname, listening.port, listening.tls))
    return str(listening)


def heartbeat_for(lease_seconds: float) -> float:
    """Return the heartbeat by which peers notice a stopped leader about when its lease ends."""
    return float(max(1, min(HEARTBEAT, round(lease_seconds / 3))))


def _never() -> bool:
    return False
