"""Shares that are no whole numbers of executors: the one that is left over goes round."""

from dataclasses import replace

import pytest

from flame.model.ids import Tenant
from flame.scheduling.deserved import Fairness, fairness
from flame.scheduling.ledger import Ledger
from flame.scheduling.sharing import WHOLE
from flame.scheduling.tree import Standing
from flame.scheduling.turns import BOUND, LOOKS, QUICK, SHORTEST, STARTS, Part, Turns
from flame.scheduling.usage import Usage
from tests.scheduling.small_cluster import SmallCluster, tenant

STEP = 0.1  # seconds between two looks, and for an executor to leave


def part(share: Fairness, ledger: Ledger) -> Part:
    """Its executors are at work as soon as it has them."""
    return Part(share.deserved, share.got, share.got, ledger.tree.unit / WHOLE)


class Sharing:
    """Tenants with endless work on a cluster whose time passes in steps."""

    def __init__(self, executors: int, weights: list[float]) -> None:
        self.names = [f"t{n}" for n in range(len(weights))]
        self.cluster = SmallCluster(
            [executors], tenants=[tenant(n, w) for n, w in zip(self.names, weights, strict=True)]
        )
        self.executors = executors
        self.now = 0.0
        self.turns: Turns[Tenant] = Turns(0.0)
        self.usage: Usage[Tenant] = Usage(0.0)
        self.got = dict.fromkeys(self.names, 0.0)  # executor-seconds
        self.moves = 0

    def join(self, name: str) -> None:
        self.cluster.wish(self.names.index(name), 1000, name)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        ledger = self.cluster.ledger
        while self.now < end - 1e-9:
            shares, _ = fairness(ledger)
            shares = {name: share for name, share in shares.items() if share.deserved > 0}
            self.usage.note(self.now, shares)
            for name, balance in self.usage.balances().items():
                ledger.put_balance(name, balance)
            self.turns.note(self.now, {n: part(s, ledger) for n, s in shares.items()})
            owed, begun = self.turns.owed(), self.turns.begun()
            for name, share in shares.items():
                ledger.put_standing(
                    Tenant(name), Standing(share.deserved * WHOLE, owed.get(name), name in begun)
                )
            before = len(self.cluster.releases)
            self.cluster.settle()
            self.moves += sum(r.count for r in self.cluster.releases[before:])
            for session, count in self.cluster.have().items():
                self.got[self.names[session]] += count * STEP
            self.now += STEP


@pytest.mark.parametrize(
    ("executors", "weights"),
    [
        (8, [3, 1]),
        (8, [1, 1, 1]),
        (8, [3, 2]),
        (8, [5, 2, 1]),
        (8, [4, 1]),
        (8, [1, 1, 1, 1, 1, 1, 1]),
        (7, [5, 3, 2, 1]),
        (3, [1, 1]),
        (16, [7, 5, 3]),
    ],
)
def test_everybody_gets_its_share_within_5_percent_in_eight_seconds(
    executors: int, weights: list[float]
) -> None:
    sharing = Sharing(executors, weights)
    for name in sharing.names:
        sharing.join(name)
    sharing.run(2.0)
    sharing.got = dict.fromkeys(sharing.names, 0.0)
    sharing.run(8.0)
    got = sharing.got
    for name, weight in zip(sharing.names, weights, strict=True):
        deserved = executors * 8.0 * weight / sum(weights)
        assert got[name] == pytest.approx(deserved, rel=0.05, abs=0.5), (name, got)
    assert sum(got.values()) > executors * 8.0 * 0.97


def test_nothing_goes_round_where_shares_are_whole() -> None:
    sharing = Sharing(8, [5, 2, 1])
    for name in sharing.names:
        sharing.join(name)
    sharing.run(1.0)
    moves = sharing.moves
    sharing.run(30.0)
    assert sharing.moves == moves


def test_turns_grow_longer_while_the_same_share() -> None:
    sharing = Sharing(8, [1, 1, 1])
    for name in sharing.names:
        sharing.join(name)
    sharing.run(20.0)
    early = sharing.moves
    sharing.run(280.0)
    before = sharing.moves
    sharing.run(20.0)
    assert sharing.moves - before < early / 3
    for seconds in sharing.got.values():
        assert seconds == pytest.approx(320.0 * 8 / 3, rel=0.05)


def test_who_comes_later_has_its_share_at_once() -> None:
    sharing = Sharing(8, [1, 1, 2])
    sharing.join("t0")
    sharing.join("t1")
    sharing.run(5.0)
    sharing.join("t2")
    sharing.cluster.settle()
    assert sharing.cluster.have_of_tenants() == {"t0": 2, "t1": 2, "t2": 4}


def behind(start: float = 0.0) -> dict[str, Part]:
    """Two that deserve three executors of ten each; one has two of them, the other four."""
    return {
        "a": Part(0.3, has=0.2, works=0.2, executor=0.1, start=start),
        "b": Part(0.3, has=0.4, works=0.4, executor=0.1, start=start),
    }


def test_a_turn_begins_when_two_are_a_turn_apart_and_is_over_halfway() -> None:
    turns: Turns[str] = Turns(0.0)
    turns.note(0.0, behind())
    assert turns.next_change() == pytest.approx(SHORTEST / 2)
    turns.note(SHORTEST * 0.49, behind())
    assert turns.begun() == {}
    turns.note(SHORTEST / 2, behind())
    assert turns.begun() == {"a": None}
    assert turns.owed() == {"a": pytest.approx(0.5), "b": pytest.approx(-0.5)}
    other_way = {"a": behind()["b"], "b": behind()["a"]}
    turns.note(SHORTEST / 2, other_way)
    assert turns.begun() == {"a": None}, "it keeps what it got"
    turns.note(SHORTEST, other_way)
    assert turns.begun() == {}


def test_what_all_of_them_lack_is_no_debt() -> None:
    turns: Turns[str] = Turns(0.0)
    halved = {name: replace(part, works=0.15, has=0.15) for name, part in behind().items()}
    turns.note(0.0, halved)
    turns.note(100.0, halved)
    assert turns.owed() == {"a": pytest.approx(0.0), "b": pytest.approx(0.0)}


def test_siblings_are_compared_with_one_another_only() -> None:
    turns: Turns[str] = Turns(0.0)
    parts = {name: replace(part, among=name) for name, part in behind().items()}
    turns.note(0.0, parts)
    turns.note(10.0, parts)
    assert turns.begun() == {}


def test_a_service_that_is_slow_to_start_has_longer_turns() -> None:
    turns: Turns[str] = Turns(0.0)
    turns.note(0.0, behind(start=3.0))
    assert turns.next_change() == pytest.approx(STARTS * (3.0 - QUICK) / 2)
    quick = Turns[str](0.0)
    quick.note(0.0, behind(start=0.2))
    assert quick.next_change() == pytest.approx(SHORTEST / 2)


def test_nobody_is_owed_more_than_two_turns() -> None:
    turns: Turns[str] = Turns(0.0)
    turns.note(0.0, behind())
    turns.note(1000.0, behind())
    assert turns.owed() == {"a": BOUND, "b": -BOUND}


def test_while_executors_start_it_is_looked_at_soon_then_less_often() -> None:
    turns: Turns[str] = Turns(0.0)
    starting = {"a": Part(0.3, has=0.3, works=0.2, executor=0.1)}
    turns.note(5.0, starting)
    assert turns.next_change() == 0.0
    turns.note(9.0, starting)
    assert turns.next_change() == pytest.approx(4.0 * LOOKS)
    turns.note(10.0, {"a": Part(0.3, has=0.3, works=0.3, executor=0.1)})
    assert turns.next_change() is None
