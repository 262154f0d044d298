"""How an executor talks to a service: one adapter per kind, behind one protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flame.executor_manager.assignment import Assignment
from flame.executor_manager.cell import ServiceEnd
from flame.model.service import SessionContext, TaskContext
from flame.model.specs import ApplicationSpec


class ServiceFailure(Exception):
    """The service answered a failure: its text says all there is, our traceback says nothing.

    Attributes:
        kinds: The code it ended or answered with, if there was one, for ``retry_on``.
    """

    def __init__(self, text: str, *codes: object) -> None:
        super().__init__(text)
        self.kinds = tuple(map(str, codes))


class ServiceUnusable(Exception):
    """The service cannot be started, or cannot be reached: the binding fails with this text."""


class Shim(Protocol):
    """A service in a session. Everything is called in the main thread, one at a time."""

    @property
    def invoke(self) -> Callable[[TaskContext], bytes | None]:
        """Do one task. Returns its output; raises ServiceFailure, or what the user's code raises.

        A property, so that an adapter may have an attribute here that is the user's own method.
        """

    def enter(self, session: SessionContext) -> None:
        """Tell the service of its session. An exception refuses the binding."""

    def leave(self) -> None:
        """Tell the service that the session is over."""

    def close(self) -> None:
        """Let go of the service: its process, its files."""


class ServiceDied(Protocol):
    """Ends the executor process, as its service has ended."""

    def __call__(self, reason: str, end: ServiceEnd | None = None) -> None:
        """Log a sentence; the spent attempt tells ``end``, or else only that the executor ended."""


@dataclass(frozen=True, slots=True)
class ShimRequest:
    """What an adapter needs to know to start a service.

    Attributes:
        service_died: To be called, from any thread, when a service that is a process is gone.
    """

    application_name: str
    application: ApplicationSpec
    assignment: Assignment
    service_died: ServiceDied
