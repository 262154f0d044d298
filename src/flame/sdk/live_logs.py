"""Logs while they grow: of a task that runs, and of an executor, read piece by piece.

Where nothing has come for a while the next look is later, up to a second.
"""

import asyncio
from typing import Any

from flame.model.errors import NotFound, Unavailable
from flame.model.logs import rest_of
from flame.sdk.frontend import Frontend
from flame.sdk.views import Logs
from flame.wire import admin

SOONEST, LATEST = 0.1, 1.0  # seconds between two looks

NOTHING = Logs(b"", b"")


class TaskLogs:
    """What a task writes, until it is final. When it runs anew, so does this."""

    def __init__(self, frontend: Frontend, session: str, task_id: int) -> None:
        self._frontend = frontend
        self._session = session
        self._task_id = task_id
        self._attempt = 0
        self._ends = (0, 0)
        self._seen = [0, 0]
        self._over = False
        self._delay = SOONEST

    async def next_piece(self) -> Logs | None:
        """Return what has been written since the last piece, when there is some; None at the end.

        Raises:
            NotFound: There is no such task, or what it wrote is no longer kept.
        """
        while not self._over:
            piece = await self._look()
            if any(piece):
                return piece
        return None

    async def _look(self) -> Logs:
        request = admin.ReadTaskOutputRequest(
            session_id=self._session,
            task_id=self._task_id,
            stdout_from=self._ends[0],
            stderr_from=self._ends[1],
        )
        try:
            answer = await self._frontend.call("ReadTaskOutput", request)
        except Unavailable:  # its node is away; either comes back, or the task runs elsewhere
            answer = admin.OutputPiece()
        if answer.over:
            self._over = True
            return await self._rest()
        if answer.attempt and answer.attempt != self._attempt:
            again = self._attempt != 0
            self._attempt, self._ends, self._seen = answer.attempt, (0, 0), [0, 0]
            if again:  # of another executor, whose files have other positions
                return NOTHING
        if answer.attempt:
            self._ends = answer.stdout_end, answer.stderr_end
        return await self._piece_of(answer)

    async def _piece_of(self, answer: Any) -> Logs:
        piece = Logs(answer.stdout, answer.stderr)
        if any(piece):
            self._delay = SOONEST
            self._seen[0] += len(piece.stdout)
            self._seen[1] += len(piece.stderr)
        else:
            await asyncio.sleep(self._delay)
            self._delay = min(LATEST, self._delay * 1.5)
        return piece

    async def _rest(self) -> Logs:
        """Return what of the log that is kept has not been read while the task ran."""
        found, _ = await self._frontend.list_logs(self._session, after=self._task_id - 1, limit=1)
        if not found or found[0].task_id != self._task_id:
            return await self._frontend.logs_of(self._session, self._task_id)
        log = found[0]
        seen = self._seen if log.attempt == self._attempt else [0, 0]
        return Logs(rest_of(log.stdout, seen[0]), rest_of(log.stderr, seen[1]))


class ExecutorLogs:
    """What an executor has written, from the beginning that its node still has."""

    def __init__(self, frontend: Frontend, executor: str, *, follow: bool) -> None:
        self._frontend = frontend
        self._executor = executor
        self._follow = follow
        self._incarnation = 0
        self._ends = (0, 0)
        self._rotated = True
        self._over = False
        self._delay = SOONEST

    async def next_piece(self) -> Logs | None:
        """Return the next piece; None at the end, which with ``follow`` is the executor's own.

        Raises:
            NotFound: No node has anything of such an executor.
        """
        while not self._over:
            request = admin.ReadExecutorOutputRequest(
                executor=self._executor,
                incarnation=self._incarnation,
                stdout_from=self._ends[0],
                stderr_from=self._ends[1],
                rotated=self._rotated,
            )
            try:
                answer = await self._frontend.call("ReadExecutorOutput", request)
            except NotFound:
                if not self._incarnation:
                    raise
                return None  # it has ended, and we may not read more, or it is deleted
            self._incarnation = answer.incarnation
            self._ends = answer.stdout_end, answer.stderr_end
            piece = Logs(answer.stdout, answer.stderr)
            if any(piece):
                self._delay = SOONEST
                return piece
            if self._rotated:
                self._rotated, self._ends = False, (0, 0)
            elif answer.over or not self._follow:
                self._over = True
            else:
                await asyncio.sleep(self._delay)
                self._delay = min(LATEST, self._delay * 1.5)
        return None
