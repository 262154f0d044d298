"""A cluster without processes: it does what plans say, and tells the ledger, as the core will."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.labels import Labels, Preferences
from flame.model.resources import GIB, Resources
from flame.model.tenants import TenantSpec, check_tree
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.ledger import Ledger
from flame.scheduling.policies import make_policy
from flame.scheduling.scheduler import Scheduler
from flame.scheduling.steps import Assign, Evict, Plan, Release, Reuse

UNIT = Resources(1000, GIB)


def tenant(
    name: str,
    weight: float = 1.0,
    *,
    quota: int | None = None,
    limit: int | None = None,
    lends: bool = True,
    borrows: bool = True,
) -> TenantSpec:
    """Quota and limit in unit executors."""
    return TenantSpec(
        Tenant(name),
        weight,
        None if quota is None else UNIT * quota,
        None if limit is None else UNIT * limit,
        lends,
        borrows,
    )


class SmallCluster:
    """Every plan is carried out; executors that are told to leave are gone when ``leave`` says so.

    ``gone_at_once``: Those that are released are gone in the same moment, as if they had not started.
    """

    def __init__(
        self,
        nodes: Sequence[int] = (),
        policies: Sequence[str] = ("priority", "fair_share"),
        tenants: Sequence[TenantSpec] = (),
        *,
        spread: bool = True,
        max_executors: int | None = None,
        gone_at_once: bool = False,
    ) -> None:
        self.gone_at_once = gone_at_once
        self.ledger = Ledger(make_policy(policies, spread=spread), max_executors=max_executors)
        self.ledger.put_tenants(check_tree(tenants).values())
        self.machines: dict[NodeName, Machine] = {}
        self.wishes: dict[SessionNumber, Wish] = {}
        self.executors: dict[ExecutorId, Holding] = {}
        self.releases: list[Release] = []
        self._made = 0
        for index, units in enumerate(nodes):
            self.node(f"n{index}", UNIT * units)

    def node(
        self, name: str, capacity: Resources, labels: Labels = (), *, cordoned: bool = False
    ) -> None:
        machine = Machine(NodeName(name), capacity, labels, cordoned)
        self.machines[machine.node] = machine
        self.ledger.put_machine(machine)

    def wish(
        self,
        session: int,
        wanted: int,
        tenant: str = DEFAULT_TENANT,
        *,
        request: Resources = UNIT,
        reserved: int = 0,
        priority: int = 0,
        weight: float = 1.0,
        batch: int = 1,
        requires: Labels = (),
        prefers: Preferences = (),
        protected: int = 0,
    ) -> None:
        wish = Wish(
            SessionNumber(session),
            Tenant(tenant),
            "app",
            session,
            request,
            wanted,
            reserved,
            priority,
            weight,
            batch,
            requires,
            prefers,
            protected=protected,
        )
        self.wishes[wish.session] = wish
        self.ledger.put_wish(wish)

    def want(self, session: int, wanted: int) -> None:
        wish = replace(self.wishes[SessionNumber(session)], wanted=wanted)
        self.wishes[wish.session] = wish
        self.ledger.put_wish(wish)

    def close(self, session: int) -> None:
        """The session ends: its executors leave."""
        number = SessionNumber(session)
        del self.wishes[number]
        for executor in [e for e in self.executors.values() if e.session == number]:
            self._put(replace(executor, leaving=True))
        self.ledger.drop_wish(number)

    def plan(self) -> Plan:
        return Scheduler().plan(self.ledger)

    def step(self) -> Plan:
        """Plan, and do it."""
        plan = self.plan()
        self.do(plan)
        return plan

    def do(self, plan: Plan) -> None:
        for step in plan:
            match step:
                case Assign(session, node):
                    wish = self.wishes[session]
                    self._made += 1
                    name = ExecutorId(f"e{self._made}")
                    self._put(Holding(name, node, wish.request, wish.tenant, "app", wish.session))
                case Reuse(session, executor):
                    self._put(replace(self.executors[executor], session=session, standby=None))
                case Evict(executor):
                    self._put(replace(self.executors[executor], leaving=True))
                case Release(session, count, node, _):
                    self.releases.append(step)
                    mine = sorted(
                        (e for e in self.kept() if e.session == session),
                        key=lambda e: (e.node != node, e.node),
                    )
                    assert len(mine) >= count, (step, mine)
                    for executor_ in mine[:count]:
                        self._put(replace(executor_, leaving=True), gone=self.gone_at_once)

    def leave(self, at_most: int | None = None) -> None:
        """Executors on their way out are gone."""
        for executor in [e for e in self.executors.values() if e.leaving][:at_most]:
            del self.executors[executor.executor]
            self.ledger.drop_holding(executor.executor)

    def settle(self, at_most: int = 60) -> int:
        """Plan and let leave until nothing changes; return how many plans that took."""
        for count in range(at_most):
            plan = self.step()
            gone = any(e.leaving for e in self.executors.values())
            self.leave()
            if not plan and not gone:
                return count
        raise AssertionError(f"still busy after {at_most} plans: {self.plan()}")

    def idle(
        self, name: str, node: str, tenant: str = DEFAULT_TENANT, size: Resources = UNIT
    ) -> None:
        """A warm executor that serves nobody."""
        self._put(Holding(ExecutorId(name), NodeName(node), size, Tenant(tenant), "app"))

    def _put(self, holding: Holding, *, gone: bool = False) -> None:
        if gone:  # it had not started, so nobody has to wait for it
            del self.executors[holding.executor]
            self.ledger.drop_holding(holding.executor)
            return
        self.executors[holding.executor] = holding
        self.ledger.put_holding(holding)

    def kept(self) -> list[Holding]:
        return [e for e in self.executors.values() if not e.leaving]

    def have(self) -> dict[int, int]:
        """Executors per session."""
        counts = Counter(int(e.session) for e in self.kept() if e.session is not None)
        return {int(s): counts[int(s)] for s in self.wishes}

    def have_of_tenants(self) -> dict[str, int]:
        return dict(Counter(str(e.tenant) for e in self.kept() if e.session is not None))

    def used(self, node: str) -> Resources:
        used = Resources()
        for executor in self.executors.values():
            if executor.node == node:
                used = used + executor.resources
        return used

    def copy(self, policies: Sequence[str] = ("priority", "fair_share")) -> Ledger:
        """A new ledger that is told the same facts."""
        ledger = Ledger(make_policy(policies, spread=self.ledger.policies.spread))
        ledger.put_tenants([b.spec for b in self.ledger.branches.values()])
        for machine in self.machines.values():
            ledger.put_machine(machine)
        for wish in self.wishes.values():
            ledger.put_wish(wish)
        for holding in self.executors.values():
            ledger.put_holding(holding)
        return ledger
