"""Timeouts and deadlines of single tasks, through the whole cluster."""

import asyncio
import time

import pytest

import flame
from flame import aio
from flame.model.errors import InvalidRequest, TaskTimedOut
from flame.model.specs import EventCode
from flame.sdk.local_cluster import LocalCluster

FINISH = 60.0


def nap(value: bytes) -> bytes:
    time.sleep(float(value))
    return value


def test_a_task_may_have_a_timeout_and_a_deadline_of_its_own(cluster: LocalCluster) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(nap, max_instances=1)
        short = session.run(b"30", timeout=0.2)
        waits = session.run(b"0", deadline=0.05)
        free = session.run(b"0.3")
        with pytest.raises(TaskTimedOut, match=r"0\.2 s") as ran:
            short.result(FINISH)
        assert ran.value.code == EventCode.TIMED_OUT
        with pytest.raises(TaskTimedOut, match="its own deadline") as waited:
            waits.result(FINISH)
        assert waited.value.code == EventCode.DEADLINE_PASSED
        assert free.result(FINISH) == b"0.3"
        for limits in ({"timeout": 0.0}, {"deadline": -1.0}, {"timeout": "soon"}):
            with pytest.raises(InvalidRequest, match="must be a number of seconds"):
                session.run(b"0", **limits)
        session.close(cancel_running=True)


def test_a_long_task_may_be_given_more_time_than_its_session_gives(cluster: LocalCluster) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(nap, task_timeout=0.1)
        assert session.run(b"0.4", timeout=20.0).result(FINISH) == b"0.4"
        session.close()


async def test_the_asyncio_face_has_them_too(cluster: LocalCluster) -> None:
    async with await aio.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = await client.create_session(nap)
        future = await session.submit(b"30", timeout=0.2)
        with pytest.raises(TaskTimedOut, match=r"0\.2 s"):
            await asyncio.wait_for(future, FINISH)
        await session.close(cancel_running=True)
