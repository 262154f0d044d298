"""One simulated session: what its client submitted, and how far that has come."""

from dataclasses import dataclass, field
from random import Random

from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import SessionSpec
from flame.testing.capacity.trace import Load


@dataclass(slots=True, eq=False)
class Session:
    """A session, from its arrival to its end.

    Attributes:
        lengths: How long each task takes, in the order of ids; None: all take ``length``.
        bound: Its executors that are bound now.
        began: When its first task began.
        whole: When its first gang was there as a whole.
        ended: When it was closed.
        refused: Why the cluster did not take it.
    """

    index: int
    load: Load
    arrived: float
    tasks: int
    length: float
    lengths: list[float] | None = None
    number: SessionNumber = SessionNumber(0)
    finished: int = 0
    last_finished: float | None = None
    bound: int = 0
    began: float | None = None
    whole: float | None = None
    ended: float | None = None
    refused: str = ""
    closing: bool = field(default=False)

    @property
    def name(self) -> str:
        """What it is called in the cluster."""
        return f"s{self.index}"

    @property
    def spec(self) -> SessionSpec:
        """What its client asks for."""
        load = self.load
        return SessionSpec(
            "simulated",
            min_instances=load.min_instances,
            max_instances=load.max_instances,
            batch_size=load.batch_size,
            priority=load.priority,
            resources=load.resources,
            require=load.require,
            prefer=load.prefer,
        )

    def length_of(self, task_id: TaskId) -> float:
        """Return how long a task takes, in seconds."""
        return self.length if self.lengths is None else self.lengths[task_id - 1]


def arrive(index: int, load: Load, at: float, seed: int) -> Session:
    """Draw what a session that arrives brings with it."""
    dice = Random(f"{seed} session {index}")
    tasks = load.tasks.draw_whole(dice)
    session = Session(index, load, at, tasks, load.task_length.mean)
    if not load.task_length.is_constant:
        session.lengths = [load.task_length.draw(dice) for _ in range(tasks)]
    return session
