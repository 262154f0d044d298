"""Everything scheduling knows, kept sorted between two plans, so that a small change costs little.

    put_tenants, put_wish, put_machine, put_holding, … ──▶ Ledger ◀──reads── Scheduler.plan

The core reports facts as they change. A plan marks what it expects to come of its steps; what the core
then reports replaces the expectation, and what it did not do is forgotten at the next plan.
"""

from dataclasses import replace

from flame.model.ids import ExecutorId, NodeName, SessionNumber
from flame.model.resources import Resources
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.planting import Planted
from flame.scheduling.policies import Policies
from flame.scheduling.rooms import Room
from flame.scheduling.tree import Leaf


class Ledger(Planted):
    """The cluster as the scheduler sees it: facts come in here."""

    def __init__(
        self, policies: Policies | None = None, *, max_executors: int | None = None
    ) -> None:
        super().__init__(policies, max_executors=max_executors)
        self.put_tenants([])

    # --- sessions --------------------------------------------------------------------------------

    def put_wish(self, wish: Wish) -> None:
        """A session wants something, or something else than before."""
        leaf = self.leaves.get(wish.session)
        if leaf is None:
            leaf = self._plant(wish)
            self.circumstances += 1
        elif leaf.wish == wish:
            return
        else:
            was_hungry = leaf.hungry
            old, leaf.wish = leaf.wish, wish
            if leaf.hungry is not was_hungry or leaf.surplus:
                self.circumstances += 1
            if (old.tenant, old.order, old.request, old.priority, old.batch_size, old.requires) != (
                wish.tenant,
                wish.order,
                wish.request,
                wish.priority,
                wish.batch_size,
                wish.requires,
            ):
                self.circumstances += 1
                leaf.wish = old
                self.forget_promises(leaf)
                self._uproot(leaf)
                leaf.wish = wish
                self._replant(leaf)
        self._touch(leaf.parent)
        self.tree.place(leaf)
        self._note_surplus(leaf)
        for node in leaf.promises:
            self.changed[node] = self.rooms.by_node[node]

    def drop_wish(self, session: SessionNumber) -> None:
        """The session is over. Its executors' holdings are reported on their own."""
        leaf = self.leaves.get(session)
        if leaf is None:
            return
        self.circumstances += 1
        self.forget_promises(leaf)
        self._forget_expected(leaf)
        kept, leaf.kept = leaf.kept, 0
        self.tree.charge(leaf, -kept)
        self._uproot(leaf)
        for node in leaf.rooms:
            room = self.rooms.by_node.get(node)
            if room is not None:
                room.kept.pop(session, None)
        del self.leaves[session]
        self.surplus.pop(session, None)
        self.expecting.pop(session, None)
        if self.line is leaf:
            self.line = None

    # --- nodes -----------------------------------------------------------------------------------

    def put_machine(self, machine: Machine) -> None:
        """A node is ready, or is another than it was."""
        room = self.rooms.by_node.get(machine.node)
        if room is None:
            room = Room(machine, machine.capacity, machine.capacity)
            self.total = self.total + machine.capacity
            self.rooms.add(room)
        elif room.machine == machine:
            return
        else:
            gained = machine.capacity - room.machine.capacity
            self.total = self.total + gained
            self.rooms.remove(room)
            room.machine = machine
            room.free, room.open = room.free + gained, room.open + gained
            self.rooms.add(room)
        self._reprice = True
        self.circumstances += 1
        self._roomier(room)

    def drop_machine(self, node: NodeName) -> None:
        """A node is not ready any more. Executors there still count until they are dropped."""
        room = self.rooms.by_node.get(node)
        if room is None:
            return
        self.circumstances += 1
        for session in list(room.promises):
            self.forget_promises(self.leaves[session])
        self.rooms.remove(room)
        self.total = self.total - room.machine.capacity
        for places in (self.changed, self.returning, self.with_idle):
            places.pop(node, None)
        self._grown.pop(node, None)
        self._coming.pop(node, None)
        for session in room.kept:
            leaf = self.leaves[session]
            count = leaf.rooms.pop(node, 0)
            leaf.kept -= count
            self.tree.charge(leaf, -count)
            self.slots.expected -= leaf.expected.pop(node, 0)
        for executor in [e for e, h in self.holdings.items() if h.node == node]:
            self._count_slot(self.holdings.pop(executor), -1)
        for idle in room.idle.values():
            self.warm.discard(idle)
            self._note_own(idle)
        self._reprice = True

    # --- executors -------------------------------------------------------------------------------

    def put_holding(self, holding: Holding) -> None:
        """An executor is there, or has another session or fate than before."""
        old = self.holdings.get(holding.executor)
        if old == holding:
            return
        room = self.rooms.by_node.get(holding.node)
        if room is None:
            return  # its node is not ready; it is reported again when that is
        if old is None:
            if not self._was_expected(holding):
                self.occupy(room, holding.resources)
                self._keep(holding, room, 1)
        else:
            if holding.leaving and not old.leaving:
                self._was_asked(old)
            self._keep(old, room, -1)
            self._keep(holding, room, 1)
            self._count_slot(old, -1)
        self._count_slot(holding, 1)
        self.holdings[holding.executor] = holding
        self._note_room(room)

    def drop_holding(self, executor: ExecutorId) -> None:
        """The executor is gone; its room is free."""
        holding = self.holdings.pop(executor, None)
        room = self.rooms.by_node.get(holding.node) if holding is not None else None
        if holding is None:
            return
        self._count_slot(holding, -1)
        if room is None:
            return
        if not holding.leaving and not self._was_asked(holding):
            self.circumstances += 1  # nobody told it to leave
        self._keep(holding, room, -1)
        left = room.free + holding.resources
        room.open = left if room.open == room.free else room.open + holding.resources
        room.free = left
        self.rooms.update(room)
        self._roomier(room)
        self._note_room(room)

    def reuse(self, leaf: Leaf, idle: Holding) -> None:
        """Count a warm executor that the core is about to bind to the session."""
        self.put_holding(replace(idle, session=leaf.wish.session, standby=None))

    def _count_slot(self, holding: Holding, sign: int) -> None:
        self.slots.taken += sign
        if holding.leaving:
            self.slots.leaving += sign

    def _keep(self, holding: Holding, room: Room, sign: int) -> None:
        if holding.leaving:
            room.leaving = (
                room.leaving + holding.resources if sign > 0 else room.leaving - holding.resources
            )
            self.changed[room.machine.node] = room
            self.note_coming(room)
            branch = self.branches.get(holding.tenant)
            if branch is not None:
                branch.leaving = (
                    branch.leaving + holding.resources
                    if sign > 0
                    else branch.leaving - holding.resources
                )
        elif holding.session is None:
            if sign > 0:
                room.idle[holding.executor] = holding
                self.warm.add(holding)
                self._note_own(holding)
                self._roomier(room)
            else:
                room.idle.pop(holding.executor, None)
                self.warm.discard(holding)
                self._note_own(holding)
        else:
            leaf = self.leaves.get(holding.session)
            if leaf is not None:
                self.hold(leaf, room, sign)

    def _note_own(self, idle: Holding) -> None:
        leaf = self.leaves.get(idle.standby) if idle.standby is not None else None
        if leaf is not None:
            leaf.standing_by = self.warm.count_of(leaf.wish.session)
            self.tree.note_ready(leaf)

    def _note_room(self, room: Room) -> None:
        node = room.machine.node
        for places, there in ((self.returning, room.leaving), (self.with_idle, room.idle)):
            if there and there != Resources():
                places[node] = room
            else:
                places.pop(node, None)
