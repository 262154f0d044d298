"""Beyond a limit a real client is told which one, in a kind of error that it may wait for; then it fits."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import flame
from flame.model.errors import InvalidRequest, ResourceExhausted, Unavailable
from flame.model.specs import DEFAULT_MAX_INPUT_BYTES
from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.waiting import wait_until

FINISH = 60.0
MIB = 1024 * 1024
LIMITS = "{max_sessions: 2, max_queued_tasks: 50, max_queued_bytes: 64k, max_connections: 2}"


@pytest.fixture
def cluster(start_cluster: StartCluster, tmp_path: Path) -> LocalCluster:
    """A cluster of narrow limits; no executor takes anything off the queues."""
    config = tmp_path / "flame-cluster.yaml"
    config.write_text(
        f"cluster:\n  name: narrow\n  endpoint: http://127.0.0.1:0\n  limits: {LIMITS}\n"
    )
    return start_cluster(executors=0, config=config, storage=f"sqlite:///{tmp_path}/flame.db")


def connect(cluster: LocalCluster, **options: float) -> flame.Client:
    return flame.connect(cluster.endpoint, token_file=cluster.token_file, **options)  # type: ignore[arg-type]


def refusal_of(futures: list[flame.Future]) -> str:
    """The one reason for which some of them were refused; the others wait."""
    errors = {str(f.exception(FINISH)) for f in futures if f.done()}
    assert all(isinstance(f.exception(), ResourceExhausted) for f in futures if f.done())
    [text] = errors
    return text


def test_one_session_too_many_is_refused_until_another_is_closed(cluster: LocalCluster) -> None:
    with connect(cluster) as client:
        first, _ = client.create_session("flmping"), client.create_session("flmping")
        with pytest.raises(ResourceExhausted, match=r"2 .*max_sessions"):
            client.create_session("flmping")
        first.close()
        client.create_session("flmping")


def test_of_tasks_beyond_the_limits_those_that_fit_are_taken(cluster: LocalCluster) -> None:
    with connect(cluster) as client:
        session = client.create_session("flmping")
        futures = [session.run(b"x") for _ in range(60)]
        with pytest.raises(ResourceExhausted, match=r"10 tasks were not stored .*max_queued_tasks"):
            session.flush()
        session.flush()  # it has been told
        assert sum(not f.done() for f in futures) == 50
        assert "max_queued_tasks" in refusal_of(futures)
        session.close(cancel_running=True)

        session = client.create_session("flmping")
        futures = [session.run(bytes(10_000)) for _ in range(10)]
        with pytest.raises(ResourceExhausted, match=r"4 tasks were not stored .*max_queued_bytes"):
            session.flush()
        assert sum(not f.done() for f in futures) == 6
        assert "max_queued_bytes" in refusal_of(futures)
        for future in futures:
            future.cancel()
        wait_until(lambda: all(f.done() for f in futures), "the end of those that fitted")
        assert not session.run(b"there is room again").done()
        session.flush()
        assert session.info().pending == 1


def test_one_client_too_many_is_refused_until_another_has_gone(cluster: LocalCluster) -> None:
    with connect(cluster), connect(cluster) as second:
        with pytest.raises((ResourceExhausted, Unavailable), match="max_connections"):
            connect(cluster, timeout=2.0)
        second.close()
        connect(cluster, timeout=FINISH).close()


def test_an_input_beyond_the_limit_is_refused_with_both_sizes(cluster: LocalCluster) -> None:
    with connect(cluster) as client:
        session = client.create_session("flmping")
        size = DEFAULT_MAX_INPUT_BYTES + 1
        with pytest.raises(InvalidRequest, match=f"{size}.*{DEFAULT_MAX_INPUT_BYTES}"):
            session.run(bytes(size))


def test_a_slow_watcher_of_a_session_in_memory_misses_some_and_is_told_how_many(
    start_cluster: StartCluster,
) -> None:
    """240 MiB of results go by a reader that takes one: the session manager does not keep them for it."""
    cluster = start_cluster(executors=2)

    def large(value: bytes) -> bytes:
        return value * 1000

    with connect(cluster) as client, connect(cluster) as other:
        session = client.create_session(large, durability="memory")
        session.run(b"x").result(FINISH)
        seen = other.get_session(session.name).results(follow=True)
        first = next(seen)
        assert (first.position, first.skipped) == (0, 0)
        manager = psutil.Process(cluster.pids["session-manager"])
        before = _settled(lambda: manager.memory_info().rss)
        for _ in range(24):
            batch = [session.run(bytes(10)) for _ in range(1000)]
            for future in batch:
                future.result(FINISH)
        assert manager.memory_info().rss - before < 200 * MIB
        session.close()
        results = list(seen)
        missed = sum(result.skipped for result in results)
        assert missed > 0
        assert len(results) + missed == 24_000
        assert [r.position for r in results] == sorted(r.position for r in results)
        assert session.info().succeeded == 24_001


def _settled(measure: Callable[[], int]) -> int:
    time.sleep(0.5)
    return measure()
