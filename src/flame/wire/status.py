"""Flame's errors as gRPC status codes and back, in one place."""

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import grpc.aio

from flame.model import errors
from flame.wire import frames, v1

CODE_OF: Mapping[type[errors.FlameError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}

_ERROR_OF = {code: kind for kind, code in CODE_OF.items()}


def code_of(error: errors.FlameError) -> grpc.StatusCode:
    """Return the status code that stands for this error; INTERNAL for a bug of ours."""
    for kind in type(error).__mro__:
        if kind in CODE_OF:
            return CODE_OF[kind]
    return grpc.StatusCode.INTERNAL


def error_of(
    code: grpc.StatusCode, details: str, trailing: Iterable[tuple[str, str | bytes]] | None = None
) -> errors.FlameError:
    """Return the error that a status code stands for.

    ``trailing`` is the call's trailing metadata: it names the very class, where the v1 contract
    fixes a code that says less (a closed session is INVALID_ARGUMENT there).
    """
    for key, value in trailing or ():
        if key == v1.ERROR_KEY:
            kind = getattr(errors, str(value), None)
            if isinstance(kind, type) and issubclass(kind, errors.FlameError):
                return kind(details)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.Unavailable(f"no answer in time: {details}")
    if (
        code is grpc.StatusCode.CANCELLED
    ):  # a server that stops, or no longer leads, drops its calls
        return errors.Unavailable(f"the other side gave the call up: {details}")
    return _ERROR_OF.get(code, errors.FlameError)(details)


def refusal_of(error: errors.FlameError, *, closing: bool = False) -> frames.Refusal:
    """Return an error as a frame's part."""
    return frames.Refusal(code=type(error).__name__, message=str(error), closing=closing)


def error_of_refusal(refusal: frames.Refusal) -> errors.FlameError:
    """Undo :func:`refusal_of`; an unknown code is a plain FlameError."""
    kind = getattr(errors, refusal.code, None)
    if isinstance(kind, type) and issubclass(kind, errors.FlameError):
        return kind(refusal.message)
    return errors.FlameError(f"{refusal.code}: {refusal.message}")


async def raise_status(call: Any) -> None:
    """Raise what the other side ended a call with, unless it ended well.

    Raises:
        grpc.aio.AioRpcError: Its status is not OK.
    """
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code,
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )
