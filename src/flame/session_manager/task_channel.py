"""The task channel: one stream per client process carries all of its sessions.

A frame that makes no sense ends the stream with a refusal; an error about one session or one batch is
a frame in the stream, which goes on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flame.core import effects, events
from flame.core.effects import AttachedView
from flame.core.events import AttachmentId
from flame.model.errors import (
    FlameError,
    InvalidRequest,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from flame.model.ids import TaskId
from flame.session_manager.access import Caller, caller_of
from flame.session_manager.channel_calls import ChannelCalls
from flame.session_manager.framed_port import decoder
from flame.session_manager.framed_stream import FramedStream
from flame.session_manager.serving import refuse
from flame.session_manager.stream import SILENCE, Stream, channel_handler
from flame.session_manager.task_frames import OutcomeItem, build, limits_of, notes_of
from flame.wire import batches, frames
from flame.wire.frames import ClientFrame, ManagerFrame
from flame.wire.status import refusal_of

if TYPE_CHECKING:
    from flame.session_manager.shell import Shell

log = logging.getLogger(__name__)

#: Seconds that an acknowledgement may wait for outcomes to travel with.
ACCEPTED_WITHIN = 0.002


class TaskChannels:
    """All clients' streams.

    Attributes:
        calls: Answers the calls that come over them; None: nobody does.
    """

    def __init__(self, shell: "Shell") -> None:
        self.calls: ChannelCalls | None = None
        self._shell = shell
        self._next_attachment = 1
        self._attached: dict[AttachmentId, tuple[_Client, int]] = {}
        self._clients: set[_Client] = set()

    def handler(self) -> Any:
        """Return the generic rpc handler of this channel."""
        return channel_handler(frames.TASK_CHANNEL, self._connect, ClientFrame, ManagerFrame)

    def performs(self) -> dict[type, Callable[[Any], None]]:
        """Return which effects this channel performs."""
        return {
            effects.Accepted: self._accepted,
            effects.SubmitRefused: self._submit_refused,
            effects.GrantSubmits: self._grant,
            effects.SendOutcomes: self._outcomes,
            effects.SendSessionClosed: self._closed,
            effects.TokenRevoked: self._revoked,
        }

    def beat(self, now: float) -> None:
        """Send a heartbeat where nothing was sent; end streams whose peer is silent."""
        for client in list(self._clients):
            client.beat(now)

    def attach(self, client: "_Client", alias: int) -> AttachmentId:
        """Return a new attachment's id."""
        attachment = self._next_attachment
        self._next_attachment += 1
        self._attached[attachment] = (client, alias)
        return attachment

    def detach(self, attachment: AttachmentId) -> None:
        """Forget an attachment."""
        if self._attached.pop(attachment, None) is not None:
            self._shell.post(events.Detach(attachment))

    def forget(self, attachment: AttachmentId) -> None:
        """The core refused the attachment."""
        self._attached.pop(attachment, None)

    def cut_off(self, attachment: AttachmentId, error: Exception) -> None:
        """End the stream of a client that would wait for outcomes in vain; it comes back for them."""
        known = self._attached.get(attachment)
        if known is not None:
            known[0].stream.close(Unavailable(f"the store cannot be read: {error}"))

    async def _connect(self, _requests: Any, context: Any) -> None:
        try:
            self._check_room()
        except ResourceExhausted as error:
            # A client whose hello is on its way when the status arrives may see an error of its own
            # transport instead.
            await context.read()
            await refuse(context, error)
        client = _Client(self._shell, self, caller_of(context))
        stream = Stream(context, client.receive, build, _refusal)
        client.stream = stream
        self._clients.add(client)
        try:
            await stream.run()
        finally:
            self._gone(client)

    def _check_room(self) -> None:
        most = self._shell.limits.max_connections
        if most is not None and len(self._clients) >= most:
            raise ResourceExhausted(
                f"{len(self._clients)} clients are connected, as many as may be (max_connections); "
                "try again when some have gone"
            )

    def refusal(self, error: FlameError) -> ManagerFrame:
        """Return the frame that tells a client of an error."""
        return _refusal(error)

    def accept(self, caller: Caller, stream: FramedStream) -> None:
        """Take a client's framed stream.

        Raises:
            ResourceExhausted: There are too many clients.
        """
        self._check_room()
        client = _Client(self._shell, self, caller)
        client.stream = stream
        self._clients.add(client)
        stream.serve(
            decoder(ClientFrame, client.receive), lambda: self._gone(client), build, _refusal
        )

    def _gone(self, client: "_Client") -> None:
        self._clients.discard(client)
        client.leave()

    # --- effects ---------------------------------------------------------------------------------

    def _accepted(self, effect: effects.Accepted) -> None:
        client, alias = self._attached[effect.attachment]
        client.stream.put_later(
            frames.Accepted(
                alias=alias,
                first_number=effect.first_number,
                count=effect.count,
                first_task_id=effect.first_id,
                credit=effect.credit,
            ),
            ACCEPTED_WITHIN,
        )

    def _submit_refused(self, effect: effects.SubmitRefused) -> None:
        known = self._attached.get(effect.attachment)
        if known is None:
            return
        client, alias = known
        client.stream.put(
            ManagerFrame(
                submit_refused=frames.SubmitRefused(
                    alias=alias,
                    first_number=effect.first_number,
                    count=effect.count,
                    refusal=refusal_of(effect.error),
                )
            )
        )

    def _grant(self, effect: effects.GrantSubmits) -> None:
        client, alias = self._attached[effect.attachment]
        client.stream.put(
            ManagerFrame(submit_credit=frames.SubmitCredit(alias=alias, bytes=effect.credit))
        )

    def _outcomes(self, effect: effects.SendOutcomes) -> None:
        client, alias = self._attached[effect.attachment]
        client.stream.put_paid(
            OutcomeItem(alias, effect.position, effect.task_ids, effect.outputs, effect.failures)
        )

    def _closed(self, effect: effects.SendSessionClosed) -> None:
        client, alias = self._attached[effect.attachment]
        client.stream.put(ManagerFrame(session_closed=frames.SessionClosed(alias=alias)))

    def _revoked(self, effect: effects.TokenRevoked) -> None:
        error = Unauthenticated("the token that this client came with was revoked")
        for client in self._clients:
            if client.token == effect.token:
                client.stream.close(error)


class _Client:
    """One client process's stream."""

    stream: Stream | FramedStream

    def __init__(self, shell: "Shell", channels: TaskChannels, caller: Caller) -> None:
        self._shell = shell
        self._channels = channels
        self._caller = caller
        self.token = caller.token
        self._name = ""
        self._greeted = False
        self._aliases: dict[int, AttachmentId] = {}
        self._calls = 0  # under way

    def beat(self, now: float) -> None:
        """Keep the peer informed, or notice that it is gone."""
        if now - self.stream.last_heard > SILENCE:
            log.info("client-silent client=%s", self._name)
            self.stream.cancel()
        elif now - self.stream.last_sent >= self._shell.heartbeat - 1.0:
            self.stream.put(ManagerFrame(heartbeat=frames.Heartbeat()))

    def leave(self) -> None:
        """The stream has ended."""
        for attachment in self._aliases.values():
            self._channels.detach(attachment)
        self._aliases.clear()

    def receive(self, frame: ClientFrame) -> None:
        """Take one frame."""
        kind = frame.WhichOneof("frame")
        if kind == "submit":
            self._submit(frame.submit)
        elif kind == "credit":
            grant = frame.credit
            attachment = self._attachment(grant.alias)
            self._shell.post(events.GrantOutcomes(attachment, grant.position, grant.bytes))
        elif kind == "hello":
            self._hello(frame.hello)
        elif kind == "attach":
            self._attach(frame.attach)
        elif kind == "cancel":
            cancel = frame.cancel
            reply = _CancelReply(self, cancel.alias, cancel.request)
            ids = [TaskId(i) for i in cancel.task_ids]
            self._shell.post(events.CancelTasks(self._attachment(cancel.alias), ids, reply))
        elif kind == "call":
            self._call(frame.call)
        elif kind == "detach":
            attachment = self._attachment(frame.detach.alias)
            del self._aliases[frame.detach.alias]
            self._channels.detach(attachment)
        elif kind != "heartbeat":
            raise InvalidRequest("a frame arrived that says nothing this manager knows")

    def _attachment(self, alias: int) -> AttachmentId:
        attachment = self._aliases.get(alias)
        if attachment is None:
            raise InvalidRequest(f"no session is attached as {alias}; attach it first")
        return attachment

    def _submit(self, submit: frames.Submit) -> None:
        if not submit.inputs:
            raise InvalidRequest("a submit without inputs arrived; send at least one")
        attachment = self._attachment(submit.alias)
        inputs = batches.unpack(submit.inputs, submit.absent)
        limits = limits_of(submit) if submit.limited else None
        notes = notes_of(submit) if submit.noted else None
        event = events.SubmitTasks(attachment, submit.first_number, inputs, limits, notes)
        self._shell.post(event, pump=self._shell.pump_soon)

    def _call(self, call: frames.Call) -> None:
        calls = self._channels.calls
        if calls is None:
            raise InvalidRequest("this manager takes no calls on a task channel; make them by gRPC")
        if self._calls >= frames.CALLS_AT_ONCE:
            raise InvalidRequest(
                f"{self._calls} calls are under way on this stream, as many as may be; "
                "wait for an answer first"
            )
        self._calls += 1
        calls.begin(call, self._caller, self._answered)

    def _answered(self, answer: frames.Answer) -> None:
        self._calls -= 1
        self.stream.put(ManagerFrame(answer=answer))

    def _hello(self, hello: frames.ClientHello) -> None:
        if self._greeted:
            raise InvalidRequest("a second hello arrived on one stream")
        self._greeted = True
        self._name = hello.client[:200]
        self.stream.put(
            ManagerFrame(
                hello=frames.ManagerHello(
                    epoch=self._shell.epoch,
                    heartbeat_seconds=int(self._shell.heartbeat),
                    max_input_bytes=self._shell.limits.max_input_bytes,
                    framed=self._shell.framed,
                    calls=self._channels.calls is not None,
                )
            )
        )

    def _attach(self, attach: frames.Attach) -> None:
        if not self._greeted:
            raise InvalidRequest("the first frame of a stream must be a hello")
        if attach.alias in self._aliases:
            raise InvalidRequest(f"alias {attach.alias} is attached already on this stream")
        attachment = self._channels.attach(self, attach.alias)
        self._aliases[attach.alias] = attachment
        self._shell.post(
            events.Attach(
                attachment,
                self._caller.tenant,
                attach.session,
                attach.submitter,
                attach.subscribe,
                attach.position,
                attach.outcome_credit,
                _AttachReply(self, attach.alias),
                attach.own,
            )
        )

    def attached(self, alias: int, view: AttachedView) -> None:
        """Tell the client that it may go on."""
        self.stream.put(
            ManagerFrame(
                attached=frames.Attached(
                    alias=alias,
                    number=view.number,
                    submitted=view.submitted,
                    submit_credit=view.submit_credit,
                    closed=view.closed,
                    log_end=view.log_end,
                )
            )
        )

    def attach_refused(self, alias: int, error: FlameError) -> None:
        """Tell the client why not."""
        attachment = self._aliases.pop(alias, None)
        if attachment is not None:
            self._channels.forget(attachment)
        self.stream.put(
            ManagerFrame(
                attach_refused=frames.AttachRefused(alias=alias, refusal=refusal_of(error))
            )
        )


@dataclass(slots=True)
class _AttachReply:
    client: _Client
    alias: int

    def answer(self, view: AttachedView) -> None:
        self.client.attached(self.alias, view)

    def refuse(self, error: FlameError) -> None:
        self.client.attach_refused(self.alias, error)


@dataclass(slots=True)
class _CancelReply:
    client: _Client
    alias: int
    request: int

    def answer(self, view: Any) -> None:
        done = frames.CancelDone(alias=self.alias, request=self.request)
        self.client.stream.put(ManagerFrame(cancel_done=done))

    def refuse(self, error: FlameError) -> None:
        self.answer(None)  # nothing is attached any more: nothing of it can run


def _refusal(error: FlameError) -> ManagerFrame:
    return ManagerFrame(refusal=refusal_of(error, closing=not isinstance(error, Unavailable)))
