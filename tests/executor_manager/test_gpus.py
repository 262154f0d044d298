"""Which GPUs executors are given."""

import asyncio

import pytest

from flame.executor_manager import gpus
from flame.executor_manager.gpus import Gpus, device_variables
from flame.model.errors import ResourceExhausted

A, B, C = ("a", 1), ("b", 2), ("c", 3)


async def test_no_two_that_are_known_share_one() -> None:
    known = [A, B]
    pool = Gpus(["0", "1", "GPU-x"], lambda: known)
    assert await pool.take(A, 2) == ["0", "1"]
    assert await pool.take(B, 1) == ["GPU-x"]
    assert await pool.take(C, 0) == []


async def test_one_that_is_not_known_any_more_returns_its_own() -> None:
    known = [A]
    pool = Gpus(["0", "1"], lambda: known)
    await pool.take(A, 2)
    waits = asyncio.create_task(pool.take(B, 1))
    await asyncio.sleep(0)
    assert not waits.done()
    known[:] = [B]
    assert await waits == ["0"]


async def test_where_none_becomes_free_it_says_how_many_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpus, "PATIENCE", 0.0)
    pool = Gpus(["0", "1"], lambda: [A])
    await pool.take(A, 1)
    with pytest.raises(ResourceExhausted, match="2 GPUs are needed, and 1 of the 2 here are free"):
        await pool.take(B, 2)


def test_an_executor_without_gpus_sees_none() -> None:
    assert device_variables([])["CUDA_VISIBLE_DEVICES"] == ""
    assert device_variables(["2", "3"])["FLAME_GPU_IDS"] == "2,3"
