"""Elastic sessions over a real cluster: warm before the first task, as many as there is work for, kept a while."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

import flame
from flame.model.specs import ExecutorState
from flame.sdk.applications import application_of
from flame.sdk.local_cluster import LocalCluster
from tests.e2e.test_faults import wait_until

FINISH = 60.0
EXECUTORS = 4


class Naps(flame.FlameService):
    """Answers with its process."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        time.sleep(0.1)
        return str(os.getpid()).encode()


@pytest.fixture
def client() -> Iterator[flame.Client]:
    """Of a cluster where an executor without work would stay for ten minutes."""
    _, naps = application_of(Naps)
    with (
        LocalCluster(executors=EXECUTORS) as cluster,
        flame.connect(cluster.endpoint, token=cluster.token) as client,
    ):
        client.register_application("naps", replace(naps, delay_release=600, max_instances=3))
        yield client


def bound(client: flame.Client, session: flame.Session) -> set[str]:
    return {
        str(each.id)
        for each in client.list_executors()
        if each.session == session.name and each.state is ExecutorState.BOUND
    }


def processes(session: flame.Session, least: int) -> int:
    """How many processes serve a session that always has more tasks than those, once so many do."""
    seen: set[bytes | None] = set()
    deadline = time.monotonic() + FINISH
    settled = 2
    while settled:
        seen.update([future.result(FINISH) for future in [session.run(b"") for _ in range(12)]])
        settled -= len(seen) >= least
        assert time.monotonic() < deadline, f"{len(seen)} processes, not {least}"
    return len(seen)


def test_executors_come_with_need_stay_within_limits_and_go_when_another_session_waits(
    client: flame.Client,
) -> None:
    first = client.create_session("naps", min_instances=1)
    wait_until(lambda: len(bound(client, first)) == 1, "one is warm before the first task", FINISH)
    assert processes(first, 3) == 3, "as many as the application may have"
    kept = bound(client, first)
    assert len(kept) == 3

    second = client.create_session("naps", max_instances=2)
    assert processes(second, 2) == 2, (
        "as many as the session may have: one that was free, one given up"
    )
    assert len(bound(client, first)) == 2, "the others do not leave before their delay"
    assert bound(client, first) <= kept
    second.close()
    first.close()
