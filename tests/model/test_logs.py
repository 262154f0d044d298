"""Excerpts of what tasks write."""

from hypothesis import given
from hypothesis import strategies as st

from flame.model.logs import KEPT_HEAD, KEPT_TAIL, Excerpt, excerpt, rest_of

WHOLE = b"".join(b"%d\n" % number for number in range(30_000))


def kept(size: int) -> bytes:
    taken = Excerpt()
    taken.add(WHOLE[:size])
    return bytes(taken)


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_the_rest_is_what_was_not_seen_or_how_much_of_it_is_gone(size: int, seen: int) -> None:
    seen = min(seen, size)
    rest = rest_of(kept(size), seen)
    unseen = WHOLE[seen:size]
    if size <= KEPT_HEAD + KEPT_TAIL or seen >= size - KEPT_TAIL:
        assert rest == unseen
    elif seen <= KEPT_HEAD:
        assert rest == excerpt(unseen[: KEPT_HEAD - seen], unseen[-KEPT_TAIL:], len(unseen))
    else:
        assert rest == excerpt(b"", unseen[-KEPT_TAIL:], len(unseen))


def test_more_than_there_is_leaves_nothing() -> None:
    assert rest_of(kept(100), 200) == b""
    assert rest_of(kept(100_000), 200_000) == b""
