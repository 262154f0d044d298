"""Virtual time, one source of randomness, and streams that break.

Everything that happens in a simulation is an entry of one heap, ordered by (time, number), so a run is
a function of its seed. A stream delivers in order; different streams overtake each other.
"""

from collections.abc import Callable
from hashlib import sha256
from heapq import heappop, heappush
from random import Random
from typing import Any, Protocol

START = 1_000_000.0  # seconds; any time will do


class World:
    """The clock, the dice, and the story so far."""

    def __init__(self, seed: int) -> None:
        self.now = START
        self.random = Random(seed)
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._story: list[str] = []

    def after(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        """Call ``act`` in ``delay`` virtual seconds."""
        self.at(self.now + delay, act, *args)

    def at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        """Call ``act`` at a time."""
        self._number += 1
        heappush(self._heap, (when, self._number, act, args))

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Let things happen until it is so late or ``done`` says so."""
        while self._heap and self._heap[0][0] <= until and not done():
            self.now, _, act, args = heappop(self._heap)
            self.events += 1
            act(*args)

    def latency(self) -> float:
        """Return how long a message takes: mostly short, sometimes not."""
        dice = self.random
        return dice.uniform(0.0001, 0.002) if dice.random() < 0.97 else dice.uniform(0.01, 0.4)

    def note(self, *facts: object) -> None:
        """Add a line to the story."""
        self._story.append(f"{self.now - START:.6f} {' '.join(map(str, facts))}")

    def story(self, last: int | None = None) -> str:
        """Return the story, or its last lines."""
        return "\n".join(self._story[-last:] if last else self._story)

    def digest(self) -> str:
        """Return a hash of everything that happened."""
        return sha256(self.story().encode()).hexdigest()


class Peer(Protocol):
    """What has an end of a stream."""

    def received(self, stream: "Stream", message: Any) -> None:
        """A message arrived."""

    def ended(self, stream: "Stream") -> None:
        """The stream is over, as far as this end can tell."""


class Stream:
    """A connection from a peer to the manager: ordered both ways, until it breaks.

    After a break nothing more is delivered; each end learns of it at a time of its own.
    """

    def __init__(self, world: World, peer: Peer, manager: Peer) -> None:
        self.world = world
        self.broken = False
        self._ends = (peer, manager)
        self._told = [False, False]
        self._free_at = [world.now, world.now]

    def to_manager(self, message: Any) -> None:
        """Send from the peer."""
        self._send(1, message)

    def to_peer(self, message: Any) -> None:
        """Send from the manager."""
        self._send(0, message)

    def cut(self, at_once: Peer | None = None) -> None:
        """Break it; ``at_once`` knows already, the others will notice."""
        if not self.broken:
            self.broken = True
            for side, end in enumerate(self._ends):
                if end is at_once:
                    self._told[side] = True
                else:
                    self.world.after(self.world.random.uniform(0.0, 0.5), self._tell, side)

    def close(self) -> None:
        """The manager ends it: the peer is told after what was sent before."""
        self._told[1] = True
        self.world.at(self._free_at[0], self._finish)

    def _finish(self) -> None:
        self.broken = True
        self._tell(0)

    def _send(self, side: int, message: Any) -> None:
        world = self.world
        when = max(self._free_at[side], world.now + world.latency())
        self._free_at[side] = when
        world.at(when, self._deliver, side, message)

    def _deliver(self, side: int, message: Any) -> None:
        if not self.broken and not self._told[side]:
            self._ends[side].received(self, message)

    def _tell(self, side: int) -> None:
        if not self._told[side]:
            self._told[side] = True
            self._ends[side].ended(self)
