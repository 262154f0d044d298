"""Warm executors that serve nobody, by who could have them as they are.

Some stand by for the session that they served last: it has them back without a start, and others only
where their application lets processes be reused and there is no room for a new one. The others have no
session, and are anybody's of their tenant and application.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator

from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.scheduling.facts import Holding, Wish

_FREE, _STANDING_BY = range(2)


class Warm:
    """The idle executors, sorted by node and name for everybody who could have them."""

    def __init__(self) -> None:
        self._by_taker: dict[Hashable, list[tuple[NodeName, ExecutorId]]] = {}
        self.of_tenant: dict[Tenant, int] = {}  # how many there are of each

    def add(self, holding: Holding) -> None:
        """An executor serves nobody."""
        self.of_tenant[holding.tenant] = self.of_tenant.get(holding.tenant, 0) + 1
        for key in _takers(holding):
            insort(self._by_taker.setdefault(key, []), (holding.node, holding.executor))

    def discard(self, holding: Holding) -> None:
        """It serves somebody, or is on its way out."""
        left = self.of_tenant.pop(holding.tenant, 0) - 1
        if left > 0:
            self.of_tenant[holding.tenant] = left
        for key in _takers(holding):
            entries = self._by_taker.get(key, [])
            place = bisect_left(entries, (holding.node, holding.executor))
            if place < len(entries) and entries[place][1] == holding.executor:
                del entries[place]
                if not entries:
                    del self._by_taker[key]

    def count_of(self, session: SessionNumber) -> int:
        """How many stand by for the session."""
        return len(self._by_taker.get(session, ()))

    def ready_for(self, wish: Wish) -> Iterator[tuple[NodeName, ExecutorId]]:
        """Yield those that nobody has more right to: its own, then those without a session."""
        yield from self._by_taker.get(wish.session, ())
        yield from self._by_taker.get(_key(_FREE, wish), ())

    def of_others(self, wish: Wish) -> Iterator[tuple[NodeName, ExecutorId]]:
        """Yield those that stand by for other sessions, or for itself."""
        yield from self._by_taker.get(_key(_STANDING_BY, wish), ())

    @staticmethod
    def suits(wish: Wish, idle: Holding) -> bool:
        """Whether the session could have it as it is."""
        takers = _takers(idle)
        return wish.batch_size == 1 and (
            wish.session in takers
            or _key(_FREE, wish) in takers
            or _key(_STANDING_BY, wish) in takers
        )

    def has(self, wish: Wish) -> bool:
        """Whether there is any for the session. A gang has new ones."""
        return (
            wish.batch_size == 1
            and wish.tenant in self.of_tenant
            and (
                wish.session in self._by_taker
                or _key(_FREE, wish) in self._by_taker
                or _key(_STANDING_BY, wish) in self._by_taker
            )
        )


def _key(kind: int, of: Wish | Holding) -> Hashable:
    size = of.request if isinstance(of, Wish) else of.resources
    return (kind, of.tenant, of.application, size)


def _takers(holding: Holding) -> list[Hashable]:
    if holding.standby is None:
        return [_key(_FREE, holding)]
    return [holding.standby, *([_key(_STANDING_BY, holding)] if holding.reusable else [])]
