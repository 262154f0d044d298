"""The executor channel: executor processes bind, pull tasks and send results."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flame.core import effects, events
from flame.model.errors import FlameError, InvalidRequest, PermissionDenied, WrongState
from flame.model.ids import ExecutorId, SessionNumber, TaskId
from flame.model.logs import MOST_BYTES
from flame.model.specs import ApplicationSpec
from flame.session_manager.access import Caller, caller_of
from flame.session_manager.framed_port import decoder
from flame.session_manager.framed_stream import FramedStream
from flame.session_manager.stream import SILENCE, Stream, channel_handler
from flame.wire import batches, codec, frames, v1
from flame.wire.codec import notes_to
from flame.wire.frames import ExecutorFrame, ExecutorOrder
from flame.wire.status import refusal_of

if TYPE_CHECKING:
    from flame.session_manager.shell import Shell

log = logging.getLogger(__name__)

#: Seconds that an executor may wait to hear that its results are stored; mostly it hears with its
#: next tasks.
STORED_WITHIN = 0.01


@dataclass(slots=True)
class _StoredItem:
    """Results that may be forgotten; a later one replaces it."""

    sequence: int


class ExecutorChannels:
    """All executors' streams."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell
        self._streams: dict[ExecutorId, _Executor] = {}

    def handler(self) -> Any:
        """Return the generic rpc handler of this channel."""
        return channel_handler(frames.EXECUTOR_CHANNEL, self._connect, ExecutorFrame, ExecutorOrder)

    def refusal(self, error: FlameError) -> ExecutorOrder:
        """Return the frame that tells an executor of an error."""
        return _refusal(error)

    def accept(self, caller: Caller, stream: FramedStream) -> None:
        """Take an executor's framed stream."""
        executor = _Executor(self._shell, self, caller.executor)
        executor.stream = stream
        stream.serve(
            decoder(ExecutorFrame, executor.receive),
            lambda: self._gone(executor),
            _build,
            _refusal,
        )

    def performs(self) -> dict[type, Callable[[Any], None]]:
        """Return which effects this channel performs."""
        return {
            effects.SendTasks: self._tasks,
            effects.SendResultsStored: self._results_stored,
            effects.SendBind: self._bind,
            effects.SendUnbind: self._unbind,
            effects.SendTakeBack: self._take_back,
            effects.SendCancel: self._cancel,
            effects.RefuseExecutor: self._refuse,
        }

    def beat(self, now: float) -> None:
        """Send a heartbeat where nothing was sent; end streams whose peer is silent."""
        for executor in list(self._streams.values()):
            executor.beat(now)

    def greet(self, executor_id: ExecutorId, executor: "_Executor") -> None:
        """Make this the executor's stream; an older one is over."""
        older = self._streams.get(executor_id)
        if older is not None and older is not executor:
            older.stream.cancel()
        self._streams[executor_id] = executor

    async def _connect(self, _requests: Any, context: Any) -> None:
        executor = _Executor(self._shell, self, caller_of(context).executor)
        stream = Stream(context, executor.receive, _build, _refusal)
        executor.stream = stream
        try:
            await stream.run()
        finally:
            self._gone(executor)

    def _gone(self, executor: "_Executor") -> None:
        if self._streams.get(executor.id) is executor:
            del self._streams[executor.id]
            self._shell.post(events.ExecutorDisconnected(executor.id, executor.incarnation))

    # --- effects ---------------------------------------------------------------------------------

    def _put(self, executor_id: ExecutorId, item: Any) -> None:
        # Without a stream the executor will say what it holds when it is back.
        executor = self._streams.get(executor_id)
        if executor is not None:
            executor.stream.put(item)

    def _tasks(self, effect: effects.SendTasks) -> None:
        self._put(effect.executor, effect)

    def _results_stored(self, effect: effects.SendResultsStored) -> None:
        executor = self._streams.get(effect.executor)
        if executor is None:
            return
        if effect.awaited:
            executor.stream.put(_StoredItem(effect.sequence))
        else:
            executor.stream.put_later(_StoredItem(effect.sequence), STORED_WITHIN)

    def _bind(self, effect: effects.SendBind) -> None:
        executor = self._streams.get(effect.executor)
        if executor is None:
            return
        executor.incarnation = effect.incarnation
        bind = frames.Bind(
            session=effect.session,
            session_id=effect.session_name,
            application_name=effect.application_name,
            application=executor.application(effect.application),
            common_data=effect.common_data,
            incarnation=effect.incarnation,
            tenant=effect.tenant,
            rank=effect.rank,
            peers=[
                v1.Peer(executor=peer.executor, node=peer.node, address=peer.address)
                for peer in effect.peers
            ],
        )
        executor.stream.put(ExecutorOrder(bind=bind))

    def _unbind(self, effect: effects.SendUnbind) -> None:
        self._put(effect.executor, ExecutorOrder(unbind=frames.Unbind()))

    def _take_back(self, effect: effects.SendTakeBack) -> None:
        order = frames.TakeBack(
            request=effect.request, count=effect.count, task_ids=effect.task_ids
        )
        self._put(effect.executor, ExecutorOrder(take_back=order))

    def _cancel(self, effect: effects.SendCancel) -> None:
        order = frames.CancelTasks(task_ids=effect.task_ids)
        self._put(effect.executor, ExecutorOrder(cancel=order))

    def _refuse(self, effect: effects.RefuseExecutor) -> None:
        executor = self._streams.get(effect.executor)
        if executor is not None and executor.incarnation == effect.incarnation:
            executor.stream.close(effect.error)


class _Executor:
    """One executor process: its stream, and who its credential says it is."""

    stream: Stream | FramedStream

    def __init__(self, shell: "Shell", channels: ExecutorChannels, executor: ExecutorId) -> None:
        self._shell = shell
        self._channels = channels
        self._greeted = False
        self.id = executor
        self.incarnation = 0
        self._application: tuple[ApplicationSpec, v1.ApplicationSpec] | None = None

    def application(self, spec: ApplicationSpec) -> v1.ApplicationSpec:
        """Return an application as it is sent; mostly it is that of the binding before."""
        if self._application is None or self._application[0] is not spec:
            self._application = spec, codec.application_spec_to(spec)
        return self._application[1]

    def beat(self, now: float) -> None:
        """Keep the peer informed, or notice that it is gone."""
        if now - self.stream.last_heard > SILENCE:
            log.info("executor-silent executor=%s", self.id)
            self.stream.cancel()
        elif now - self.stream.last_sent >= self._shell.heartbeat - 1.0:
            self.stream.put(ExecutorOrder(heartbeat=frames.Heartbeat()))

    def receive(self, frame: ExecutorFrame) -> None:
        """Take one frame."""
        kind = frame.WhichOneof("frame")
        post = self._shell.post
        if kind == "hello":
            self._hello(frame.hello)
            return
        if not self._greeted:
            raise InvalidRequest("the first frame of a stream must be a hello")
        if kind == "results":
            self._results(frame.results)
        elif kind == "window":
            post(events.WindowChanged(self.id, self.incarnation, frame.window.tasks))
        elif kind == "started":
            started = frame.started
            task_id = TaskId(started.task_id)
            post(events.TaskStarted(self.id, self.incarnation, task_id, started.attempt))
        elif kind == "taken_back":
            back = frame.taken_back
            ids = [TaskId(i) for i in back.task_ids]
            post(events.TasksTakenBack(self.id, self.incarnation, back.request, ids))
        elif kind == "bind_result":
            result = frame.bind_result
            post(events.BindDone(self.id, result.incarnation, result.return_code, result.message))
        elif kind == "left":
            post(events.ExecutorUnbound(self.id, frame.left.incarnation))
        elif kind != "heartbeat":
            raise InvalidRequest("a frame arrived that says nothing this manager knows")

    def _hello(self, hello: frames.ExecutorHello) -> None:
        if self._greeted:
            raise InvalidRequest("a second hello arrived on one stream")
        if hello.executor != self.id:
            self.stream.close(
                PermissionDenied(f"this credential is executor {self.id}'s, not {hello.executor}'s")
            )
            return
        if hello.attempts and len(hello.attempts) != len(hello.task_ids):
            raise InvalidRequest("hello: attempts and task_ids differ in length")
        self._greeted = True
        self.incarnation = hello.incarnation
        self._channels.greet(self.id, self)
        self.stream.put(
            ExecutorOrder(
                welcome=frames.Welcome(
                    epoch=self._shell.epoch,
                    heartbeat_seconds=int(self._shell.heartbeat),
                    framed=self._shell.framed,
                    counts_windows=True,
                )
            )
        )
        self._shell.post(
            events.ExecutorConnected(
                self.id,
                hello.incarnation,
                hello.bound,
                SessionNumber(hello.session),
                hello.window,
                [TaskId(i) for i in hello.task_ids],
                list(hello.attempts),
                TaskId(max(hello.running, 0)),
                hello.running_ms / 1000,
                tuple(hello.gpu_ids),
                hello.takes_early_tasks,
            )
        )

    def _results(self, results: frames.Results) -> None:
        count = len(results.task_ids)
        if len(results.outputs) != count or (results.attempts and len(results.attempts) != count):
            raise InvalidRequest("results: task_ids, outputs and attempts differ in length")
        if len(results.unsuccessful) != len(results.failures) or any(
            i >= count for i in results.unsuccessful
        ):
            raise InvalidRequest("results: unsuccessful and failures do not fit task_ids")
        if len(results.logged) != len(results.logs) or any(i >= count for i in results.logged):
            raise InvalidRequest("results: logged and logs do not fit task_ids")
        if any(
            len(log.stdout) > MOST_BYTES or len(log.stderr) > MOST_BYTES for log in results.logs
        ):
            raise InvalidRequest(f"results: a log has more than {MOST_BYTES} bytes")
        self._shell.post(
            events.TasksFinished(
                self.id,
                self.incarnation,
                results.sequence,
                list(results.task_ids),  # type: ignore[arg-type]
                batches.unpack(results.outputs, results.absent),
                batches.unpack_failures(results.unsuccessful, results.failures),
                list(results.attempts),
                {
                    index: tuple(failure.kinds)
                    for index, failure in zip(results.unsuccessful, results.failures, strict=True)
                },
                batches.unpack_logs(results.logged, results.logs),
                results.window,
            ),
            pump=self._shell.pump_soon,
        )


def _refusal(error: FlameError) -> ExecutorOrder:
    return ExecutorOrder(refusal=refusal_of(error, closing=isinstance(error, WrongState)))


def _build(items: list[Any]) -> list[ExecutorOrder]:
    """Make frames of what piled up: tasks in frames that fit, the last acknowledgement with them."""
    built: list[ExecutorOrder] = []
    stored = max((i.sequence for i in items if type(i) is _StoredItem), default=0)
    for item in items:
        if type(item) is effects.SendTasks:
            for start, end in batches.cuts(item.inputs):
                inputs, absent = batches.pack(item.inputs[start:end])
                tasks = frames.Tasks(
                    task_ids=item.task_ids[start:end],
                    inputs=inputs,
                    absent=absent,
                    attempts=item.attempts[start:end],
                    results_stored=stored,
                )
                if item.notes:
                    for index, task_id in enumerate(tasks.task_ids):
                        if task_id in item.notes:
                            tasks.noted.append(index)
                            tasks.notes.append(notes_to(item.notes[TaskId(task_id)]))
                stored = 0
                built.append(ExecutorOrder(tasks=tasks))
        elif type(item) is not _StoredItem:
            built.append(item)
    if stored:
        built.insert(0, ExecutorOrder(results_stored=frames.ResultsStored(sequence=stored)))
    return built
