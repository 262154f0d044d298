"""A session manager for tests of the SDK: the task channel, and the Frontend calls around it.

It runs in a thread of its own, stores in dictionaries, answers each task with its input reversed, and
can misbehave on request: drop streams, withhold acknowledgements, credit or outcomes, refuse.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from flame.model.errors import AlreadyExists, FlameError, NotFound, WrongState
from flame.wire import frames, v1
from flame.wire.batches import pack, unpack
from flame.wire.channels import channel_options
from flame.wire.status import code_of, refusal_of

TOKEN = "a-token-for-tests"


@dataclass
class FakeSession:
    """What the manager knows of a session."""

    name: str
    number: int
    spec: v1.SessionSpec
    closed: bool = False
    next_id: int = 1
    inputs: dict[int, bytes | None] = field(default_factory=dict)
    numbers: dict[bytes, list[int]] = field(default_factory=dict)  # submitter: ids by number
    log: list[tuple[int, bytes | None, frames.Failure | None]] = field(default_factory=list)


def reverse(data: bytes | None) -> bytes | None:
    return None if data is None else data[::-1]


class FakeManager:
    """Start with ``with FakeManager() as manager``; set the knobs before or while it is used.

    Attributes:
        submits: (submitter, first_number, count) of every Submit that arrived, in order.
        hellos: How many streams were opened.
        work: What becomes of an input: an output, or a Failure.
        hold_accepts, hold_outcomes: Keep these back until set to False and ``release()``.
        refuse: Called with each input of a batch; an error refuses that batch.
        takes_calls: Whether calls may come over the task channel; ``channel_calls`` are those that did.
        on_call: Called with each of them before it is answered: it may set ``elsewhere``, or return
            False, and there is no answer.
    """

    def __init__(self, *, token: str | None = TOKEN, heartbeat: int = 5) -> None:
        self.token = token
        self.heartbeat = heartbeat
        self.framed = frames.FramedAddress()
        self.max_input_bytes = 1024 * 1024
        self.submit_credit = 1 << 40
        self.regrant = True
        self.hold_accepts = False
        self.hold_outcomes = False
        self.lose_accepts = False
        self.work: Callable[[bytes | None], bytes | frames.Failure | None] = reverse
        self.refuse: Callable[[bytes | None], FlameError | None] = lambda _input: None
        self.sessions: dict[str, FakeSession] = {}
        self.applications: dict[str, v1.ApplicationSpec] = {}
        self.submits: list[tuple[bytes, int, int]] = []
        self.attaches: list[frames.Attach] = []
        self.cancelled: list[int] = []
        self.detached: list[int] = []
        self.credits: list[frames.OutcomeCredit] = []
        self.takes_calls = False
        self.channel_calls: list[str] = []
        self.on_call: Callable[[frames.Answer], bool] = lambda _answer: True
        self.hellos = 0
        self.port = 0
        self._streams: set[_Stream] = set()
        self._calls: set[Any] = set()
        self._server: grpc.aio.Server | None = None

    # --- its thread -----------------------------------------------------------------------------

    def __enter__(self) -> "FakeManager":
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._do(self._start())

    def down(self) -> None:
        """Stop listening and break every stream; what is stored stays."""
        self._do(self._stop())

    def drop_streams(self) -> None:
        """Break every task channel, as a lost connection does."""
        self._do(self._drop())

    def silence_streams(self) -> None:
        """Say nothing more on the streams that are open now, without closing them."""
        for stream in list(self._streams):
            stream.silent = True

    def send_everywhere(self, **frame: Any) -> None:
        """Send a frame on every stream there is then: on the loop, where streams come and go."""

        def send() -> None:
            for stream in self._streams:
                stream.send(**frame)

        self.loop.call_soon_threadsafe(send)

    def release(self) -> None:
        """Send what was held back and may be sent now."""
        self._do(self._release())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=10)

    async def _start(self) -> None:
        server = grpc.aio.server(options=channel_options())
        handler = grpc.stream_stream_rpc_method_handler(
            self._connect,
            request_deserializer=frames.ClientFrame.FromString,
            response_serializer=frames.ManagerFrame.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "flame.channel.v1.TaskChannel", {"Connect": handler}
                ),
                grpc.method_handlers_generic_handler("flame.v1.Frontend", self._frontend()),
            )
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def _stop(self) -> None:
        if self._server is not None:
            await self._drop()
            await self._server.stop(None)
            self._server = None

    async def _drop(self) -> None:
        for stream in list(self._streams):
            stream.dropped.set()
        while self._streams:
            await next(iter(self._streams)).ended.wait()

    async def _release(self) -> None:
        for stream in self._streams:
            stream.release()

    # --- the task channel -----------------------------------------------------------------------

    async def _connect(self, requests: AsyncIterator[frames.ClientFrame], context: Any) -> None:
        await self._check(context)
        stream = _Stream(self, context)
        self._streams.add(stream)
        try:
            await stream.serve(requests)
        finally:
            self._streams.discard(stream)
            stream.ended.set()

    def store(self, session: FakeSession, submitter: bytes, inputs: list[bytes | None]) -> int:
        first_id = session.next_id
        for data in inputs:
            session.numbers[submitter].append(session.next_id)
            session.inputs[session.next_id] = data
            session.next_id += 1
        for task_id, data in enumerate(inputs, first_id):
            result = self.work(data)
            if isinstance(result, frames.Failure):
                session.log.append((task_id, None, result))
            else:
                session.log.append((task_id, result, None))
        return first_id

    # --- Frontend -------------------------------------------------------------------------------

    def _frontend(self) -> dict[str, Any]:
        def handler(name: str, answer: Callable[[Any], Any]) -> Any:
            async def call(request: Any, context: Any) -> Any:
                await self._check(context)
                try:
                    return answer(request)
                except FlameError as error:
                    context.set_trailing_metadata(((v1.ERROR_KEY, type(error).__name__),))
                    await context.abort(code_of(error), str(error))

            method = v1.FRONTEND[name]
            return grpc.unary_unary_rpc_method_handler(
                call,
                request_deserializer=method.request.FromString,
                response_serializer=method.response.SerializeToString,
            )

        return {
            **{name: handler(name, answer) for name, answer in self.session_calls.items()},
            "RegisterApplication": handler("RegisterApplication", self._register),
            "GetTask": handler("GetTask", self._get_task),
        }

    @property
    def session_calls(self) -> dict[str, Callable[[Any], v1.Session]]:
        return {
            "CreateSession": self._create_session,
            "OpenSession": lambda request: self.message(self.named(request.session_id)),
            "GetSession": lambda request: self.message(self.named(request.session_id)),
            "CloseSession": self._close_session,
        }

    def _register(self, request: v1.RegisterApplicationRequest) -> v1.Result:
        self.applications[request.name] = request.application
        return v1.Result()

    def _create_session(self, request: v1.CreateSessionRequest) -> v1.Session:
        if request.session_id in self.sessions:
            raise AlreadyExists(f"there is a session {request.session_id!r} already")
        session = FakeSession(request.session_id, len(self.sessions) + 1, request.session)
        self.sessions[session.name] = session
        return self.message(session)

    def _close_session(self, request: v1.CloseSessionRequest) -> v1.Session:
        session = self.named(request.session_id)
        session.closed = True
        for stream in self._streams:
            stream.session_closed(session)
        return self.message(session)

    def _get_task(self, request: v1.GetTaskRequest) -> v1.Task:
        session = self.named(request.session_id)
        task_id = int(request.task_id)
        if task_id not in session.inputs:
            raise NotFound(f"session {session.name!r} has no task {task_id}")
        done = {entry[0]: entry for entry in session.log}
        return v1.Task(
            metadata=v1.Metadata(id=request.task_id, name=request.task_id),
            spec=v1.TaskSpec(
                session_id=session.name,
                input=session.inputs[task_id],
                output=done[task_id][1] if task_id in done else None,
            ),
            status=v1.TaskStatus(
                state=v1.TaskState.Succeed if task_id in done else v1.TaskState.Pending,
                creation_time=1,
            ),
        )

    def named(self, name: str) -> FakeSession:
        if name not in self.sessions:
            raise NotFound(f"there is no session {name!r}")
        return self.sessions[name]

    def message(self, session: FakeSession) -> v1.Session:
        return v1.Session(
            metadata=v1.Metadata(id=session.name, name=session.name),
            spec=session.spec,
            status=v1.SessionStatus(
                state=v1.SessionState.Closed if session.closed else v1.SessionState.Open,
                creation_time=1_700_000_000_000,
                succeed=len(session.log),
                number=session.number,
            ),
        )

    async def _check(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization")
        if self.token is not None and given != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known here")


class _Stream:
    """One client's task channel."""

    def __init__(self, manager: FakeManager, context: Any) -> None:
        self.manager = manager
        self.context = context
        self.silent = False
        self.dropped = asyncio.Event()
        self.ended = asyncio.Event()
        self.attached: dict[int, tuple[FakeSession, frames.Attach]] = {}
        self.cursor: dict[int, int] = {}
        self.out: asyncio.Queue[frames.ManagerFrame] = asyncio.Queue()
        self.held_accepts: list[tuple[frames.ManagerFrame, ...]] = []
        self.told_closed: set[int] = set()

    async def serve(self, requests: AsyncIterator[frames.ClientFrame]) -> None:
        parts = [
            asyncio.create_task(self._read(requests)),
            asyncio.create_task(self._write()),
            asyncio.create_task(self.dropped.wait()),
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        if self.dropped.is_set():
            await self.context.abort(grpc.StatusCode.UNAVAILABLE, "dropped by the test")

    async def _write(self) -> None:
        while True:
            frame = await self.out.get()
            if not self.silent:
                await self.context.write(frame)

    async def _read(self, requests: AsyncIterator[frames.ClientFrame]) -> None:
        manager = self.manager
        async for frame in requests:
            kind = frame.WhichOneof("frame")
            if kind == "hello":
                manager.hellos += 1
                self.send(
                    hello=frames.ManagerHello(
                        epoch=1,
                        heartbeat_seconds=manager.heartbeat,
                        max_input_bytes=manager.max_input_bytes,
                        framed=manager.framed,
                        calls=manager.takes_calls,
                    )
                )
            elif kind == "attach":
                self._attach(frame.attach)
            elif kind == "detach":
                manager.detached.append(frame.detach.alias)
                self.attached.pop(frame.detach.alias, None)
            elif kind == "submit" and frame.submit.alias in self.attached:
                self._submit(frame.submit)
            elif kind == "cancel":
                manager.cancelled.extend(frame.cancel.task_ids)
                done = frames.CancelDone(alias=frame.cancel.alias, request=frame.cancel.request)
                self.send(cancel_done=done)
            elif kind == "credit":
                manager.credits.append(frame.credit)
            elif kind == "call":
                self._call(frame.call)

    def _call(self, call: frames.Call) -> None:
        manager = self.manager
        manager.channel_calls.append(call.method)
        answer = frames.Answer(number=call.number)
        try:
            request = v1.FRONTEND[call.method].request.FromString(call.request)
            answer.response = manager.session_calls[call.method](request).SerializeToString()
        except FlameError as error:
            answer.refusal.CopyFrom(refusal_of(error))
        if manager.on_call(answer):
            self.send(answer=answer)

    def _attach(self, attach: frames.Attach) -> None:
        manager = self.manager
        manager.attaches.append(attach)
        try:
            session = manager.named(attach.session)
        except NotFound as error:
            refused = frames.AttachRefused(alias=attach.alias, refusal=refusal_of(error))
            self.send(attach_refused=refused)
            return
        self.attached[attach.alias] = (session, attach)
        self.cursor[attach.alias] = attach.position
        known = session.numbers.setdefault(attach.submitter, [])
        self.send(
            attached=frames.Attached(
                alias=attach.alias,
                number=session.number,
                submitted=len(known),
                submit_credit=manager.submit_credit,
                closed=session.closed,
                log_end=len(session.log),
            )
        )
        self._send_outcomes()
        if session.closed:
            self.session_closed(session)

    def _submit(self, submit: frames.Submit) -> None:
        manager = self.manager
        session, attach = self.attached[submit.alias]
        count = len(submit.inputs)
        manager.submits.append((attach.submitter, submit.first_number, count))
        numbers = session.numbers[attach.submitter]
        inputs = unpack(submit.inputs, submit.absent)
        error: FlameError | None = None
        if submit.first_number > len(numbers):
            error = FlameError(f"number {submit.first_number} is beyond a gap")
        elif submit.first_number + count > len(numbers):
            if session.closed:
                error = WrongState(f"session {session.name!r} is closed")
            else:
                error = next((e for e in map(manager.refuse, inputs) if e is not None), None)
        if error is not None:
            refused = frames.SubmitRefused(
                alias=submit.alias,
                first_number=submit.first_number,
                count=count,
                refusal=refusal_of(error),
            )
            self.send(submit_refused=refused)
            return
        repeated = max(0, min(count, len(numbers) - submit.first_number))
        answers = []
        if repeated:
            first_id = numbers[submit.first_number]
            answers.append(self._accepted(submit.alias, submit.first_number, repeated, first_id))
        if repeated < count:
            first_id = manager.store(session, attach.submitter, inputs[repeated:])
            first_number = submit.first_number + repeated
            answers.append(self._accepted(submit.alias, first_number, count - repeated, first_id))
        cost = sum(map(len, submit.inputs)) + frames.TASK_COST * count
        if manager.regrant and not repeated:
            grant = frames.SubmitCredit(alias=submit.alias, bytes=cost)
            answers.append(frames.ManagerFrame(submit_credit=grant))
        if manager.lose_accepts:
            return
        self.held_accepts.append(tuple(answers))
        self.release()

    def _accepted(self, alias: int, number: int, count: int, task_id: int) -> frames.ManagerFrame:
        return frames.ManagerFrame(
            accepted=frames.Accepted(
                alias=alias, first_number=number, count=count, first_task_id=task_id
            )
        )

    def release(self) -> None:
        if not self.manager.hold_accepts:
            for answers in self.held_accepts:
                for frame in answers:
                    self.out.put_nowait(frame)
            self.held_accepts.clear()
        self._send_outcomes()

    def _send_outcomes(self) -> None:
        if self.manager.hold_outcomes or self.held_accepts:
            return
        for alias, (session, attach) in self.attached.items():
            if not attach.subscribe:
                continue
            while self.cursor[alias] < len(session.log):
                position = self.cursor[alias]
                entries = session.log[position : position + frames.FRAME_TASKS]
                self.cursor[alias] += len(entries)
                outputs, absent = pack([output for _, output, _ in entries])
                failed = [i for i, entry in enumerate(entries) if entry[2] is not None]
                self.send(
                    outcomes=frames.Outcomes(
                        alias=alias,
                        position=position,
                        task_ids=[task_id for task_id, _, _ in entries],
                        outputs=outputs,
                        absent=absent,
                        unsuccessful=failed,
                        failures=[failure for _, _, failure in entries if failure is not None],
                    )
                )

    def session_closed(self, session: FakeSession) -> None:
        for alias, (attached, _) in self.attached.items():
            if attached is session and alias not in self.told_closed:
                self.told_closed.add(alias)
                self.send(session_closed=frames.SessionClosed(alias=alias))

    def send(self, **frame: Any) -> None:
        self.out.put_nowait(frames.ManagerFrame(**frame))
