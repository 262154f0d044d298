"""What a plan may ask of the core, which takes those steps that still hold."""

from dataclasses import dataclass

from flame.model.ids import ExecutorId, NodeName, SessionNumber


@dataclass(frozen=True, slots=True)
class Assign:
    """Start an executor for the session on the node."""

    session: SessionNumber
    node: NodeName


@dataclass(frozen=True, slots=True)
class Reuse:
    """Give a warm, idle executor to the session."""

    session: SessionNumber
    executor: ExecutorId


@dataclass(frozen=True, slots=True)
class Evict:
    """Have an idle executor leave, to make room."""

    executor: ExecutorId


@dataclass(frozen=True, slots=True)
class Release:
    """Take ``count`` executors from the session: unstarted tasks return, the running one ends.

    Attributes:
        node: Only executors there help; None: any. A gang with a member there goes as a whole.
        grace: Seconds after which a task that still runs may be thrown away, if the budget allows;
            None: it is waited for.
    """

    session: SessionNumber
    count: int
    node: NodeName | None = None
    grace: float | None = None


Step = Assign | Reuse | Evict | Release
Plan = tuple[Step, ...]
