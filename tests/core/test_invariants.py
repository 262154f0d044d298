"""check() finds each index that is wrong, and names it."""

from collections.abc import Callable

import pytest

from flame.core.invariants import problems
from flame.core.state import State
from flame.core.task import FINISHING, QUEUED
from flame.model.resources import Resources
from tests.core.builders import Bench, running

BREAKS: dict[str, Callable[[Bench], object]] = {
    "queued is": lambda b: setattr(b.session(), "queued", 7),
    "queued_bytes": lambda b: setattr(b.session(), "queued_bytes", 7),
    "running is": lambda b: setattr(b.session(), "running", 1),
    "not both": lambda b: b.session().queue.clear(),
    "next is": lambda b: setattr(b.session(), "log_end", 9),
    "is unknown to its node": lambda b: b.state.nodes.clear(),
    "are used": lambda b: setattr(next(iter(b.state.nodes.values())), "used", Resources()),
    "serves another": lambda b: setattr(b.executor(), "session", None),
    "is QUEUED and held": lambda b: setattr(b.executor().held[1], "stage", QUEUED),  # type: ignore[index]
    "names another holder": lambda b: setattr(b.executor().held[1], "holder", None),  # type: ignore[index]
    "FINISHING": lambda b: setattr(b.executor().held[1], "stage", FINISHING),  # type: ignore[index]
    "watched": lambda b: b.session().watchers.update({99: ["w"]}),  # type: ignore[dict-item]
    "unknown to the cluster": lambda b: b.state.attachments.clear(),
    "have 0 names": lambda b: b.state.names.clear(),
    "without a lease": lambda b: b.state.deadlines.clear(("lease", "n")),
    "the ledger counts": lambda b: b.state.ledger.leaves[b.session().number].rooms.clear(),
    "is free in the ledger": lambda b: b.state.ledger.holdings.clear(),
    "next id is": lambda b: setattr(b.session(), "next_id", 2),
}


@pytest.mark.parametrize("sentence", BREAKS)
def test_a_wrong_index_is_found(sentence: str) -> None:
    b = running(4)
    b.cluster.check()
    BREAKS[sentence](b)
    assert any(sentence in problem for problem in problems(b.state)), list(problems(b.state))
    with pytest.raises(AssertionError):
        b.cluster.check()


def test_an_empty_cluster_is_sound() -> None:
    assert isinstance(Bench().state, State)
    Bench().cluster.check()
