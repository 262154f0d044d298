"""Volumes and locations as clients write them."""

import pytest

from flame.model.errors import InvalidRequest
from flame.model.volumes import MAX_PATH, MAX_VOLUMES, Volume, check_location, check_volumes


def test_services_find_a_volume_in_a_variable() -> None:
    assert Volume("raw-data", "/srv").variable == "FLAME_VOLUME_RAW_DATA"


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([Volume("", "/a")], "cannot name one"),
        ([Volume("A", "/a")], "cannot name one"),
        ([Volume("a/b", "/a")], "cannot name one"),
        ([Volume("a", "")], "absolute path"),
        ([Volume("a", "srv")], "absolute path"),
        ([Volume("a", "/a\0b")], "absolute path"),
        ([Volume("a", "/" + "é" * (MAX_PATH // 2))], "absolute path"),
        ([Volume("a-b", "/a"), Volume("a_b", "/b")], "twice"),
        ([Volume(f"v{i}", "/a") for i in range(MAX_VOLUMES + 1)], "at most 16"),
    ],
)
def test_a_volume_that_cannot_be_is_named(volumes: list[Volume], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_volumes(volumes)


@pytest.mark.parametrize(
    "location", ["", "data", "data/x", "data/2024/part-7", "a-b/..x/y..", "a/é"]
)
def test_a_location_is_a_volume_and_a_path_on_it(location: str) -> None:
    assert check_location(location, "input_location") == location


@pytest.mark.parametrize(
    "location",
    [
        "/data",
        "data/",
        "data//x",
        "data/..",
        "data/../x",
        "data/./x",
        "../x",
        "a/x\0",
        "a/" + "x" * MAX_PATH,
    ],
)
def test_a_location_does_not_lead_out_of_its_volume(location: str) -> None:
    with pytest.raises(InvalidRequest, match="input_location is"):
        check_location(location, "input_location")
