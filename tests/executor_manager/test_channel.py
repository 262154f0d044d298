"""An executor's channel without gRPC: the test is the session manager, and the main thread."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from flame.executor_manager.cell import Cell
from flame.executor_manager.channel import ExecutorChannel
from flame.executor_manager.hand import Enter, Hand
from flame.runtime.framed import FramedProtocol
from flame.wire import frames
from tests.assignments import assigned
from tests.executor_manager.conftest import eventually

OUTPUT = 1024 * 1024


class Line:
    """The manager's side of the stream."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.protocol = FramedProtocol(
            self.messages.append, lambda reason: None, lambda: None, 1 << 30
        )

    def order(self, *orders: dict[str, Any]) -> None:
        """Send some together."""
        self.protocol.send([frames.ExecutorOrder(**o).SerializeToString() for o in orders])

    def said(self, kind: str) -> list[Any]:
        """What came after the two greetings."""
        said = [frames.ExecutorFrame.FromString(message) for message in self.messages[2:]]
        return [getattr(frame, kind) for frame in said if frame.WhichOneof("frame") == kind]


@contextlib.asynccontextmanager
async def line_of(hand: Hand, directory: Path) -> AsyncIterator[tuple[Line, ExecutorChannel]]:
    """A channel that has been welcomed."""
    line, name = Line(), f"flame-test-{os.getpid()}-{id(hand)}"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: line.protocol, f"\0{name}")
    assignment = assigned(directory, max_output_bytes=OUTPUT, framed_port=1, framed_local=name)
    with Cell(assignment.cell) as cell:
        channel = ExecutorChannel(assignment, hand, cell, lambda reason: None)
        running = asyncio.ensure_future(channel.run())
        try:
            await eventually(lambda: len(line.messages) == 2, "the hello")
            line.order({"welcome": frames.Welcome(epoch=1, heartbeat_seconds=60)})
            yield line, channel
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            server.close()


def binding(*task_ids: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {"bind": frames.Bind(session=7, session_id="seven", incarnation=2)},
        {"tasks": frames.Tasks(task_ids=task_ids, inputs=[b"in"] * len(task_ids))},
    )


async def test_a_binding_comes_with_its_tasks_and_is_answered_with_their_results(
    tmp_path: Path,
) -> None:
    hand = Hand()
    async with line_of(hand, tmp_path) as (line, channel):
        line.order(*binding(1, 2))
        await eventually(lambda: len(hand.tasks) == 2, "the tasks")
        command = hand.wait()
        assert isinstance(command, Enter)
        assert command.bind.session_id == "seven"
        channel.entered(2, 0, "")
        while hand.tasks:
            task_id, attempt, data = hand.tasks.popleft()
            hand.finished.append((task_id, attempt, data, 5, 2))
        assert not hand.awake
        channel.wake()
        await eventually(lambda: line.said("results"), "the results")
        assert [result.incarnation for result in line.said("bind_result")] == [2]
        assert [list(results.task_ids) for results in line.said("results")] == [[1, 2]]
        await eventually(lambda: not hand.awake, "that the next result wakes the I/O thread")


async def test_a_manager_that_does_not_read_gets_every_result_in_order_when_it_does(
    tmp_path: Path,
) -> None:
    hand, count = Hand(), 30
    async with line_of(hand, tmp_path) as (line, channel):
        line.order(*binding(*range(1, count + 1)))
        await eventually(lambda: len(hand.tasks) == count, "the tasks")
        transport = line.protocol._transport
        assert transport is not None
        transport.pause_reading()
        hand.wait()
        channel.entered(2, 0, "")
        while hand.tasks:
            task_id, attempt, _ = hand.tasks.popleft()
            hand.finished.append((task_id, attempt, bytes(OUTPUT), 5, 2))
        channel.wake()
        await eventually(lambda: len(hand.finished) < count, "that it begins to send")
        assert hand.finished  # the rest waits here, where it is counted
        transport.resume_reading()
        await eventually(lambda: len(line.said("results")) == count, "all results")
        assert [results.sequence for results in line.said("results")] == list(range(1, count + 1))
        assert [list(results.task_ids) for results in line.said("results")] == [
            [task_id] for task_id in range(1, count + 1)
        ]


async def test_an_order_to_take_back_is_answered_at_once(tmp_path: Path) -> None:
    hand = Hand()
    async with line_of(hand, tmp_path) as (line, _):
        line.order(*binding(1, 2, 3), {"take_back": frames.TakeBack(request=9, count=2)})
        await eventually(lambda: line.said("taken_back"), "the answer")
        assert [list(back.task_ids) for back in line.said("taken_back")] == [[3, 2]]
        assert [task[0] for task in hand.tasks] == [1]
