"""How many executors the whole cluster may have: a ceiling beside the room on nodes.

Where it binds, nodes have room that nobody may use. Who is owed more then gets executors as where
nodes are full: others leave, and what they leave is promised.
"""

from dataclasses import dataclass

_PLENTY = 2**60


@dataclass(slots=True)
class Slots:
    """Counts of executors.

    Attributes:
        most: The ceiling; None: there is none.
        taken: There, those on their way out included.
        leaving: Of those, on their way out.
        expected: Of the last plan, and not reported yet.
        promised: Places that are set aside.
        freed: What the plan in the making has asked to leave.
    """

    most: int | None = None
    taken: int = 0
    leaving: int = 0
    expected: int = 0
    promised: int = 0
    freed: int = 0

    @property
    def free(self) -> int:
        """How many more there may be now."""
        return _PLENTY if self.most is None else self.most - self.taken - self.expected

    @property
    def open(self) -> int:
        """How many more anybody may have: those that are promised are not anybody's."""
        return self.free - self.promised

    @property
    def coming(self) -> int:
        """The same when those on their way out are gone."""
        return self.open + self.leaving + self.freed

    @property
    def will_do(self) -> bool:
        """Whether everything that is promised is free, or on its way."""
        return self.free + self.leaving >= self.promised
