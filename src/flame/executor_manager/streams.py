"""What the streams to a session manager have in common: how each ends, and when to try again."""

import asyncio
from collections.abc import Awaitable

import grpc
import grpc.aio

from flame.model.errors import FlameError
from flame.runtime.tasks import is_cancelled
from flame.wire.channels import Endpoint
from flame.wire.managers import Managers
from flame.wire.status import error_of

#: These are about us, not about the connection: trying again cannot help.
_REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class NotLetIn(Exception):
    """The session manager refused the stream as such, for who we are.

    Attributes:
        error: The same as an error of ours.
    """

    def __init__(self, reason: str, error: FlameError) -> None:
        super().__init__(reason)
        self.error = error


async def reason_of_end(
    conversation: Awaitable[str], managers: Managers, endpoint: Endpoint
) -> str:
    """Hold a conversation on one stream; return why it ended.

    A session manager that is silent gets a connection of its own the next time: the one that there was
    may be cut off, which nobody would notice.

    Raises:
        NotLetIn: The credential is not good for this stream. What a frame refuses passes as it is.
    """
    try:
        return await conversation
    except grpc.aio.AioRpcError as error:
        reason = f"{error.code().name}: {error.details()}"
        if error.code() in _REFUSED:
            raise NotLetIn(reason, error_of(error.code(), error.details() or "")) from None
        return reason
    except asyncio.InvalidStateError:
        return "the stream ended while a frame was being written"
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        reason = "the stream was given up"  # by ourselves: nobody spoke, or we failed
    except TimeoutError:
        reason = "no answer to the first frame"
    await managers.reopen(endpoint)
    return reason
