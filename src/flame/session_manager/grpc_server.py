"""A gRPC server on an asyncio loop, on what ``grpc.server`` and ``grpc.aio.server`` are made of.

``grpc.aio`` spends some 150 us of CPU on a call that does nothing: three asyncio tasks, a future and
a wake-up through a socket for each of four or five events. Here an event of gRPC's completion queue
is a call of a function:

    idle:  a thread waits for an event ──▶ loop.call_soon_threadsafe ──▶ the thread waits for the next
    busy:  the loop takes all events that have piled up, turn after turn; the thread waits at a gate

So when there is little to do an event costs one wake-up, and when there is much, none, and no two
threads want the interpreter. Decision 9 has the numbers, and says what of gRPC's interface is used
that is not documented.
"""

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from flame.model.errors import FlameError
from flame.runtime.tasks import Tasks
from flame.session_manager.call import Aborted, Call, CallEnded, Direct, Metadata
from flame.wire import v1
from flame.wire.status import code_of

log = logging.getLogger(__name__)

#: Calls that gRPC may accept before the loop has looked at the first of them.
READY_FOR = 64
#: Events that are taken before the loop may do something else.
AT_ONCE = 64
#: So many events that arrived together make the loop take the next ones itself.
BUSY = 4
#: Seconds until a call that was not let in is told so. A client whose first message is on its way when
#: the status arrives may see an error of its own transport instead; and guessing is slowed down.
REFUSAL_DELAY = 0.02

_TIMEOUT = cygrpc.CompletionType.queue_timeout
_SHUTDOWN = cygrpc.CompletionType.queue_shutdown

#: Says who makes a call, from its method and metadata, or raises a FlameError.
Admit = Callable[[str, Metadata], Any]


class GrpcServer(grpc.aio.Server):
    """Serves generic handlers, whose functions are coroutines as for ``grpc.aio`` or ``Direct``.

    Args:
        admit: Asked before a handler is looked up; there is no other way to one.
        options: gRPC's, as for ``grpc.aio.server``.
    """

    def __init__(self, admit: Admit, options: Sequence[tuple[str, Any]] = ()) -> None:
        self._admit = admit
        self._loop = asyncio.get_running_loop()
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)
        self._server.register_completion_queue(self._queue)
        self._handlers: list[Any] = []
        self._tasks = Tasks("rpc")
        self._arrived: deque[Any] = deque()
        self._told = False  # the loop will look at what has arrived
        self._gate = threading.Lock()  # closed while the loop takes events itself
        self._busy = False
        self._thread = threading.Thread(target=self._wait, name="grpc-events", daemon=True)
        self._serving = False
        self._closed = False
        self._shut_down: asyncio.Future[None] = self._loop.create_future()
        self._stopped: asyncio.Future[None] = self._loop.create_future()

    # --- grpc.aio.Server -------------------------------------------------------------------------

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Serve these too; the first that knows a method has it."""
        self._handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Nothing: generated code adds the same methods as a generic handler."""

    def add_insecure_port(self, address: str) -> int:
        """Bind; return the port.

        Raises:
            RuntimeError: It cannot be bound.
        """
        return self._bound(address, self._server.add_http2_port(address.encode()))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Bind with TLS; return the port.

        Raises:
            RuntimeError: It cannot be bound.
        """
        inner = server_credentials._credentials  # type: ignore[attr-defined]
        return self._bound(address, self._server.add_http2_port(address.encode(), inner))

    def _bound(self, address: str, port: int) -> int:
        if port == 0:
            raise RuntimeError(f"gRPC could not bind {address}")
        return port

    async def start(self) -> None:
        """Take calls."""
        self._server.start()
        self._serving = True
        for _ in range(READY_FOR):
            self._request_call()
        self._thread.start()

    async def stop(self, grace: float | None) -> None:
        """Refuse new calls; after ``grace`` seconds cut those that are left."""
        if not self._serving:
            if self._thread.ident is not None:
                await asyncio.shield(self._stopped)
            return
        self._serving = False
        self._server.shutdown(self._queue, self._on_shut_down)
        if grace:
            await asyncio.wait((self._shut_down,), timeout=grace)
        if not self._shut_down.done():
            self._server.cancel_all_calls()
        await self._shut_down
        await self._tasks.close()
        self._queue.shutdown()
        await self._stopped
        self._thread.join()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Return whether the server has not stopped within ``timeout`` seconds."""
        done, _ = await asyncio.wait((self._stopped,), timeout=timeout)
        return not done

    # --- events ----------------------------------------------------------------------------------

    def _wait(self) -> None:
        """The thread: hand events to the loop, unless it takes them itself."""
        poll, gate, arrived = self._queue.poll, self._gate, self._arrived
        last = False
        while not last:
            event = poll()
            last = event.completion_type == _SHUTDOWN or self._closed
            arrived.append(event)
            del event  # it may keep a call alive
            if not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._take_arrived)
                except RuntimeError:  # the loop was closed without stopping the server
                    return
            with gate:
                pass

    def _take_arrived(self) -> None:
        """The loop: take what the thread brought; if that is much, take the rest without it."""
        self._told = False
        if self._take() >= BUSY and not self._busy and self._gate.acquire(blocking=False):
            self._busy = True
            self._loop.call_soon(self._take_all)

    def _take_all(self) -> None:
        """The loop, while it is busy: take what is there; come again if there was something."""
        poll, arrived = self._queue.poll, self._arrived
        for _ in range(AT_ONCE):
            event = poll(0.0)
            if event.completion_type == _TIMEOUT:
                break
            arrived.append(event)
        if self._take() and not self._closed:
            self._loop.call_soon(self._take_all)
        else:
            self._busy = False
            self._gate.release()

    def _take(self) -> int:
        arrived = self._arrived
        taken = 0
        while arrived:
            event = arrived.popleft()
            taken += 1
            if event.completion_type == _SHUTDOWN:
                self._closed = True  # the other of the two who wait for events may find it too
                if not self._stopped.done():
                    self._stopped.set_result(None)
                continue
            try:
                event.tag(event)
            except Exception:  # one call's failure must not end the others
                log.exception("rpc-event-failed tag=%r", event.tag)
        return taken

    def _request_call(self) -> None:
        self._server.request_call(self._queue, self._queue, self._on_call)

    def _on_shut_down(self, _event: Any) -> None:
        if not self._shut_down.done():
            self._shut_down.set_result(None)

    # --- calls -----------------------------------------------------------------------------------

    def _on_call(self, event: Any) -> None:
        if not event.success:
            return  # the server stops
        if self._serving:
            self._request_call()
        core, metadata = event.call, event.invocation_metadata
        path = event.call_details.method.decode("utf-8", "replace")
        try:
            caller = self._admit(path, metadata)
        except FlameError as error:
            trailing = ((v1.ERROR_KEY, type(error).__name__),)
            self._refuse(core, code_of(error), str(error), trailing)
            return
        call = Call(core, caller, metadata, self._loop)
        handler = self._handler(path, metadata)
        if handler is None:
            self._refuse(core, grpc.StatusCode.UNIMPLEMENTED, f"there is no method {path}")
            return
        direct = type(handler) is Direct
        if not direct:
            call.attend()
            if handler.request_streaming:
                self._start(path, handler, call, call)
                return

        def received(event: Any) -> None:
            data = event.batch_operations[0].message()
            if data is None:
                call.fail(grpc.StatusCode.UNIMPLEMENTED, f"{path} takes exactly one message")
            elif direct:
                handler.handle(data, call)
                if handler.lasting and not call.is_over:
                    call.attend()
            else:
                self._start(path, handler, call, data)

        core.start_server_batch((cygrpc.ReceiveMessageOperation(0),), received)

    def _refuse(self, core: Any, code: grpc.StatusCode, text: str, trailing: Metadata = ()) -> None:
        call = Call(core, None, (), self._loop)
        self._loop.call_later(REFUSAL_DELAY, call.fail, code, text, trailing)

    def _handler(self, path: str, metadata: Metadata) -> Any:
        details = _Details(path, metadata)
        for each in self._handlers:
            handler = each.service(details)
            if handler is not None:
                return handler
        return None

    def _start(self, path: str, handler: Any, call: Call, request: Any) -> None:
        if call.is_over:
            return
        call.serve_with(handler)
        task = self._tasks.start(_run(path, handler, call, request), path)
        call.on_gone = task.cancel


async def _run(path: str, handler: Any, call: Call, request: Any) -> None:
    """Serve one call with a coroutine or an asynchronous generator."""
    try:
        if not handler.request_streaming and handler.request_deserializer is not None:
            request = handler.request_deserializer(request)
        answer = _function(handler)(request, call)
        if inspect.isasyncgen(answer):
            async for message in answer:
                await call.write(message)
        elif inspect.isawaitable(answer):
            answer = await answer
        if handler.response_streaming:
            call.finish()
        else:
            call.finish_with(answer)
    except (Aborted, CallEnded):
        pass
    except asyncio.CancelledError:
        call.fail(grpc.StatusCode.CANCELLED, "the handler was cancelled")
        raise
    except Exception as error:  # a bug of ours must end its call only
        log.exception("rpc-failed method=%s", path)
        call.fail_unexpectedly(error)


def _function(handler: Any) -> Any:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


class _Details(grpc.HandlerCallDetails):
    """What generic handlers are asked with."""

    __slots__ = ("invocation_metadata", "method")

    def __init__(self, method: str, invocation_metadata: Metadata) -> None:
        self.method = method
        self.invocation_metadata = invocation_metadata
