"""Another process takes over: by a session's name, by task ids, by submitting the same again."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import flame
from flame import aio
from flame.model.errors import NotFound, TaskCancelled, TaskFailed
from flame.model.specs import ApplicationSpec, ShimKind
from flame.sdk.child import child_environment
from flame.sdk.local_cluster import LocalCluster
from tests.e2e.services import HostileService, transform

FINISH = 60.0
TASKS = 600


def connect(cluster: LocalCluster) -> flame.Client:
    return flame.connect(cluster.endpoint, token_file=cluster.token_file)


def test_a_program_that_was_killed_is_run_again_and_nothing_is_done_twice(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    """The first run is killed after half of its submits; the second one submits everything."""
    log = tmp_path / "executions"
    with connect(cluster) as client:
        spec = ApplicationSpec(ShimKind.PYTHON, entry_point="tests.e2e.services:LoggingService")
        client.register_application("logging", spec)
    command = [sys.executable, "-c", FIRST_RUN, cluster.endpoint, str(cluster.token_file), str(log)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=child_environment()
    ) as first:
        assert first.stdout is not None
        ids = [int(line) for line in first.stdout.readline().split()]
        os.kill(first.pid, signal.SIGKILL)
    with connect(cluster) as client:
        session = client.open_session(
            "nightly", "logging", common_data=str(log).encode(), submitter="run 7"
        )
        futures = [session.run(b"task %d" % number) for number in range(TASKS)]
        for number, future in enumerate(futures):
            assert future.result(FINISH) == transform(b"task %d" % number)
        assert [future.task_id for future in futures[: len(ids)]] == ids
        info = session.info()
        assert (info.succeeded, info.pending) == (TASKS, 0)
        executed = Counter(line.split()[0] for line in log.read_text().splitlines())
        assert executed == {str(future.task_id): 1 for future in futures}
        session.close()


FIRST_RUN = """
import sys, time, flame

client = flame.connect(sys.argv[1], token_file=sys.argv[2])
session = client.open_session(
    "nightly", "logging", common_data=sys.argv[3].encode(), submitter="run 7"
)
futures = [session.run(b"task %d" % number) for number in range(300)]
futures[50].result(60.0)
session.flush()
print(*[future.task_id for future in futures], flush=True)
time.sleep(60.0)
"""


def test_results_are_collected_by_task_id_whoever_submitted_them(cluster: LocalCluster) -> None:
    with connect(cluster) as client, connect(cluster) as other:
        session = client.create_session(HostileService, name="collected")
        futures = [session.run(word) for word in (b"good", b"raise", b"good too")]
        session.flush()
        ids = [future.task_id or 0 for future in futures]
        seen = other.get_session("collected")
        assert seen.result_of(ids[0], FINISH) == transform(b"good")
        with pytest.raises(TaskFailed, match="this task was told to raise") as caught:
            seen.result_of(ids[1], FINISH)
        assert (caught.value.session, caught.value.task) == ("collected", ids[1])
        assert seen.result_of(ids[2], FINISH) == transform(b"good too")
        with pytest.raises(NotFound):
            seen.result_of(99)
        session.close()
        assert seen.result_of(ids[0]) == transform(b"good")


async def test_a_result_that_is_not_there_yet_is_waited_for(cluster: LocalCluster) -> None:
    async with await aio.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = await client.create_session("flmping", name="waited", common_data=b"30s")
        task = await session.create_task(b"x")
        other = await client.get_session("waited")
        with pytest.raises(TimeoutError):
            await other.result_of(task.id, 0.1)
        await session.close(cancel_running=True)
        with pytest.raises(TaskCancelled):
            await other.result_of(task.id, FINISH)
