"""What executors and the tasks that run there write, read from their nodes while it grows.

    client ──ReadTaskOutput, ReadExecutorOutput──▶ session manager ──read_output──▶ executor manager
           ◀──────────── a piece ────────────────                  ◀──── output ──── reads the files

Nothing of it is kept here. What finished tasks wrote is in the store.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flame.core.state import State
from flame.model.errors import NotFound, Unavailable
from flame.model.ids import ExecutorId, NodeName, TaskId, Tenant
from flame.wire import frames

ANSWER = 10.0  # seconds that a node may take


@dataclass(frozen=True, slots=True)
class From:
    """Positions in the files of an executor's output; ``rotated``: in those before the newest."""

    stdout: int = 0
    stderr: int = 0
    rotated: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What was found: of an incarnation, or of an attempt at a task (0: it does not run now)."""

    output: frames.Output
    attempt: int = 0


class Outputs:
    """Asks nodes.

    Args:
        send: Sends an order to a node; returns whether it is connected.
        nodes: Returns which are.
    """

    def __init__(
        self,
        state: State,
        send: Callable[[NodeName, frames.NodeOrder], bool],
        nodes: Callable[[], Sequence[NodeName]],
    ) -> None:
        self._state = state
        self._send = send
        self._nodes = nodes
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[frames.Output]] = {}

    def serving(self, executor: ExecutorId) -> tuple[Tenant, int] | None:
        """Return whose session an executor serves, and in which process; None if it serves none now."""
        found = self._state.executors.get(executor)
        if found is None or found.session is None or not found.process:
            return None
        return found.session.tenant, found.process

    async def of_executor(self, executor: ExecutorId, incarnation: int, start: From) -> Piece:
        """Return what an executor has written.

        Raises:
            NotFound: No node has anything of it.
            Unavailable: Its node does not answer.
        """
        known = self._state.executors.get(executor)
        order = frames.ReadOutput(executor=executor, incarnation=incarnation)
        nodes = [known.node] if known is not None else self._nodes()
        answers = await asyncio.gather(
            *(self._ask(node, order, start) for node in nodes), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, frames.Output) and answer.found:
                return Piece(answer)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        raise NotFound(
            f"there is no output of an executor {executor!r}; a node keeps that of its last 200"
        )

    async def of_task(
        self, tenant: Tenant, session_name: str, task_id: TaskId, start: From
    ) -> Piece | None:
        """Return what a task has written so far; None if it is final.

        Raises:
            NotFound: There is no such session, or no such task in it.
        """
        session = self._state.session_named(tenant, session_name)
        if not 1 <= task_id < session.next_id:
            raise NotFound(f"there is no task {task_id} in session {session_name!r}")
        task = session.live.get(task_id)
        if task is None:
            return None
        holder = task.holder
        if holder is None:
            return Piece(frames.Output())
        order = frames.ReadOutput(
            executor=holder.id,
            incarnation=holder.process,
            task_id=task_id,
            attempt=task.attempts + 1,
        )
        answer = await self._ask(holder.node, order, start)
        return Piece(answer, order.attempt if answer.found else 0)

    def answered(self, output: frames.Output) -> None:
        """A node has answered."""
        future = self._asked.pop(output.request, None)
        if future is not None and not future.done():
            future.set_result(output)

    async def _ask(self, node: NodeName, order: frames.ReadOutput, start: From) -> frames.Output:
        own = frames.ReadOutput()
        own.CopyFrom(order)
        own.request = number = next(self._numbers)
        own.stdout_from, own.stderr_from, own.rotated = start.stdout, start.stderr, start.rotated
        self._asked[number] = future = asyncio.get_running_loop().create_future()
        try:
            if not self._send(node, frames.NodeOrder(read_output=own)):
                raise Unavailable(f"node {node!r} is not connected")
            async with asyncio.timeout(ANSWER):
                answer: frames.Output = await future
                return answer
        except TimeoutError:
            raise Unavailable(f"node {node!r} did not answer within {ANSWER:g} s") from None
        finally:
            self._asked.pop(number, None)
