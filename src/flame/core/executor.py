"""The executor: a slot on a node that serves one session at a time.

    Void ──▶ Binding ──BindDone──▶ Bound ──▶ Unbinding ──▶ Idle ──▶ Binding (another session)
                │                    │           │           │
                └────────────────────┴───────────┴───────────┴──▶ Releasing ──▶ Released

From Bound it may go straight to the next session's Binding (:mod:`flame.core.standby`).

An executor is born for a session, so Void lasts no longer than one event. Its process is started for
the binding; only an application that says it is reusable has its process bound again. From any
state a lost process leads to Released: the slot is given up and its tasks are queued again.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flame.core.task import FINISHING, Task
from flame.model.ids import ExecutorId, NodeName, TaskId, Tenant
from flame.model.resources import Resources
from flame.model.specs import ExecutorState

if TYPE_CHECKING:
    from flame.core.session import Session

#: Seconds from the order to start a process to the end of on_session_enter.
BIND_TIMEOUT = 120.0
#: Seconds that an executor may take to finish and leave a session that was closed.
LEAVE_TIMEOUT = 5.0
#: Seconds that an executor whose process lives may be without a channel.
RECONNECT_TIMEOUT = 30.0
#: Tasks that an executor wants in hand until it says otherwise: one that runs, one that is next.
FIRST_WINDOW = 2
#: So quick to enter last time, in seconds, it is given tasks together with its next session.
QUICK_ENTER = 0.05
#: And at most, whatever it says: so much is in memory for it, in its outbox and its hand.
MOST_WINDOW = 65_536
#: Seconds that a process has to end after it was asked to.
STOP_GRACE = 2.0


@dataclass(slots=True, eq=False)
class Executor:
    """One executor.

    Attributes:
        incarnation: The current binding's number; results of an older one are refused.
        window: How many tasks it wants in hand.
        held: Handed out and not answered, in the order of handing out.
        started: The task that has run for more than 10 ms, if any.
        started_at: When its service was called.
        doomed: A task that is final and still in its hand; the process ends unless it gives that up.
        recorded: The sequence of the last Results that was taken.
        stored: The sequence of the last Results that is in the store.
        take_back: The number of an unanswered request to give tasks up; 0: none.
        connected: Its process has a channel to us now.
        process: The incarnation its process was started with; 0: no node was told to start one.
        granted: The last incarnation whose binding is stored, so that its process may know of it.
        preparing: Its node prepares its application's package before its process starts.
        entering_since: When its process was told of its session; 0: it was not, or by another manager.
        entered: Its service is ready; of a gang, all have to be before one gets tasks.
        gpu_ids: The GPUs that its node gave it.
        enter_seconds: How long its service took to enter the last session; 0: not known.
        takes_early: Its process takes tasks before its service has entered.
        early: And it is given some, as its service enters quickly.
        standby: Its session has no work for it, and anybody may have it (:mod:`flame.core.standby`).
        gang: The same for all executors that only make sense together; 0: it is alone.
    """

    id: ExecutorId
    node: NodeName
    resources: Resources
    tenant: Tenant
    application: str
    incarnation: int
    state: ExecutorState
    session: "Session | None" = None
    window: int = FIRST_WINDOW
    held: dict[TaskId, Task] = field(default_factory=dict)
    started: Task | None = None
    started_at: float = 0.0
    doomed: Task | None = None
    recorded: int = 0
    stored: int = 0
    take_back: int = 0
    connected: bool = False
    reusable: bool = False
    process: int = 0
    granted: int = 0
    gang: int = 0
    preparing: bool = False
    entering_since: float = 0.0
    entered: bool = False
    gpu_ids: tuple[str, ...] = ()
    enter_seconds: float = 0.0
    takes_early: bool = False
    early: bool = False
    standby: bool = False

    @property
    def rank(self) -> int:
        """Its number in its gang, from 0: members get their incarnations one after the other."""
        return self.incarnation - self.gang if self.gang else 0

    @property
    def is_usable(self) -> bool:
        """Whether tasks may be handed to it now."""
        is_there = self.state is ExecutorState.BOUND or self.early
        return is_there and self.connected and not self.standby

    @property
    def has_unfinished(self) -> bool:
        """Whether it holds a task that has no outcome yet (a cancelled one has)."""
        return any(task.stage != FINISHING for task in self.held.values())

    def end_standby(self) -> None:
        """It serves a session again, or none any more."""
        if self.standby and self.session is not None:
            self.session.standing_by -= 1
        self.standby = False
