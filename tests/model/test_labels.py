"""Labels as people write them."""

import pytest

from flame.model.errors import InvalidRequest
from flame.model.labels import (
    format_preferences,
    match,
    parse_labels,
    parse_preferences,
)


def test_labels_are_read_in_the_order_of_their_names() -> None:
    assert parse_labels(" zone=a, disk=ssd ") == (("disk", "ssd"), ("zone", "a"))
    assert parse_labels("") == ()


def test_a_preference_has_a_weight_of_1_unless_it_says_another() -> None:
    read = parse_preferences("zone=a,disk=ssd:20")
    assert read == (("disk", "ssd", 20), ("zone", "a", 1))
    assert parse_preferences(format_preferences(read)) == read


def test_everything_required_must_be_there() -> None:
    labels = parse_labels("zone=a,disk=ssd")
    assert match(parse_labels("zone=a"), labels)
    assert match((), ())
    assert not match(parse_labels("zone=b"), labels)
    assert not match(parse_labels("zone=a,rack=1"), labels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zone=a:0", "the weight of zone=a is 0; 1 to 1000"),
        ("zone=a:x", "the weight in 'zone=a:x' must be a whole number"),
        ("zone=a:", "must be a whole number"),
        ("zone=a,zone=a:2", "zone=a is there twice"),
        ("zone", "'zone' is not name=value"),
    ],
)
def test_a_wrong_preference_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        parse_preferences(text)


def test_no_more_than_64_labels() -> None:
    with pytest.raises(InvalidRequest, match="65 labels; at most 64"):
        parse_labels(",".join(f"l{n}=x" for n in range(65)))
