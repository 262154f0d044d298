"""What there is, who has it, and where more of it has become free: sums that every fact corrects."""

from typing import TypeVar

from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.resources import UNIT, Resources
from flame.model.tenants import TenantSpec
from flame.scheduling.facts import Holding
from flame.scheduling.policies import Policies
from flame.scheduling.rooms import Room, Rooms
from flame.scheduling.slots import Slots
from flame.scheduling.tree import Branch, Leaf, Shape, Tree
from flame.scheduling.warm import Warm

Key = TypeVar("Key", NodeName, SessionNumber)
ROOT = TenantSpec(Tenant(""))


class Counts:
    """The cluster, counted.

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
        self.root = Branch(ROOT, -1, None)
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

    def occupy(self, room: Room, amount: Resources) -> None:
        """Take room for an executor."""
        left = room.free - amount
        # Mostly nothing is promised, and both are the same.
        room.open = left if room.open is room.free else room.open - amount
        room.free = left
        self.rooms.update(room)

    def hold(self, leaf: Leaf, room: Room, count: int) -> None:
        """Count executors that the session has on the node."""
        session, node = leaf.wish.session, room.machine.node
        count_at(leaf.rooms, node, count)
        count_at(room.kept, session, count)
        leaf.kept += count
        self.tree.charge(leaf, count)
        if leaf.kept + leaf.promised > leaf.wish.wanted or session in self.surplus:
            self._note_surplus(leaf)

    def _note_surplus(self, leaf: Leaf) -> None:
        if leaf.surplus:
            self.surplus[leaf.wish.session] = leaf
        else:
            self.surplus.pop(leaf.wish.session, None)

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


def count_at(places: dict[Key, int], key: Key, change: int) -> None:
    left = places.get(key, 0) + change
    if left:
        places[key] = left
    else:
        places.pop(key, None)
