"""Deadlines: set, moved, cleared, due in order."""

from hypothesis import given
from hypothesis import strategies as st

from flame.core.deadlines import Deadlines, Key

KEYS: list[Key] = [("idle", "a"), ("idle", "b"), ("close", 1)]


def test_keys_come_up_in_the_order_of_their_times() -> None:
    d = Deadlines()
    d.set(KEYS[0], 3.0)
    d.set(KEYS[1], 1.0)
    d.set(KEYS[2], 2.0)
    assert d.next() == 1.0
    assert d.pop_due(2.5) == [KEYS[1], KEYS[2]]
    assert d.next() == 3.0


def test_setting_and_clearing_for_ever_needs_no_memory() -> None:
    """An executor's idle deadline is set and cleared with every task of a sequential caller."""
    d = Deadlines()
    for now in range(10_000):
        d.set(KEYS[0], now + 30.0)
        d.clear(KEYS[0])
        d.pop_due(float(now))
    assert len(d._heap) < 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from(KEYS), st.sampled_from(["set", "clear", "pop"]), st.integers(0, 20)
        )
    )
)
def test_deadlines_are_like_a_plain_table(
    steps: list[tuple[Key, str, int]],
) -> None:
    d = Deadlines()
    table: dict[Key, float] = {}
    for key, what, when in steps:
        if what == "set":
            d.set(key, when)
            table[key] = when
        elif what == "clear":
            d.clear(key)
            table.pop(key, None)
        else:
            due = d.pop_due(when)
            expected = [k for k, t in table.items() if t <= when]
            assert sorted(map(str, due)) == sorted(map(str, expected))
            assert [table[k] for k in due] == sorted(table[k] for k in due)
            for k in due:
                del table[k]
        assert d.next() == min(table.values(), default=None)
