"""What a client may say of a single task."""

from typing import Any

import pytest

from flame.model.errors import InvalidRequest
from flame.model.task_notes import TaskNotes, task_notes


def test_labels_are_sorted_and_locations_kept() -> None:
    notes = task_notes({"b": "é", "a": ""}, "data/x", None)
    assert notes == TaskNotes((("a", ""), ("b", "é")), "data/x", "")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"": "x"}, "not empty"),
        ({"a": 1}, "texts"),
        ("a", "mapping"),
        ({"a": "\ud800"}, "surrogates"),
        ({"\udcff": "a"}, "surrogates"),
        ({"a": "é" * 128}, "over 256 bytes"),
        ({str(i): "" for i in range(17)}, "at most 16"),
    ],
)
def test_labels_are_few_and_short(labels: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        task_notes(labels, None, None)


def test_a_location_that_leads_out_of_its_volume_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="output_location is"):
        task_notes(None, None, "out/../../etc")
