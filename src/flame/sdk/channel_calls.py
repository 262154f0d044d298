"""Calls that travel on the task channel: those that open and close sessions, where the manager takes them.

What cannot go this way, or is lost on it, is made by gRPC; all of these calls are safe to repeat.
"""

import asyncio
from collections import deque
from typing import TypeGuard

from google.protobuf.message import Message

from flame.model.errors import Unavailable
from flame.wire import frames
from flame.wire.status import error_of_refusal

#: What the channel takes. All have a session as their answer.
_METHODS = frozenset({"CreateSession", "OpenSession", "GetSession", "CloseSession"})


class ChannelCalls:
    """The calls of one client, on the I/O thread.

    Attributes:
        is_open: There is a connection to a manager that takes calls.
    """

    def __init__(self, wake: asyncio.Event) -> None:
        """Prepare it on the running loop; ``wake`` is set whenever there is something to send."""
        self.is_open = False
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._unsent: deque[frames.Call] = deque()
        self._answers: dict[int, asyncio.Future[frames.Answer]] = {}
        self._under_way = 0

    def takes(self, request: object, method: str) -> TypeGuard[Message]:
        """Whether this call can go this way now."""
        return (
            self.is_open
            and method in _METHODS
            and isinstance(request, Message)
            and request.ByteSize() <= frames.CALL_BYTES
        )

    async def call(self, method: str, request: Message, timeout: float) -> bytes:
        """Make a call that :meth:`takes` says yes to; return the answer's bytes.

        Raises:
            Unavailable: There is no answer this way; whether the manager has acted is not known.
            FlameError: The manager refused.
        """
        self._number += 1
        number = self._number
        data = request.SerializeToString()
        self._unsent.append(frames.Call(number=number, method=method, request=data))
        self._wake.set()
        self._answers[number] = future = self._loop.create_future()
        late = self._loop.call_later(timeout, self._give_up, future, f"not within {timeout:g} s")
        try:
            answer = await future
        finally:
            late.cancel()
            self._answers.pop(number, None)
        if answer.HasField("refusal"):
            raise error_of_refusal(answer.refusal)
        if answer.elsewhere:
            raise Unavailable("the answer is too large for the task channel")
        response: bytes = answer.response
        return response

    # --- for the channel --------------------------------------------------------------------------

    def next_call(self) -> frames.Call | None:
        """Return what may be sent now."""
        while self._unsent and self._under_way < frames.CALLS_AT_ONCE:
            call = self._unsent.popleft()
            if call.number in self._answers:  # somebody still waits for it
                self._under_way += 1
                return call
        return None

    def answered(self, answer: frames.Answer) -> None:
        """The manager has answered."""
        self._under_way -= 1
        if self._unsent:
            self._wake.set()
        future = self._answers.get(answer.number)
        if future is not None and not future.done():
            future.set_result(answer)

    def opened(self) -> None:
        """There is a connection to a manager that takes calls."""
        self.is_open = True

    def lost(self) -> None:
        """The connection is gone, and with it the answers."""
        self.is_open = False
        self._under_way = 0
        self._unsent.clear()
        for future in self._answers.values():
            self._give_up(future, "the connection was lost")

    def _give_up(self, future: "asyncio.Future[frames.Answer]", why: str) -> None:
        if not future.done():
            future.set_exception(Unavailable(f"no answer on the task channel: {why}"))
