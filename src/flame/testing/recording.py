"""One engine, driven by hand: events in, and everything it did recorded.

For tests of single rules. Groups are committed to a memory store at once, unless the test wants to
look in between (``commit_at_once=False``, then :meth:`Recorder.commit`).
"""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, TypeVar

from flame.core import effects
from flame.core.allocation import Planner
from flame.core.cluster import Cluster
from flame.core.records import Record
from flame.core.state import Limits, State
from flame.engine.engine import Engine
from flame.model.tenants import TenantSpec
from flame.scheduling.policies import Policies
from flame.storage.memory import MemoryStore

E = TypeVar("E")


class Recorder:
    """An engine with its store, and the effects since they were last looked at.

    Attributes:
        now: Seconds; a test moves it.
        answers: The last answer or error that each reply handle got.
        records: Every record that was committed, volatile ones included.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        policies: Policies | None = None,
        tenants: Iterable[TenantSpec] = (),
        planner: Planner | None = None,
        store: MemoryStore | None = None,
        commit_at_once: bool = True,
        now: float = 1000.0,
        first_id: int = 1,
    ) -> None:
        ids = count(first_id)
        self.now = now
        self.store = store or MemoryStore()
        self.volatile = MemoryStore()
        self.records: list[Record] = []
        self.effects: list[effects.Effect] = []
        self.answers: dict[object, Any] = {}
        self.commit_at_once = commit_at_once
        self.cluster = Cluster(
            policies or Policies(),
            lambda: f"e{next(ids)}",
            limits,
            tenants=tenants,
            planner=planner,
        )
        self.engine = Engine(self.cluster, self._commit_volatile)
        self._take(self.engine.restore(self.store.load(), now))

    @property
    def state(self) -> State:
        """The core's state, to look at."""
        return self.cluster.state

    def post(self, event: object, *, after: float = 0.0) -> None:
        """Apply an event, ``after`` seconds later than the last."""
        self.now += after
        self._take(self.engine.handle(event, self.now))

    def commit(self) -> None:
        """Commit everything that waits, and what waits because of it."""
        while (group := self.engine.take_group()) is not None:
            self.store.commit(group.records, sync=group.sync)
            self.records.extend(group.records)
            self._take(self.engine.committed(self.now), pump=False)

    def wait(self, seconds: float, tick: Callable[[], object]) -> None:
        """Let time pass, sending a Tick at every deadline on the way."""
        end = self.now + seconds
        while (due := self.cluster.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.post(tick())
        self.now = end

    def took(self, kind: type[E]) -> list[E]:
        """Return the effects of a kind since the last call, and forget them."""
        found: list[E] = [e for e in self.effects if isinstance(e, kind)]
        self.effects = [e for e in self.effects if not isinstance(e, kind)]
        return found

    def stored(self, kind: type[E]) -> list[E]:
        """Return the records of a kind that were committed."""
        return [r for r in self.records if isinstance(r, kind)]

    def _take(self, todo: list[effects.Effect], *, pump: bool = True) -> None:
        self.cluster.check()
        for effect in todo:
            if isinstance(effect, effects.Answer):
                self.answers[effect.reply] = effect.view
            elif isinstance(effect, effects.Refuse):
                self.answers[effect.reply] = effect.error
            elif isinstance(effect, effects.Done):
                self.answers[effect.reply] = "done"
            self.effects.append(effect)
        if pump and self.commit_at_once:
            self.commit()

    def _commit_volatile(self, records: Any) -> None:
        self.volatile.commit(records, sync=False)
        self.records.extend(records)
