"""The task: the hot object. One slotted record, nothing that a batch can share.

    QUEUED ──hand out──▶ HELD ──it runs over 10 ms──▶ STARTED ──▶ FINISHING ──commit──▶ (gone)
       ▲                  │                              │
       └──── taken back, or its executor was lost ───────┘

To the user QUEUED and HELD are Pending; STARTED is Running. A FINISHING task's outcome is on its way
into the store; after the commit the task leaves memory and the store answers for it.
"""

from typing import TYPE_CHECKING

from flame.model.ids import TaskId

if TYPE_CHECKING:
    from flame.core.executor import Executor

QUEUED = 0
HELD = 1
STARTED = 2
FINISHING = 3


class Task:
    """One task that is not final and stored. ``attempts`` counts those that are spent."""

    __slots__ = ("attempts", "created_ms", "holder", "id", "input", "stage")

    def __init__(self, id: TaskId, input: bytes | None, created_ms: int) -> None:
        self.id = id
        self.input = input
        self.created_ms = created_ms
        self.stage = QUEUED
        self.attempts = 0
        self.holder: Executor | None = None
