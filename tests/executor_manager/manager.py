"""A session manager for tests: it speaks the node and executor channels and decides nothing.

A test orders what it wants and reads what came back. It listens on a port of its own choice, or on
a given one to play a manager that restarted.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio

from flame.model.specs import ApplicationSpec, ShimKind
from flame.wire import frames
from flame.wire.batches import pack, unpack
from flame.wire.channels import channel_options
from flame.wire.codec import application_spec_to

DEADLINE = 60.0  # seconds for any named condition; the machine may be busy


class ExecutorLine:
    """One executor's stream, the manager's side."""

    def __init__(self, hello: frames.ExecutorHello) -> None:
        self.hello = hello
        self.orders: asyncio.Queue[frames.ExecutorOrder | None] = asyncio.Queue()
        self.frames: list[frames.ExecutorFrame] = []
        self.outputs: dict[int, bytes | None] = {}
        self.failures: dict[int, str] = {}
        self.sequences: list[int] = []
        self.windows = [hello.window]
        self.store = True  # whether results are answered as stored

    def order(self, **frame: Any) -> None:
        self.orders.put_nowait(frames.ExecutorOrder(**frame))

    def send(self, inputs: dict[int, bytes | None], attempts: Iterable[int] = ()) -> None:
        elements, absent = pack(list(inputs.values()))
        self.order(
            tasks=frames.Tasks(
                task_ids=inputs.keys(), inputs=elements, absent=absent, attempts=attempts
            )
        )

    def received(self, kind: str) -> list[Any]:
        return [getattr(f, kind) for f in self.frames if f.WhichOneof("frame") == kind]

    def take(self, frame: frames.ExecutorFrame) -> None:
        self.frames.append(frame)
        kind = frame.WhichOneof("frame")
        if kind == "window":
            self.windows.append(frame.window.tasks)
        if kind == "results":
            results = frame.results
            self.sequences.append(results.sequence)
            if results.window:
                self.windows.append(results.window)
            outputs = unpack(results.outputs, results.absent)
            self.outputs.update(zip(results.task_ids, outputs, strict=True))
            for index, failure in zip(results.unsuccessful, results.failures, strict=True):
                self.failures[results.task_ids[index]] = failure.message
            if self.store:
                self.order(results_stored=frames.ResultsStored(sequence=results.sequence))


class FakeManager:
    """The server. Use it with ``async with``."""

    def __init__(self, port: int = 0, heartbeat: int = 1) -> None:
        self.port = port
        self.heartbeat = heartbeat
        self.registrations: list[frames.Register] = []
        self.exits: list[frames.ExecutorExited] = []
        self.packages: list[frames.PackageState] = []
        self.delays: list[frames.StartDelayed] = []
        self.renewals = 0
        self.left = False
        self.confirm_exits = True
        self.refuse_nodes = False
        self.counts_windows = False
        self.is_mute = False  # takes what nodes and executors say, and sends no heartbeat
        self.lines: list[ExecutorLine] = []
        self.node_orders: asyncio.Queue[frames.NodeOrder | None] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.incarnations: Iterator[int] = itertools.count(1)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "FakeManager":
        self._server = grpc.aio.server(options=channel_options())
        for path, handler, request, response in (
            (frames.NODE_CHANNEL, self._node, frames.NodeFrame, frames.NodeOrder),
            (frames.EXECUTOR_CHANNEL, self._executor, frames.ExecutorFrame, frames.ExecutorOrder),
        ):
            _, service, method = path.split("/")
            rpc = grpc.stream_stream_rpc_method_handler(
                handler,
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {method: rpc}),)
            )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def until(
        self, condition: Callable[[], Any], what: str, within: float = DEADLINE
    ) -> None:
        """Wait until something that a frame can change is so."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not within {within} s: {what}") from None

    async def start(self, executor: str = "e1", **order: Any) -> ExecutorLine:
        """Order an executor and wait for its hello."""
        incarnation = self.order_start(executor, **order)
        return await self.line(executor, incarnation)

    def order_start(self, executor: str = "e1", **order: Any) -> int:
        incarnation = next(self.incarnations)
        self.node_orders.put_nowait(
            frames.NodeOrder(
                start=frames.StartExecutor(
                    executor=executor, incarnation=incarnation, credential="x.y.z", **order
                )
            )
        )
        return incarnation

    def order_stop(self, executor: str, incarnation: int, grace_ms: int = 5000) -> None:
        self.node_orders.put_nowait(
            frames.NodeOrder(
                stop=frames.StopExecutor(
                    executor=executor, incarnation=incarnation, grace_ms=grace_ms
                )
            )
        )

    async def line(
        self, executor: str, incarnation: int, number: int = 1, within: float = DEADLINE
    ) -> ExecutorLine:
        """Wait for the ``number``-th stream of this executor and return the latest."""

        def lines() -> list[ExecutorLine]:
            return [
                line
                for line in self.lines
                if (line.hello.executor, line.hello.incarnation) == (executor, incarnation)
            ]

        await self.until(lambda: len(lines()) >= number, f"stream {number} of {executor}", within)
        return lines()[-1]

    async def bind(self, line: ExecutorLine, bind: frames.Bind) -> frames.BindResult:
        """Bind and wait for the answer."""
        before = len(line.received("bind_result"))
        line.order(bind=bind)
        await self.until(lambda: len(line.received("bind_result")) > before, "the bind's result")
        result: frames.BindResult = line.received("bind_result")[-1]
        return result

    async def _node(self, requests: AsyncIterator[frames.NodeFrame], context: Any) -> Any:
        first = await anext(requests)
        assert first.WhichOneof("frame") == "register"
        if self.refuse_nodes:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known")
        await context.write(
            frames.NodeOrder(
                registered=frames.Registered(
                    epoch=1, heartbeat_seconds=self.heartbeat, lease_seconds=15
                )
            )
        )
        await self._note(lambda: self.registrations.append(first.register))
        writing = asyncio.create_task(_pump(self.node_orders, context))
        try:
            async for frame in requests:
                await self._note(lambda frame=frame: self._node_frame(frame))  # type: ignore[misc]
        finally:
            writing.cancel()

    def _node_frame(self, frame: frames.NodeFrame) -> None:
        match frame.WhichOneof("frame"):
            case "renew":
                self.renewals += 1
                if not self.is_mute:
                    self.node_orders.put_nowait(frames.NodeOrder(renewed=frames.Renewed()))
            case "exited":
                self.exits.append(frame.exited)
                if self.confirm_exits:
                    self.order_stop(frame.exited.executor, frame.exited.incarnation, 0)
            case "package":
                self.packages.append(frame.package)
            case "start_delayed":
                self.delays.append(frame.start_delayed)
            case "leaving":
                self.left = True

    async def _executor(self, requests: AsyncIterator[frames.ExecutorFrame], context: Any) -> Any:
        first = await anext(requests)
        assert first.WhichOneof("frame") == "hello"
        line = ExecutorLine(first.hello)
        await context.write(
            frames.ExecutorOrder(
                welcome=frames.Welcome(
                    epoch=1, heartbeat_seconds=self.heartbeat, counts_windows=self.counts_windows
                )
            )
        )
        await self._note(lambda: self.lines.append(line))
        writing = asyncio.create_task(_pump(line.orders, context))
        beating = asyncio.create_task(self._beat(line))
        try:
            async for frame in requests:
                await self._note(lambda frame=frame: line.take(frame))  # type: ignore[misc]
        finally:
            writing.cancel()
            beating.cancel()

    async def _beat(self, line: ExecutorLine) -> None:
        while True:
            await asyncio.sleep(self.heartbeat)
            if not self.is_mute:
                line.order(heartbeat=frames.Heartbeat())

    async def _note(self, change: Callable[[], None]) -> None:
        async with self._changed:
            change()
            self._changed.notify_all()


async def _pump(orders: "asyncio.Queue[Any]", context: Any) -> None:
    while (order := await orders.get()) is not None:
        await context.write(order)


def bind(application: ApplicationSpec, **fields: Any) -> frames.Bind:
    values: dict[str, Any] = {
        "session": 1,
        "session_id": "s1",
        "application_name": "app",
        "incarnation": 1,
        "tenant": "default",
        **fields,
    }
    return frames.Bind(application=application_spec_to(application), **values)


def python(entry_point: str, **environment: str) -> ApplicationSpec:
    return ApplicationSpec(
        shim=ShimKind.PYTHON,
        entry_point=entry_point,
        environments=tuple(environment.items()),
    )
