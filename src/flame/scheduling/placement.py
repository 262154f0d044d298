"""Which of the nodes that have room: one score, the sum of named terms.

    term        value                                    weight
    preferred   part of the preferred labels it has,     4
                each by the weight that its session gave
    locality    part of the session's data it holds      2
    room        how empty it is (spread), or full (pack) 1

Labels that are required decide who is looked at, not how well they score.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flame.model.ids import NodeName
from flame.model.labels import Labels
from flame.scheduling.facts import Wish


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each term counts."""

    preferred: float = 4.0
    locality: float = 2.0
    room: float = 1.0


WEIGHTS = Weights()


def terms(
    wish: Wish, node: NodeName, labels: Labels, emptiness: float, *, spread: bool
) -> dict[str, float]:
    """Return every term from 0 to 1. ``emptiness`` is the free part of the node's scarcest resource."""
    wanted = sum([weight for _, _, weight in wish.prefers])
    there = sum([weight for name, value, weight in wish.prefers if (name, value) in labels])
    return {
        "preferred": there / wanted if wanted else 0.0,
        "locality": wish.locality.get(node, 0.0),
        "room": emptiness if spread else 1.0 - emptiness,
    }


def score(values: Mapping[str, float], weights: Weights = WEIGHTS) -> float:
    """Return how good the node is for the session."""
    return (
        values["preferred"] * weights.preferred
        + values["locality"] * weights.locality
        + values["room"] * weights.room
    )
