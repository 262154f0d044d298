"""Clusters for the properties of policies: made at random, and changed by a plan."""

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.resources import GIB, Resources
from flame.scheduling.snapshot import (
    Assign,
    Evict,
    IdleExecutor,
    NodeOffer,
    Plan,
    Release,
    Reuse,
    SessionDemand,
    Snapshot,
)

UNIT = Resources(1000, GIB)
TENANT = Tenant("t")


@dataclass
class World:
    """A cluster small enough to count: where every executor is, and whose."""

    slots: dict[NodeName, int]
    sessions: dict[SessionNumber, SessionDemand]
    bound: dict[SessionNumber, list[NodeName]]
    idle: dict[ExecutorId, tuple[NodeName, str]] = field(default_factory=dict)

    def free(self, node: NodeName) -> int:
        taken = sum(nodes.count(node) for nodes in self.bound.values())
        return self.slots[node] - taken - sum(at == node for at, _ in self.idle.values())

    def snapshot(self) -> Snapshot:
        return Snapshot(
            [replace(s, bound=len(self.bound[n])) for n, s in sorted(self.sessions.items())],
            [NodeOffer(n, UNIT * self.free(n), Resources()) for n in sorted(self.slots)],
            [
                IdleExecutor(e, at, UNIT, TENANT, application)
                for e, (at, application) in sorted(self.idle.items())
            ],
            UNIT * sum(self.slots.values()),
        )

    def apply(self, plan: Plan) -> None:
        """Take every step, and let what was stopped or released end at once."""
        for step in plan:
            match step:
                case Assign(session, node):
                    assert self.free(node) > 0, f"{step}: the node is full"
                    self.bound[session].append(node)
                case Reuse(session, executor):
                    node, application = self.idle.pop(executor)
                    assert application == self.sessions[session].application
                    self.bound[session].append(node)
                case Evict(executor):
                    del self.idle[executor]
                case Release(session, count):
                    assert 0 < count <= len(self.bound[session]), f"{step}: it has fewer"
                    del self.bound[session][-count:]

    def wants(self, number: SessionNumber) -> int:
        return self.sessions[number].wanted - len(self.bound[number])


@st.composite
def worlds(draw: st.DrawFn, *, priorities: int = 2, idle: bool = True) -> World:
    slots = {NodeName(f"n{i}"): draw(st.integers(0, 4)) for i in range(draw(st.integers(1, 3)))}
    world = World(slots, {}, {})
    for index in range(1, draw(st.integers(1, 5)) + 1):
        number = SessionNumber(index)
        application = draw(st.sampled_from(["a", "b"]))
        priority = draw(st.integers(0, priorities - 1))
        wanted = draw(st.integers(0, 6))
        reserved = 0
        world.sessions[number] = SessionDemand(
            number, TENANT, application, index, priority, 1.0, UNIT, wanted, reserved, 0
        )
        world.bound[number] = []
        room = [n for n in slots if world.free(n)]
        for _ in range(draw(st.integers(0, 4))):
            room = [n for n in slots if world.free(n)]
            if room and len(world.bound[number]) < wanted:
                world.bound[number].append(draw(st.sampled_from(room)))
    for index in range(draw(st.integers(0, 2)) if idle else 0):
        room = [n for n in slots if world.free(n)]
        if room:
            at = draw(st.sampled_from(room))
            world.idle[ExecutorId(f"i{index}")] = (at, draw(st.sampled_from(["a", "b", "c"])))
    return world
