"""Calls of the Frontend that come over a task channel: those that open and close sessions.

They are answered by the very functions that answer the rpcs. A session is opened and closed by one call
each, and gRPC makes such a call five times as long.
"""

import logging
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

from flame.model.errors import FlameError, InvalidRequest, NotLeading
from flame.runtime.tasks import Tasks
from flame.session_manager.access import Caller, authorize
from flame.session_manager.serving import Answer, bytes_of, parse
from flame.wire import frames, v1
from flame.wire.status import refusal_of

log = logging.getLogger(__name__)


class _Context:
    """What the answering functions need of a call's context: what the client can take."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        # Whatever is too large for the channel is sent by gRPC, cut to what the client takes there.
        return [(v1.MAX_RECEIVE_KEY, str(2**63))]


class ChannelCalls:
    """Answers calls, in the order in which they are begun if nothing has to be waited for.

    A call is answered in place. Only one that has to wait, for a slow store, say, gets a task.

    Args:
        answers: By the rpc's name.
        lapsed: Whether this session manager leads no more.
        tasks: Owns those that answer.
    """

    def __init__(
        self, answers: Mapping[str, Answer], lapsed: Callable[[], bool], tasks: Tasks
    ) -> None:
        self._answers = answers
        self._lapsed = lapsed
        self._tasks = tasks
        self._context = _Context()

    def begin(
        self, call: frames.Call, caller: Caller, send: Callable[[frames.Answer], Any]
    ) -> None:
        """Have ``send`` called with the answer, now or later.

        What the call changes is changed when this returns: frames behind it find it so.
        """
        serving = self._serve(call, caller, send)
        try:
            waits_for = serving.send(None)
        except StopIteration:
            return
        self._tasks.start(_the_rest(waits_for, serving), f"call-{call.method[:40]}")

    async def _serve(
        self, call: frames.Call, caller: Caller, send: Callable[[frames.Answer], Any]
    ) -> None:
        answer = frames.Answer(number=call.number)
        try:
            response = await self._response(call, caller)
        except FlameError as error:
            answer.refusal.CopyFrom(refusal_of(error))
        except Exception as error:  # a bug of ours must not leave the client waiting
            log.exception("channel-call-failed method=%s", call.method)
            answer.refusal.CopyFrom(refusal_of(FlameError(f"a bug in Flame: {error!r}")))
        else:
            if len(response) > frames.CALL_BYTES:
                answer.elsewhere = True
            else:
                answer.response = response
        send(answer)

    async def _response(self, call: frames.Call, caller: Caller) -> bytes:
        if self._lapsed():
            raise NotLeading("this session manager leads no more")
        answer = self._answers.get(call.method)
        if answer is None:
            raise InvalidRequest(
                f"{call.method[:100]!r} is no call for a task channel; those are "
                f"{', '.join(self._answers)}"
            )
        method = v1.FRONTEND[call.method]
        authorize(caller, method.path)
        return bytes_of(await answer(parse(method, call.request), caller, self._context))


@types.coroutine
def _the_rest(waits_for: Any, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was begun outside a task, and waits for something."""
    try:
        yield waits_for
    except BaseException:
        work.close()
        raise
    yield from work.__await__()
