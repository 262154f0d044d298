"""Everything scheduling knows, kept sorted between two plans, so that a small change costs little.

    put_tenants, put_wish, put_machine, put_holding, … ──▶ Ledger ◀──reads── Scheduler.plan

The core reports facts as they change. A plan marks what it expects to come of its steps; what the core
then reports replaces the expectation, and what it did not do is forgotten at the next plan.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from flame.model.ids import DEFAULT_TENANT, ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.resources import UNIT, Resources
from flame.model.tenants import DEFAULT_SPEC, TenantSpec
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.policies import Policies
from flame.scheduling.rooms import Room, Rooms
from flame.scheduling.sharing import WHOLE
from flame.scheduling.slots import Slots
from flame.scheduling.tree import Branch, Leaf, Shape, Standing, Tree
from flame.scheduling.warm import Warm

Key = TypeVar("Key", NodeName, SessionNumber)
_ROOT = TenantSpec(Tenant(""))


class Ledger:
    """The cluster as the scheduler sees it.

    Attributes:
        total: What all nodes have together.
        leaves: Sessions.
        branches: Tenants.
        rooms: Nodes.
        warm: Executors that serve nobody.
        changed: Nodes on which something happened since the last plan.
        slots: How many executors there may be.
        line: The session that room is kept free for although it is not on its way, if any.
        circumstances: How often something changed that is no consequence of a plan: who wants more,
            what there is, whose turn it is.
        others_share: Whether other tenants have sessions than when turns were last looked at.
    """

    def __init__(
        self, policies: Policies | None = None, *, max_executors: int | None = None
    ) -> None:
        self.policies = policies or Policies()
        self.slots = Slots(max_executors)
        self.tree = Tree(self.policies.sharing)
        self.total = Resources()
        self.leaves: dict[SessionNumber, Leaf] = {}
        self.root = Branch(_ROOT, -1, None)
        self.branches: dict[Tenant, Branch] = {}
        self.rooms = Rooms(spread=self.policies.spread)
        self.warm = Warm()
        self.holdings: dict[ExecutorId, Holding] = {}
        self.changed: dict[NodeName, Room] = {}
        self.returning: dict[NodeName, Room] = {}
        self.with_idle: dict[NodeName, Room] = {}
        self.surplus: dict[SessionNumber, Leaf] = {}
        self.tiers: dict[int, int] = {}  # sessions in each
        self.expecting: dict[SessionNumber, Leaf] = {}
        self.line: Leaf | None = None
        self.growths = 0  # how often a node got more room
        self._grown: dict[NodeName, tuple[int, Room]] = {}  # the latest last
        self.comings = 0  # how often a node got more room, or is to get it
        self._coming: dict[NodeName, tuple[int, Room]] = {}  # the latest last
        self.any_guarantee = self.any_withheld = False
        self.others_share = False
        self.circumstances = 0
        self._asked: dict[SessionNumber, int] = {}  # executors that the last plan had leave
        self._shapes: dict[object, Shape] = {}
        self._reprice = False
        self.put_tenants([])

    # --- tenants ---------------------------------------------------------------------------------

    def put_tenants(self, specs: Iterable[TenantSpec]) -> None:
        """Replace the tree. ``specs`` were checked: parents come first."""
        self.circumstances += 1
        wishes = [leaf.wish for leaf in self.leaves.values()]
        balances = {name: branch.balance for name, branch in self.branches.items()}
        self.root = Branch(_ROOT, -1, None)
        self.branches, self.tiers = {}, {}
        self.tree.clear()
        for spec in specs:
            self._add_branch(spec)
        if DEFAULT_TENANT not in self.branches:
            self._add_branch(DEFAULT_SPEC)
        for branch in reversed(list(self.branches.values())):
            _settle_guarantee(branch)
        self.any_guarantee = any(b.guaranteed is not None for b in self.branches.values())
        self.any_withheld = any(not b.spec.lends for b in self.branches.values())
        for name, balance in balances.items():
            if name in self.branches:
                self.put_balance(name, balance / WHOLE)
        for wish in wishes:
            self._replant(self.leaves[wish.session])

    def _add_branch(self, spec: TenantSpec) -> Branch:
        parent = self.branches.get(spec.parent) if spec.parent is not None else self.root
        # Whatever the order of reports, the same name has the same order.
        order = -1 - int.from_bytes(spec.name.encode(), "big")
        branch = Branch(spec, order, parent or self.root)
        (parent or self.root).children.append(branch)
        self.branches[spec.name] = branch
        if spec.quota is not None or spec.ceiling is not None:
            branch.amount = Resources()
        return branch

    def put_balance(self, of: Tenant | SessionNumber, share: float) -> None:
        """Note how much more (or less, below zero) somebody had than it deserved, decayed.

        ``share`` is a part of the cluster; :mod:`flame.scheduling.usage` keeps it. A tenant's that is
        less than half an executor is left to its turns: it would tip the scales at every look.
        """
        if isinstance(of, str):
            branch = self.branches.get(of)
            if branch is not None and branch.balance != share * WHOLE:
                branch.balance = share * WHOLE
                branch.tips = branch.balance if abs(branch.balance) >= self.tree.unit / 2 else 0.0
                if abs(branch.tips - branch.tipped) >= self.tree.unit / 2:
                    branch.tipped = branch.tips
                    self.circumstances += 1
                self.tree.recount(branch, 0)
            return
        leaf = self.leaves.get(of)
        if leaf is not None:
            leaf.tips = share * WHOLE
            self._touch(leaf.parent)
            self.tree.place(leaf)

    def put_standing(self, of: Tenant | SessionNumber, standing: Standing) -> None:
        """Note where a tenant stands among its siblings, or a session in its tenant."""
        child = self.branches.get(of) if isinstance(of, str) else self.leaves.get(of)
        if child is None or child.standing == standing:
            return
        if child.standing.turn is not standing.turn:
            self.circumstances += 1
        child.standing = standing
        if isinstance(child, Leaf):
            self._touch(child.parent)
            self.tree.place(child)
        else:
            self.tree.recount(child, 0)

    def _forget_turns(self) -> None:
        """Others share than before, so that what was deserved means nothing any more."""
        self.others_share = True
        for branch in self.branches.values():
            if branch.standing.owed is not None:
                branch.standing = Standing()
                self.tree.recount(branch, 0)

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

    def _plant(self, wish: Wish) -> Leaf:
        tier = self.policies.tier(wish)
        leaf = Leaf(wish, tier, self._branch_of(wish), self._shape(wish), 1)
        self.leaves[wish.session] = leaf
        self._replant(leaf)
        return leaf

    def _replant(self, leaf: Leaf) -> None:
        wish = leaf.wish
        leaf.parent, leaf.shape = self._branch_of(wish), self._shape(wish)
        leaf.tier = self.policies.tier(wish)
        leaf.price = self.policies.sharing.price(wish.request, self.total)
        leaf.entry = None
        if not leaf.parent.leaves:
            self._forget_turns()
        leaf.parent.leaves[wish.order] = leaf
        self.tiers[leaf.tier] = self.tiers.get(leaf.tier, 0) + 1
        self.tree.charge(leaf, leaf.taken)

    def _uproot(self, leaf: Leaf) -> None:
        self.tree.remove(leaf)
        self.tree.charge(leaf, -leaf.taken)
        self.tree.remove(leaf)
        leaf.parent.keeping.pop(leaf.wish.order, None)
        del leaf.parent.leaves[leaf.wish.order]
        if not leaf.parent.leaves:
            self._forget_turns()
        self.tiers[leaf.tier] -= 1
        if not self.tiers[leaf.tier]:
            del self.tiers[leaf.tier]

    def _branch_of(self, wish: Wish) -> Branch:
        if not self.policies.sharing.by_tenant:
            return self.root
        return self._branch_named(wish.tenant)

    def _branch_named(self, name: Tenant) -> Branch:
        """Return the tenant's branch; one that nobody defined has weight 1, as those above it."""
        branch = self.branches.get(name)
        if branch is None:
            spec = TenantSpec(name)
            if spec.parent is not None:
                self._branch_named(spec.parent)
            branch = self._add_branch(spec)
        return branch

    def _shape(self, wish: Wish) -> Shape:
        key = (wish.request, wish.batch_size, wish.requires)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(wish.request, wish.batch_size, wish.requires)
        return shape

    def _touch(self, branch: Branch | None) -> None:
        while branch is not None:
            self.tree.touched[branch.order] = branch
            branch = branch.parent

    def _note_surplus(self, leaf: Leaf) -> None:
        if leaf.surplus:
            self.surplus[leaf.wish.session] = leaf
        else:
            self.surplus.pop(leaf.wish.session, None)

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

    def _roomier(self, room: Room) -> None:
        """The node has more room than before: what was not found may be found there."""
        node = room.machine.node
        self.changed[node] = room
        self.growths += 1
        self._grown.pop(node, None)  # to the end
        self._grown[node] = (self.growths, room)
        self.note_coming(room)

    def note_coming(self, room: Room) -> None:
        """More of the node is free, is on its way back, or is taken by somebody who serves nobody."""
        node = room.machine.node
        self.comings += 1
        self._coming.pop(node, None)  # to the end
        self._coming[node] = (self.comings, room)

    def spare_since(self, coming: int) -> list[Room]:
        """Return nodes with room that is on its way back, then those with idle executors.

        Only those of which more was to come after so many ``comings``.
        """
        names: list[NodeName] = []
        for number, room in reversed(self._coming.values()):
            if number <= coming:
                break
            names.append(room.machine.node)
        names.sort()
        return [
            places[node]
            for places in (self.returning, self.with_idle)
            for node in names
            if node in places
        ]

    def is_blocked(self, shape: Shape) -> bool:
        """Whether nothing will be found for such sessions; only nodes that grew are looked at."""
        since = shape.blocked_at
        if since < 0:
            return False
        if since == self.growths:
            return True
        for growth, room in reversed(self._grown.values()):
            if growth <= since:
                break
            if self.rooms.suits(shape, room) and (
                shape.request.fits_in(room.open)
                or any(i.reusable and i.resources == shape.request for i in room.idle.values())
            ):
                return False
        shape.blocked_at = self.growths
        return True

    def blocked(self) -> dict[Shape, None]:
        """Return the shapes for which nothing will be found. Sessions are many; their shapes are few."""
        return {shape: None for shape in self.tree.wanted if self.is_blocked(shape)}

    def with_warm(self) -> dict[int, None]:
        """Return the orders of tenants below which somebody may have a warm executor as it is."""
        found: dict[int, None] = {}
        for tenant in self.warm.of_tenant:
            branch: Branch | None = self.branches.get(tenant)
            while branch is not None and branch.order not in found:
                found[branch.order] = None
                branch = branch.parent
        return found

    def reprice(self) -> None:
        """Bring prices up to date, if the cluster's size changed."""
        if not self._reprice:
            return
        self._reprice = False
        price_of: dict[Resources, int] = {}
        unit = self.policies.sharing.price(UNIT, self.total)
        if unit != self.tree.unit:
            self.tree.unit = unit
            self.tree.sort_again(self.branches.values())
        for leaf in self.leaves.values():
            request = leaf.wish.request
            price = price_of.get(request)
            if price is None:
                price = price_of[request] = self.policies.sharing.price(request, self.total)
            if price != leaf.price:
                difference = (price - leaf.price) * leaf.taken
                leaf.price = price
                self.tree.place(leaf)
                self.tree.recount(leaf.parent, difference)

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
        room.free, room.open = room.free + holding.resources, room.open + holding.resources
        self.rooms.update(room)
        self._roomier(room)
        self._note_room(room)

    def reuse(self, leaf: Leaf, idle: Holding) -> None:
        """Count a warm executor that the core is about to bind to the session."""
        self.put_holding(replace(idle, session=leaf.wish.session, standby=None))

    def occupy(self, room: Room, amount: Resources) -> None:
        """Take room for an executor."""
        room.free, room.open = room.free - amount, room.open - amount
        self.rooms.update(room)

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

    def hold(self, leaf: Leaf, room: Room, count: int) -> None:
        """Count executors that the session has on the node."""
        session, node = leaf.wish.session, room.machine.node
        _count(leaf.rooms, node, count)
        _count(room.kept, session, count)
        leaf.kept += count
        self.tree.charge(leaf, count)
        if leaf.kept + leaf.promised > leaf.wish.wanted or session in self.surplus:
            self._note_surplus(leaf)

    def _note_room(self, room: Room) -> None:
        node = room.machine.node
        for places, there in ((self.returning, room.leaving), (self.with_idle, room.idle)):
            if there and there != Resources():
                places[node] = room
            else:
                places.pop(node, None)

    # --- what a plan expects ---------------------------------------------------------------------

    def expect(self, leaf: Leaf, room: Room) -> None:
        """Count an executor that the core is about to make."""
        self.occupy(room, leaf.wish.request)
        self.hold(leaf, room, 1)
        node = room.machine.node
        leaf.expected[node] = leaf.expected.get(node, 0) + 1
        self.slots.expected += 1
        self.expecting[leaf.wish.session] = leaf

    def _was_expected(self, holding: Holding) -> bool:
        leaf = self.leaves.get(holding.session) if holding.session is not None else None
        if leaf is None or holding.leaving or not leaf.expected.get(holding.node):
            return False
        leaf.expected[holding.node] -= 1
        self.slots.expected -= 1
        return True

    def ask(self, leaf: Leaf, count: int) -> None:
        """Expect that executors of the session leave, as they are about to be told."""
        session = leaf.wish.session
        self._asked[session] = self._asked.get(session, 0) + count

    def _was_asked(self, holding: Holding) -> bool:
        """Whether one of the session's was expected to leave; it is no longer."""
        session = holding.session or holding.standby
        left = self._asked.get(session, 0) if session is not None else 0
        if session is not None and left:
            self._asked[session] = left - 1
        return left > 0

    def forget_expectations(self) -> None:
        """Undo what the last plan expected and the core did not do."""
        self._asked.clear()
        for leaf in self.expecting.values():
            self._forget_expected(leaf)
        self.expecting.clear()

    def _forget_expected(self, leaf: Leaf) -> None:
        for node, count in leaf.expected.items():
            room = self.rooms.by_node.get(node)
            self.slots.expected -= count
            if count and room is not None:
                self.hold(leaf, room, -count)
                amount = leaf.wish.request * count
                room.free, room.open = room.free + amount, room.open + amount
                self.rooms.update(room)
                self._roomier(room)
        leaf.expected.clear()

    def promise(self, leaf: Leaf, room: Room, count: int, *, counts: bool = True) -> None:
        """Set room aside for the session (or give it up, with a negative count)."""
        session, node = leaf.wish.session, room.machine.node
        _count(leaf.promises, node, count)
        _count(room.promises, session, count)
        room.open = room.open - leaf.wish.request * count
        self.slots.promised += count
        self.rooms.update(room)
        if count < 0:
            self._roomier(room)
        if counts:
            leaf.promised += count
            self.tree.charge(leaf, count)

    def keep_line(self, leaf: Leaf, places: Mapping[NodeName, int]) -> None:
        """Keep so many places for the session, of what is not on its way yet."""
        self.line = leaf
        for node, count in places.items():
            self.promise(leaf, self.rooms.by_node[node], count, counts=False)

    def forget_promises(self, leaf: Leaf) -> None:
        """Give up all room that is set aside for the session."""
        for node, count in list(leaf.promises.items()):
            self.promise(leaf, self.rooms.by_node[node], -count, counts=leaf is not self.line)
        if self.line is leaf:
            self.line = None


def _count(places: dict[Key, int], key: Key, change: int) -> None:
    left = places.get(key, 0) + change
    if left:
        places[key] = left
    else:
        places.pop(key, None)


def _settle_guarantee(branch: Branch) -> None:
    """A tenant is guaranteed its quota, or what its children are."""
    needed = Resources()
    for child in branch.children:
        if child.guaranteed is not None:
            needed = needed + child.guaranteed
    branch.guaranteed = branch.spec.quota or (needed if needed != Resources() else None)
    if branch.guaranteed is not None and branch.amount is None:
        branch.amount = Resources()
