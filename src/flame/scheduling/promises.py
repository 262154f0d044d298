"""What a plan expects of the core, and the room that it sets aside for later ones."""

from collections.abc import Mapping

from flame.model.ids import NodeName
from flame.scheduling.counts import Counts, count_at
from flame.scheduling.facts import Holding
from flame.scheduling.rooms import Room
from flame.scheduling.tree import Leaf


class Promises(Counts):
    """Counts that are ahead of what the core has reported."""

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
        count_at(leaf.promises, node, count)
        count_at(room.promises, session, count)
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
