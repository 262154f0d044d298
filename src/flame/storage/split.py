"""Sessions that ask for no durability, beside a store that has some.

A cluster has one :class:`~flame.storage.store.Store`. Where that is a disk, sessions with
``Durability.MEMORY`` are kept in a :class:`~flame.storage.memory.MemoryStore` next to it and never
wait for the disk. After a restart such a session is gone, with its tasks. Only its number is
remembered, since executors and clients may still name it.

    group ──┬── records of MEMORY sessions ─────────▶ MemoryStore
            └── everything else, in one commit ─────▶ the durable store
"""

from collections.abc import Sequence

from flame.core.records import (
    Barrier,
    LeaseLost,
    OutcomesAcknowledged,
    OutcomesRecorded,
    Record,
    Recovered,
    SessionDeleted,
    SessionEvent,
    SessionPut,
    StoredTask,
    TasksSubmitted,
)
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import Durability
from flame.storage.memory import MemoryStore
from flame.storage.store import Store

#: The records that live and die with their session. A binding does not: it is the executor's.
_OF_A_SESSION = (
    TasksSubmitted,
    OutcomesRecorded,
    OutcomesAcknowledged,
    LeaseLost,
    SessionEvent,
    SessionDeleted,
)


class SplitStore:
    """A durable store, and a memory store for the sessions that want no more."""

    def __init__(self, durable: Store, memory: MemoryStore) -> None:
        self.name = durable.name
        self.settings = durable.settings
        self._durable = durable
        self._memory = memory
        self._in_memory: frozenset[SessionNumber] = frozenset()

    def load(self) -> Recovered:
        return self._durable.load()

    def commit(self, group: Sequence[Record], *, sync: bool) -> None:
        here = self._in_memory
        durable: list[Record] = []
        memory: list[Record] = []
        for record in group:
            if isinstance(record, SessionPut):
                if record.spec.durability is Durability.MEMORY:
                    if record.session not in here:
                        here |= {record.session}
                        # Put and deleted: the disk remembers that the number is taken.
                        durable += (record, SessionDeleted(record.session))
                    memory.append(record)
                    continue
            elif isinstance(record, _OF_A_SESSION) and record.session in here:
                memory.append(record)
                if isinstance(record, SessionDeleted):
                    here -= {record.session}
                continue
            if not isinstance(record, Barrier):
                durable.append(record)
        if durable:
            # First, since it may refuse: then nothing of the group is stored anywhere.
            self._durable.commit(durable, sync=sync)
        self._memory.commit(memory, sync=False)
        self._in_memory = here

    def task(self, session: SessionNumber, task_id: TaskId) -> StoredTask | None:
        return self._of(session).task(session, task_id)

    def tasks(self, session: SessionNumber, after: int, limit: int) -> list[StoredTask]:
        return self._of(session).tasks(session, after, limit)

    def outcomes(
        self, session: SessionNumber, position: int, max_bytes: int
    ) -> OutcomesRecorded | None:
        return self._of(session).outcomes(session, position, max_bytes)

    def first_kept(self, session: SessionNumber) -> int:
        return self._of(session).first_kept(session)

    def close(self) -> None:
        self._memory.close()
        self._durable.close()

    def _of(self, session: SessionNumber) -> Store:
        return self._memory if session in self._in_memory else self._durable
