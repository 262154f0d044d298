"""How much waits in the sessions of every tenant, and what it may be at most.

Each session adds to its tenant's backlog, and with it to those of the tenants above and of the whole
cluster: a few additions for a batch, whatever it holds.

    cluster ◀── research ◀── research/credit-risk ◀── a session's queue
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flame.model.errors import ResourceExhausted
from flame.model.ids import Tenant
from flame.model.tenants import TenantSpec


@dataclass(slots=True, eq=False)
class Backlog:
    """One tenant's, those below it included; the root is the cluster's.

    What is on its way into the store is not counted, so a limit may be passed by what clients may
    have on its way there (``Limits.submit_credit``).

    Attributes:
        above: The parent's.
        tasks: Queued: stored, and in no executor's hand.
        size: The bytes of their inputs.
        sessions: Open ones.
    """

    name: Tenant
    above: "Backlog | None" = None
    tasks: int = 0
    size: int = 0
    sessions: int = 0
    max_tasks: int | None = None
    max_size: int | None = None
    max_sessions: int | None = None

    def add(self, tasks: int, size: int) -> None:
        """Count tasks in (or out, below zero)."""
        backlog: Backlog | None = self
        while backlog is not None:
            backlog.tasks += tasks
            backlog.size += size
            backlog = backlog.above

    def add_session(self, count: int) -> None:
        """Count an open session in, or out."""
        backlog: Backlog | None = self
        while backlog is not None:
            backlog.sessions += count
            backlog = backlog.above

    def admit(self, inputs: Sequence[bytes | None]) -> tuple[int, ResourceExhausted | None]:
        """Return how many of these tasks, the first ones, may be queued, and why not all of them."""
        count, why = len(inputs), ""
        backlog: Backlog | None = self
        while backlog is not None:
            if backlog.max_tasks is not None and backlog.tasks + count > backlog.max_tasks:
                count = max(0, backlog.max_tasks - backlog.tasks)
                why = (
                    f"{backlog.whose} has {backlog.tasks} tasks queued, and at most "
                    f"{backlog.max_tasks} may be (max_queued_tasks)"
                )
            if backlog.max_size is not None:
                fitting = _fitting(inputs, count, backlog.max_size - backlog.size)
                if fitting < count:
                    count = fitting
                    why = (
                        f"{backlog.whose} has tasks queued with inputs of {backlog.size} bytes, "
                        f"and at most {backlog.max_size} may be (max_queued_bytes)"
                    )
            backlog = backlog.above
        if not why:
            return count, None
        return count, ResourceExhausted(
            f"{why}; {len(inputs) - count} tasks more were not stored: try again when some are done"
        )

    def check_session(self) -> None:
        """Refuse one session more if there may be none.

        Raises:
            ResourceExhausted: It names whose limit, and how many are open.
        """
        backlog: Backlog | None = self
        while backlog is not None:
            most = backlog.max_sessions
            if most is not None and backlog.sessions >= most:
                raise ResourceExhausted(
                    f"{backlog.whose} has {backlog.sessions} sessions open, of {most} "
                    "(max_sessions); close one first"
                )
            backlog = backlog.above

    @property
    def whose(self) -> str:
        """Whose it is, for messages."""
        return f"tenant {self.name}" if self.above is not None else "this cluster"


class Backlogs:
    """All of them."""

    def __init__(
        self,
        max_sessions: int | None = None,
        max_tasks: int | None = None,
        max_size: int | None = None,
    ) -> None:
        self.cluster = Backlog(
            Tenant(""), max_sessions=max_sessions, max_tasks=max_tasks, max_size=max_size
        )
        self.by_tenant: dict[Tenant, Backlog] = {}
        self._specs: Mapping[Tenant, TenantSpec] = {}

    def of(self, tenant: Tenant) -> Backlog:
        """Return the tenant's."""
        found = self.by_tenant.get(tenant)
        if found is None:
            parent = TenantSpec(tenant).parent
            above = self.cluster if parent is None else self.of(parent)
            found = self.by_tenant[tenant] = Backlog(tenant, above)
            self._limit(found)
        return found

    def set_limits(self, specs: Mapping[Tenant, TenantSpec]) -> None:
        """Apply what tenants may have at most from now on."""
        self._specs = specs
        for backlog in self.by_tenant.values():
            self._limit(backlog)

    def _limit(self, backlog: Backlog) -> None:
        spec = self._specs.get(backlog.name)
        backlog.max_sessions = spec.max_sessions if spec is not None else None
        backlog.max_tasks = spec.max_queued_tasks if spec is not None else None
        backlog.max_size = spec.max_queued_bytes if spec is not None else None


def _fitting(inputs: Sequence[bytes | None], count: int, room: int) -> int:
    """Return how many of the first ``count`` inputs have at most ``room`` bytes together."""
    if sum([len(i) for i in inputs[:count] if i is not None]) <= room:
        return count
    for index in range(count):
        room -= len(inputs[index] or b"")
        if room < 0:
            return index
    return count
