"""The task channel of one client: one bidirectional stream that carries all its sessions.

    ┌────────┐ hello ┌───────────┐  silence, error, end   ┌────────┐
    │ connect│──────▶│ connected │───────────────────────▶│ back off│──▶ connect ...
    └────────┘       └───────────┘                        └────────┘

A reader takes what comes; a writer sends, in turn for each session, whatever has piled up while the
previous frame was on its way. What must not be lost is not here but in the session streams, which
tell a new connection what to send again. Everything runs on the I/O thread except :meth:`wake`.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
import grpc.aio

from flame.model.errors import (
    FlameError,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from flame.runtime.backoff import Backoff
from flame.runtime.framed_call import FramedCall, deliver
from flame.sdk.channel_calls import ChannelCalls
from flame.sdk.configuration import Credential
from flame.sdk.frontend import backoff_among
from flame.sdk.outage import Outage
from flame.sdk.session_stream import SessionStream, State
from flame.wire import frames
from flame.wire.channels import Endpoint
from flame.wire.framed import client_tls, framed_hello
from flame.wire.managers import HELLO_AMONG_SEVERAL, Managers
from flame.wire.status import error_of, error_of_refusal

_log = logging.getLogger(__name__)

FRAMED_TIMEOUT = 1.0  # seconds to connect without gRPC before its stream is kept
HELLO_TIMEOUT = 10.0  # seconds that a manager may take to answer a new stream
DEFAULT_HEARTBEAT = 5  # seconds, of a manager that does not say
SILENCE = 3  # heartbeats without a word, and the manager is gone

#: What one message from the manager may be; it says itself how large its answers get.
RECEIVE_LIMIT = 1024 * 1024 * 1024

#: The session manager lets us in never, rather than later.
_FINAL = (Unauthenticated, PermissionDenied)


class _Silent(Unavailable):
    """The session manager has a connection and says nothing."""


class TaskChannel:
    """Keeps one stream to the session manager that leads, and the session streams on it going.

    Attributes:
        hello: What the manager said on the newest connection; None before the first.
        outage: While there is none.
        calls: The calls that travel on it.
    """

    def __init__(self, managers: Managers, credential: Credential) -> None:
        """Prepare it on the running loop; :meth:`start` connects."""
        self._loop = asyncio.get_running_loop()
        self._managers = managers
        self.outage = Outage(self._loop, managers)
        self._metadata = credential.metadata
        self._only_grpc: set[Endpoint] = set()
        self.hello: frames.ManagerHello | None = None
        self._first_hello: asyncio.Future[frames.ManagerHello] = self._loop.create_future()
        self._last_error: FlameError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._streams: dict[SessionStream, None] = {}  # in the order they came
        self._active: dict[SessionStream, None] = {}  # those that may have something to send
        self._by_alias: dict[int, SessionStream] = {}
        self._next_alias = 1
        self._attaching: set[int] = set()  # aliases whose Attach has no answer yet
        self._left: list[int] = []  # aliases that the manager can forget
        self._ready = asyncio.Event()  # the writer has something to look at
        self.calls = ChannelCalls(self._ready)
        self._heard = False
        self._spoke = False
        self._beat_due = False
        self._handlers: dict[str, Callable[[Any], None]] = {
            "accepted": self._on_accepted,
            "outcomes": self._on_outcomes,
            "submit_credit": self._on_submit_credit,
            "attached": self._on_attached,
            "attach_refused": self._on_attach_refused,
            "submit_refused": self._on_submit_refused,
            "session_closed": self._on_session_closed,
            "cancel_done": self._on_cancel_done,
            "answer": self.calls.answered,
            "refusal": self._on_refusal,
            "heartbeat": lambda _frame: None,
        }

    def start(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        self._keeper = self._loop.create_task(self._keep(), name="flame-task-channel")

    async def wait_connected(self, timeout: float) -> frames.ManagerHello:
        """Return the manager's first hello.

        Raises:
            Unauthenticated, PermissionDenied: It does not let us in.
            Unavailable: Nobody answered in ``timeout`` seconds.
        """
        try:
            return await asyncio.wait_for(asyncio.shield(self._first_hello), timeout)
        except TimeoutError:
            reason = f" ({self._last_error})" if self._last_error is not None else ""
            raise Unavailable(
                f"no session manager answered at {self._managers} within {timeout:g} s{reason}; "
                "check the address, and that it is running there"
            ) from None

    async def close(self) -> None:
        """End the stream and whatever still waits on it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.outage.forget()
        if not self._first_hello.done():
            self._first_hello.cancel()

    # --- sessions -------------------------------------------------------------------------------

    def add(self, stream: SessionStream) -> None:
        """Carry a session; it attaches once it wants to."""
        self._streams[stream] = None
        self.poke(stream)

    def remove(self, stream: SessionStream) -> None:
        """Carry a session no longer; its stream has ended or nobody wants its outcomes."""
        self._streams.pop(stream, None)
        self._active.pop(stream, None)
        if stream.alias in self._attaching:
            return  # the manager may not know the alias; its answer says
        if self._by_alias.pop(stream.alias, None) is not None:
            self._detach(stream.alias)

    def _detach(self, alias: int) -> None:
        self._left.append(alias)
        self._ready.set()

    def wake(self, stream: SessionStream) -> None:
        """Say that a stream has something to do. Any thread; call when ``awake`` was False."""
        stream.awake = True
        try:
            self._loop.call_soon_threadsafe(self._woken, stream)
        except RuntimeError:
            pass  # the process ends

    def _woken(self, stream: SessionStream) -> None:
        # First the flag, then the look into the pile: whoever appends after this wakes us again.
        stream.awake = False
        stream.want()
        if stream.error is not None:
            stream.next_frame()  # refuses what piled up meanwhile, connected or not
        self.poke(stream)

    def poke(self, stream: SessionStream) -> None:
        """Look at what a stream may have to send."""
        self._active[stream] = None
        self._ready.set()

    # --- the connection -------------------------------------------------------------------------

    async def _keep(self) -> None:
        backoff = backoff_among(self._managers)
        while True:
            endpoint = self._managers.current
            connect = self._managers.channels[endpoint].stream_stream(
                frames.TASK_CHANNEL,
                request_serializer=frames.ClientFrame.SerializeToString,
                response_deserializer=frames.ManagerFrame.FromString,
            )
            call = connect(metadata=self._metadata)
            error: FlameError
            try:
                self.hello = hello = await self._greet(call)
                if not self._first_hello.done():
                    self._first_hello.set_result(hello)
                if hello.framed.port and endpoint not in self._only_grpc:
                    call = await self._without_grpc(call, endpoint, hello.framed)
                self._managers.found()
                self.outage.ends()
                await self._serve(call, backoff)
            except grpc.aio.AioRpcError as failure:
                error = error_of(
                    failure.code(), failure.details() or "", failure.trailing_metadata()
                )
            except _Silent as failure:
                error = failure
                await self._managers.reopen(endpoint)
            except FlameError as failure:
                error = failure
            except asyncio.InvalidStateError:
                error = Unavailable("the stream ended while a frame was being written")
            except Exception as failure:
                # A bug of ours must not leave every future waiting for ever in silence.
                _log.exception("task-channel-failed manager=%s", self._managers)
                error = FlameError(f"the task channel failed: {failure!r}")
            finally:
                call.cancel()
                self.calls.lost()
                self._by_alias.clear()
                self._attaching.clear()
                self._left.clear()
                for stream in self._streams:
                    stream.disconnected()
                self._active = dict.fromkeys(self._streams)
            self._last_error = error
            if isinstance(error, _FINAL):
                self._give_up(error)
                return
            await self._managers.reopen_unless_connected(endpoint)
            delay = backoff.next_delay() if self._managers.failed(endpoint) else 0.0
            if self._first_hello.done():
                self.outage.begins()
                _log.info(
                    "task-channel-lost manager=%s retry_in=%.2f error=%s",
                    self._managers, delay, error,
                )  # fmt: skip
            await asyncio.sleep(delay)

    def _give_up(self, error: FlameError) -> None:
        told = type(error)(
            f"{self._managers.current} does not let this client in: {error}. Give the cluster's token with "
            "connect(token=...) or FLAME_TOKEN, or its file with token_file=... or FLAME_TOKEN_FILE"
        )
        if not self._first_hello.done():
            self._first_hello.set_exception(told)
            self._first_hello.exception()  # whoever waits has it; nobody may wait
        for stream in list(self._streams):
            stream.end(told)

    async def _greet(self, call: Any) -> frames.ManagerHello:
        """Exchange hellos on a new stream."""
        patience = HELLO_AMONG_SEVERAL if self._managers.several else HELLO_TIMEOUT
        client = f"{os.path.basename(sys.argv[0]) or 'python'}[{os.getpid()}]"
        try:
            async with asyncio.timeout(patience):
                await call.write(frames.ClientFrame(hello=frames.ClientHello(client=client)))
                first = await call.read()
        except TimeoutError:
            raise _Silent(f"no hello within {patience:g} s") from None
        if first is grpc.aio.EOF:
            await _raise_status(call)
        if first.WhichOneof("frame") == "refusal":
            raise error_of_refusal(first.refusal)
        if first.WhichOneof("frame") != "hello":
            raise FlameError(
                f"{self._managers.current} did not begin with a hello; is it a session manager?"
            )
        hello: frames.ManagerHello = first.hello
        return hello

    async def _without_grpc(
        self, call: Any, endpoint: Endpoint, address: frames.FramedAddress
    ) -> Any:
        """Return a framed stream in the place of a call, or that call where there is no way."""
        port = address.port
        try:
            framed = await FramedCall.open(
                endpoint.host,
                port,
                address.local,
                client_tls(endpoint, self._managers.ca_file),
                frames.ManagerFrame.FromString,
                most_bytes=RECEIVE_LIMIT,
                timeout=FRAMED_TIMEOUT,
            )
        except OSError as error:
            _log.info("framed-port-unreachable port=%d error=%r", port, error)
            if isinstance(error, TimeoutError):
                self._only_grpc.add(endpoint)  # a firewall stays: do not wait for it every time
            return call
        usable = False
        try:
            await framed.write(framed_hello(frames.TASK_CHANNEL, self._metadata))
            await self._greet(framed)
            usable = True
        except (FlameError, asyncio.InvalidStateError) as error:
            _log.info("framed-port-unusable port=%d error=%r", port, error)
        finally:
            (call if usable else framed).cancel()
        return framed if usable else call

    async def _serve(self, call: Any, backoff: Backoff) -> NoReturn:
        """Speak the protocol on one stream until it ends, which is always an error."""
        backoff.reset()
        self._heard = self._spoke = True
        self._beat_due = False
        if self.hello is not None and self.hello.calls:
            self.calls.opened()
        self._ready.set()
        parts = [
            self._loop.create_task(part(call), name=f"flame-task-channel-{name}")
            for name, part in (("read", self._read), ("write", self._write), ("beat", self._beat))
        ]
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        for part in ended:
            if not part.cancelled() and (failure := part.exception()) is not None:
                raise failure
        await _raise_status(call)

    async def _read(self, call: Any) -> None:
        handlers = self._handlers

        def take(frame: frames.ManagerFrame) -> None:
            self._heard = True
            kind = frame.WhichOneof("frame")
            handler = handlers.get(kind) if kind is not None else None
            if handler is not None:  # otherwise a newer manager says something we need not know
                handler(getattr(frame, kind))

        await deliver(call, take)

    async def _write(self, call: Any) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            await self._write_calls(call)
            while self._active:
                # One frame for each session in turn, so that none waits for another's pile.
                turn, self._active = self._active, {}
                for stream in turn:
                    await self._write_next(call, stream)
                await self._write_calls(call)
            while self._left:
                detach = frames.Detach(alias=self._left.pop())
                await call.write(frames.ClientFrame(detach=detach))
            if self._beat_due:
                self._beat_due = False
                await self._say_something(call)

    async def _write_calls(self, call: Any) -> None:
        while (asked := self.calls.next_call()) is not None:
            self._spoke = True
            await call.write(frames.ClientFrame(call=asked))

    async def _write_next(self, call: Any, stream: SessionStream) -> None:
        if stream.state is State.WANTED:
            await self._attach(call, stream)
        frame = _frame_of(stream, stream.next_frame)
        if frame is not None:
            self._active[stream] = None
            self._spoke = True
            await call.write(frame)
        elif stream.state is State.WANTED:  # it starts over, as a new submitter
            self._active[stream] = None

    async def _attach(self, call: Any, stream: SessionStream) -> None:
        if self._by_alias.pop(stream.alias, None) is not None:
            detach = frames.Detach(alias=stream.alias)
            await call.write(frames.ClientFrame(detach=detach))
        alias, self._next_alias = self._next_alias, self._next_alias + 1
        frame = _frame_of(stream, lambda: stream.attach_frame(alias))
        if frame is not None:
            self._by_alias[alias] = stream
            self._attaching.add(alias)
            await call.write(frame)

    async def _say_something(self, call: Any) -> None:
        """Give back what outcome credit is left over; without any, just be heard."""
        for stream in list(self._streams):
            frame = stream.credit_frame()
            if frame is not None:
                self._spoke = True
                await call.write(frame)
        if not self._spoke:
            await call.write(frames.ClientFrame(heartbeat=frames.Heartbeat()))
        self._spoke = False

    async def _beat(self, call: Any) -> None:
        """Have something said when nothing else was, and notice a manager that is silent."""
        seconds = (self.hello.heartbeat_seconds if self.hello else 0) or DEFAULT_HEARTBEAT
        silent = 0
        while silent < SILENCE:
            await asyncio.sleep(seconds)
            silent = 0 if self._heard else silent + 1
            self._heard = False
            self._beat_due = True
            self._ready.set()
        raise _Silent(f"not a word from the session manager for {silent * seconds} s")

    # --- frames ---------------------------------------------------------------------------------

    def _on_attached(self, frame: frames.Attached) -> None:
        self._attaching.discard(frame.alias)
        stream = self._by_alias.get(frame.alias)
        if stream is not None and stream not in self._streams:  # nobody wants it any more
            del self._by_alias[frame.alias]
            self._detach(frame.alias)
        elif stream is not None:
            stream.attached(frame)
            self.poke(stream)

    def _on_attach_refused(self, frame: frames.AttachRefused) -> None:
        self._attaching.discard(frame.alias)
        stream = self._by_alias.pop(frame.alias, None)
        if stream is not None and stream in self._streams:
            stream.attach_refused(error_of_refusal(frame.refusal))
            self.poke(stream)

    def _on_accepted(self, frame: frames.Accepted) -> None:
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.accepted(frame.first_number, frame.count, frame.first_task_id)
            stream.granted(frame.credit)
            if stream.has_something_to_send:
                self.poke(stream)

    def _on_submit_refused(self, frame: frames.SubmitRefused) -> None:
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.refused(frame.first_number, frame.count, error_of_refusal(frame.refusal))
            self.poke(stream)

    def _on_submit_credit(self, frame: frames.SubmitCredit) -> None:
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.granted(frame.bytes)
            if stream.has_something_to_send:
                self.poke(stream)

    def _on_outcomes(self, frame: frames.Outcomes) -> None:
        for accepted in frame.accepted:
            self._on_accepted(accepted)
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.outcomes(frame)
            if stream.has_something_to_send:
                self.poke(stream)

    def _on_session_closed(self, frame: frames.SessionClosed) -> None:
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.session_closed()

    def _on_cancel_done(self, frame: frames.CancelDone) -> None:
        stream = self._by_alias.get(frame.alias)
        if stream is not None:
            stream.cancel_done(frame.request)

    def _on_refusal(self, frame: frames.Refusal) -> None:
        error = error_of_refusal(frame)
        if frame.closing:
            raise error
        _log.warning("session-manager-refused manager=%s error=%s", self._managers, error)


async def _raise_status(call: Any) -> NoReturn:
    """Raise what the end of a stream means."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        raise Unavailable("the session manager ended the stream")
    raise error_of(code, await call.details() or "", await call.trailing_metadata())


def _frame_of(
    stream: SessionStream, make: Callable[[], frames.ClientFrame | None]
) -> frames.ClientFrame | None:
    """Return the frame; a session whose frame cannot be made ends, and the others go on."""
    try:
        return make()
    except (ValueError, TypeError) as error:
        _log.exception("frame-not-made session=%r", stream.name)
        stream.end(InvalidRequest(f"what session {stream.name!r} has to say cannot be: {error}"))
        return None
