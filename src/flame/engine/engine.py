"""Between the core and the disk: what waits for which commit.

    event ──▶ Engine.handle ──▶ effects to perform now
                  │ Store effects pile up
                  ▼
              take_group ──▶ (the shell commits it) ──▶ committed ──▶ effects that waited for it

                  │  (or, for want of room) ──▶ store_full ──▶ refusals; the rest waits for retry

At most one group is in flight. Records of memory sessions never wait: they go straight into the
volatile store, and what waited for them follows at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flame.core.cluster import Cluster, Committed
from flame.core.effects import Effect, Store
from flame.core.full_store import StoreFull, StoreHasRoom
from flame.core.records import (
    Barrier,
    OutcomesRecorded,
    Record,
    Recovered,
    TasksLogged,
    TasksSubmitted,
)
from flame.model.errors import ResourceExhausted

#: A group of at most so many records, tasks, and bytes of payload is small.
SMALL_RECORDS = 8
SMALL_TASKS = 256
SMALL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Group:
    """Records to commit in one transaction; ``sync``: it must survive a loss of power."""

    records: Sequence[Record]
    sync: bool

    def is_small(self) -> bool:
        """Whether the commit takes less time than handing it to another thread."""
        if self.sync or len(self.records) > SMALL_RECORDS:
            return False
        tasks = size = 0
        for record in self.records:
            if isinstance(record, TasksSubmitted):
                payloads = record.inputs
            elif isinstance(record, OutcomesRecorded):
                payloads = record.outputs
            elif isinstance(record, TasksLogged):
                payloads = [s for log in record.logs for s in (log.stdout, log.stderr)]
            else:
                continue
            tasks += len(payloads)
            if tasks > SMALL_TASKS:
                return False
            size += sum([len(p) for p in payloads if p is not None])
        return size <= SMALL_BYTES


class Engine:
    """Drives one Cluster.

    Args:
        cluster: The core; nobody else calls it from here on, except to read.
        commit_volatile: Puts records of memory sessions where they are kept; must not fail.
    """

    def __init__(
        self, cluster: Cluster, commit_volatile: Callable[[Sequence[Record]], None]
    ) -> None:
        self.cluster = cluster
        self._commit_volatile = commit_volatile
        self._waiting: list[Store] = []
        self._in_flight: list[Store] = []
        self.is_full = False  # the store is, and the next try is not due

    def restore(self, recovered: Recovered, now: float) -> list[Effect]:
        """Start from what the store holds; returns effects to perform."""
        return self._route(self.cluster.restore(recovered, now), now)

    def handle(self, event: object, now: float) -> list[Effect]:
        """Apply one event; perform the returned effects in order, then ask for a group."""
        return self._route(self.cluster.handle(event, now), now)

    def take_group(self) -> Group | None:
        """Return what to commit next; None while a group is in flight, or nothing waits that could."""
        if self._in_flight or self.is_full or not self._waiting:
            return None
        self._in_flight, self._waiting = self._waiting, []
        return Group(
            [s.record for s in self._in_flight if type(s.record) is not Barrier],
            any(s.sync for s in self._in_flight),
        )

    def committed(self, now: float) -> list[Effect]:
        """The group in flight is in the store; returns what waited for it."""
        stores, self._in_flight = self._in_flight, []
        todo = self._route(self.cluster.handle(Committed(stores), now), now)
        if self.cluster.state.full:
            todo += self._has_room(now)
        return todo

    def store_full(self, error: ResourceExhausted, now: float) -> list[Effect]:
        """Nothing of the group in flight was stored; returns refusals. Ask for ``retry`` in a while."""
        self.is_full = True
        event = StoreFull([*self._in_flight, *self._waiting], error)
        self._in_flight = []
        todo = self.cluster.handle(event, now)
        self._waiting = event.stores
        return self._route(todo, now)

    def retry(self, now: float) -> list[Effect]:
        """Try the store again: with what waits for it, or else with whatever comes."""
        self.is_full = False
        return [] if self._waiting else self._has_room(now)

    def _has_room(self, now: float) -> list[Effect]:
        return self._route(self.cluster.handle(StoreHasRoom(), now), now)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waiting for the store."""
        return not self._in_flight and not self._waiting

    def _route(self, effects: list[Effect], now: float) -> list[Effect]:
        """Keep the durable stores, do the volatile ones, pass the rest on, in order.

        What follows from a commit comes after everything that the event itself caused, however soon
        the commit is: an executor must hear of its last tasks before it is told to leave.
        """
        out: list[Effect] = []
        done: list[Store] = []
        for effect in effects:
            if type(effect) is not Store:
                out.append(effect)
            elif effect.volatile:
                if type(effect.record) is not Barrier:
                    self._commit_volatile((effect.record,))
                if effect.cause is not None:
                    done.append(effect)
            else:
                self._waiting.append(effect)
        if done:
            out += self._route(self.cluster.handle(Committed(done), now), now)
        return out
