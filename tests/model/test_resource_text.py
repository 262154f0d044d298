"""Amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.model.errors import InvalidRequest
from flame.model.resource_text import parse_bytes, parse_resources
from flame.model.resources import GIB, Resources


def test_an_amount_is_read() -> None:
    assert parse_resources("cpu=1,mem=2g,gpu=0") == Resources(1000, 2 * GIB, 0)
    assert parse_resources(" CPU = 4 , memory = 512M ") == Resources(4000, GIB // 2, 0)


@given(st.integers(1, 1000), st.integers(0, 2**40), st.integers(0, 64))
def test_any_whole_amount_is_read_back(cpus: int, memory_bytes: int, gpus: int) -> None:
    text = f"cpu={cpus},mem={memory_bytes},gpu={gpus}"
    assert parse_resources(text) == Resources(cpus * 1000, memory_bytes, gpus)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512", 512), ("64k", 65536), ("1G", GIB), ("1gib", GIB), ("1.5m", 1572864)],
)
def test_units_are_binary(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "g", "-1", "1x", "1 2", "1e3", "one"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "keys are cpu, mem, gpu"),
        ("cpu", "keys are cpu, mem, gpu"),
        ("cpus=1", "keys are cpu, mem, gpu"),
        ("cpu=1,,gpu=1", "keys are cpu, mem, gpu"),
        ("cpu=0.0005", "number of cores"),
        ("cpu=-1", "number of cores"),
        ("fpga=0.5", "whole number"),
        ("/x=1", "keys are cpu, mem, gpu"),
        ("gpu=one", "whole number"),
        ("mem=2x", "not a size"),
        ("cpu=1,cpu=2", "twice"),
        ("cpu=0,mem=0", "asks for nothing"),
    ],
)
def test_an_amount_that_is_none_is_refused_by_name(text: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        parse_resources(text)
