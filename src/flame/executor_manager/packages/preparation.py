"""What an application is made of, and how far its preparation on this node is."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from flame.executor_manager.packages.errands import Transcript
from flame.executor_manager.packages.place import Place
from flame.model.specs import ApplicationSpec, ShimKind

LOG_TAIL = 4096  # bytes that reports carry

PREPARING = "preparing"
READY = "ready"
FAILED = "failed"

Key = tuple[str, int]  # executor, incarnation


class Unprepared(Exception):
    """The executor cannot start as it should; the text says why, and what the log ends with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an executor's application is made of. Equal ones are prepared together."""

    tenant: str
    application: str
    url: str
    installer: str
    entry_point: str
    command: str
    environments: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, tenant: str, application: str, spec: ApplicationSpec) -> "Wanted | None":
        """Return what has to be prepared for an application; None: nothing."""
        if not spec.url or not spec.installer:
            return None
        is_python = spec.shim is ShimKind.PYTHON
        return cls(
            tenant,
            application,
            spec.url,
            spec.installer,
            spec.entry_point if is_python else "",
            "" if is_python else spec.command or "",
            spec.environments,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """How far a preparation is, for who watches."""

    wanted: Wanted
    state: str
    message: str
    log: str
    since: float  # seconds since the epoch


@dataclass(slots=True, eq=False)
class Preparation:
    """One preparation.

    Attributes:
        waiting: The executors that wait for it; it ends when there are none.
        release: Where it is, once that is known.
        step: What is done now, for people.
        pause: Seconds for which the last failure is answered again.
        retry_at: When that ends; monotonic.
    """

    wanted: Wanted
    waiting: set[Key] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    release: Path | None = None
    place: Place | None = None
    state: str = PREPARING
    step: str = ""
    problem: str = ""
    transcript: Transcript = field(default_factory=Transcript)
    since: float = 0.0
    pause: float = 0.0
    retry_at: float = 0.0

    def report(self) -> Report:
        """Return how far it is."""
        log = self.transcript.end(LOG_TAIL)
        return Report(self.wanted, self.state, self.problem or self.step, log, self.since)

    def explain(self) -> str:
        """The cause for a waiting session, with the end of the log if the cause does not hold it."""
        wanted = self.wanted
        said = self.transcript.end(LOG_TAIL // 2).strip()
        text = (
            f"the package of application {wanted.application!r} cannot be prepared: {self.problem}"
        )
        return f"{text}\nThe end of the log:\n{said}" if said else text
