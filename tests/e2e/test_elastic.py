"""Elastic sessions over a real cluster: warm before the first task, as many as there is work for, kept a while."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import flame
from flame.model.specs import ExecutorState
from flame.sdk.applications import application_of
from flame.sdk.local_cluster import LocalCluster
from tests.waiting import wait_until

FINISH = 60.0
EXECUTORS = 4


class Naps(flame.FlameService):
    """Answers with its process."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        time.sleep(0.1)
        return str(os.getpid()).encode()


class Remembers(flame.FlameService):
    """Answers with how many tasks it has had; writes to the file in common data when it enters and leaves."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self.log = Path((context.common_data or b"").decode())
        self.tasks = 0
        self._write("enter")

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        self.tasks += 1
        return b"%d" % self.tasks

    def on_session_leave(self) -> None:
        self._write("leave")

    def _write(self, word: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{word}\n")


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


def standing_by(client: flame.Client) -> set[str]:
    return {str(each.id) for each in client.list_executors() if each.standby}


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


def test_a_service_that_stands_by_remembers_and_leaves_when_its_room_is_needed(
    client: flame.Client, tmp_path: Path
) -> None:
    _, remembers = application_of(Remembers)
    client.register_application("remembers", replace(remembers, delay_release=0, standby=0))
    log = tmp_path / "log"
    session = client.create_session("remembers", common_data=str(log).encode(), standby=600)
    for count in (b"1", b"2", b"3"):
        assert session.run(b"").result(FINISH) == count
        wait_until(lambda: len(standing_by(client)) == 1, "it stands by", FINISH)
        assert session.info().standing_by == 1
    assert log.read_text().split() == ["enter"]

    everything = client.create_session("naps", min_instances=3)
    wait_until(lambda: len(bound(client, everything)) == 3, "three are bound", FINISH)
    assert len(standing_by(client)) == 1, "there is other room"
    assert session.run(b"").result(FINISH) == b"4"
    wait_until(lambda: len(standing_by(client)) == 1, "it stands by again", FINISH)

    last = client.create_session("naps", min_instances=1)
    wait_until(lambda: len(bound(client, last)) == 1, "the room was given up", FINISH)
    assert standing_by(client) == set()
    assert log.read_text().split() == ["enter", "leave"]
