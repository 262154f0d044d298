"""A load client of the v1 API: for each task one call that creates it and one stream that watches it.

The calls are gRPC's, made by the layer that ``grpc.Channel`` is written in: one thread waits for the
completion queue and makes the next call of whoever has got an answer. ``grpc.aio`` spends more than
twice as much CPU on them, which is taken from the cluster here.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from benchmarks.work import check
from flame.wire import v1

#: Gets an event.
Then = Callable[[Any], bool]

OK = grpc.StatusCode.OK.value[0]


class LoadClient:
    """Creates and watches tasks of one session on a connection of its own."""

    def __init__(self, target: str, session: str) -> None:
        self.session = session
        # What a call keeps in order to be made again costs a tenth; a failed call is an error here.
        self._channel = cygrpc.Channel(target.encode(), (("grpc.enable_retries", 0),), None)
        self._create, self._watch = (
            v1.FRONTEND[name].path.encode() for name in ("CreateTask", "WatchTask")
        )

    def run(self, payloads: list[bytes], outstanding: int) -> float:
        """Create and watch every task, so many at a time; seconds for all of them.

        Raises:
            AssertionError: A call or a task failed, or an output is wrong.
        """
        outputs: list[bytes | None] = [None] * len(payloads)
        work = iter(enumerate(payloads))
        next_event = self._channel.next_call_event
        begin = time.perf_counter()
        busy = sum(_Worker(self, work, outputs).begin() for _ in range(outstanding))
        while busy:
            event = next_event()
            if event.completion_type != cygrpc.CompletionType.queue_timeout:
                busy -= event.tag(event)
        seconds = time.perf_counter() - begin
        check(payloads, outputs)
        return seconds

    def close(self) -> None:
        self._channel.close(cygrpc.StatusCode.cancelled, "the load client is done")

    def create(self, request: bytes, then: Then) -> None:
        """Call CreateTask; ``then`` gets the event with its answer and its status."""
        answer = cygrpc.ReceiveMessageOperation(0), cygrpc.ReceiveStatusOnClientOperation(0)
        self._call(self._create, (((*_request(request), *answer), then),))

    def watch(self, request: bytes, then: Then, ended: Then) -> Any:
        """Call WatchTask; ``then`` gets the event with its first message, ``ended`` its status.

        Returns the call.
        """
        first = *_request(request), cygrpc.ReceiveMessageOperation(0)
        # Asked for at once: without anything that it waits for, this layer lets go of a call.
        status = (cygrpc.ReceiveStatusOnClientOperation(0),)
        return self._call(self._watch, ((first, then), (status, ended)))

    def _call(self, path: bytes, batches: tuple[tuple[tuple[Any, ...], Then], ...]) -> Any:
        return self._channel.integrated_call(0, path, None, None, (), None, batches, None, None)


def _request(message: bytes) -> tuple[Any, ...]:
    return (
        cygrpc.SendInitialMetadataOperation((), 0),
        cygrpc.SendMessageOperation(message, 0),
        cygrpc.SendCloseFromClientOperation(0),
        cygrpc.ReceiveInitialMetadataOperation(0),
    )


class _Worker:
    """One task after the other. What is called with an event returns whether there is no more work."""

    __slots__ = ("_call", "_client", "_halves", "_index", "_outputs", "_work")

    def __init__(
        self,
        client: LoadClient,
        work: Iterator[tuple[int, bytes]],
        outputs: list[bytes | None],
    ) -> None:
        self._client = client
        self._work = work
        self._outputs = outputs
        self._index = -1
        self._halves = 0
        self._call: Any = None

    def begin(self) -> bool:
        """Create the next task; return whether there was one."""
        work = next(self._work, None)
        if work is None:
            return False
        self._index, payload = work
        self._halves = 0
        request = v1.CreateTaskRequest()
        request.task.session_id = self._client.session
        request.task.input = payload
        self._client.create(request.SerializeToString(), self._created)
        return True

    def _created(self, event: Any) -> bool:
        *_, answer, status = event.batch_operations
        _check(status)
        task = v1.Task.FromString(answer.message())
        request = v1.WatchTaskRequest(session_id=task.spec.session_id, task_id=task.metadata.id)
        self._call = self._client.watch(request.SerializeToString(), self._seen, self._ended)
        return False

    def _seen(self, event: Any) -> bool:
        data = event.batch_operations[-1].message()
        if data is not None:
            task = v1.Task.FromString(data)
            if task.status.state == v1.TaskState.Succeed:
                self._outputs[self._index] = task.spec.output
            else:
                self._call.operate((cygrpc.ReceiveMessageOperation(0),), self._seen)
                return False
        return self._half_done()

    def _ended(self, event: Any) -> bool:
        _check(event.batch_operations[0])
        return self._half_done()

    def _half_done(self) -> bool:
        """The last message and the status come in either order."""
        self._halves += 1
        return self._halves == 2 and not self.begin()


def _check(status: Any) -> None:
    assert status.code() == OK, f"{status.code()}: {status.details()}"
