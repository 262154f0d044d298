"""Timeouts, deadlines, retries, cancels and lost clients, over a real cluster."""

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flame
from flame.model.specs import EventCode
from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.waiting import wait_until

FINISH = 60.0


class Stubborn(flame.FlameService):
    """sleep: ends when cancelled; spin: never; hold: never, and lets no other thread run."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        self._log = (context.common_data or b"").decode()

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        if self._log:
            Path(self._log, f"started-{context.task_id}").touch()
        match context.input:
            case b"sleep":
                while not context.cancelled:
                    time.sleep(0.005)
                if self._log:
                    Path(self._log, f"cancelled-{context.task_id}").touch()
            case b"spin":
                while True:
                    time.sleep(1.0)
            case b"hold":
                ctypes.PyDLL(None).sleep(3600)
            case b"raise until 3":
                if context.attempt < 3:
                    raise ValueError(f"not at attempt {context.attempt}")
            case b"exit":
                sys.stderr.write(f"last words of attempt {context.attempt}\n")
                sys.stderr.flush()
                os._exit(7)
        return b"%d" % os.getpid()


def test_a_task_that_runs_too_long_fails_and_its_session_goes_on(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(
            Stubborn, task_timeout=0.3, max_instances=1, common_data=os.fsencode(tmp_path)
        )
        before = session.invoke(b"pid", timeout=FINISH)
        slow, after = session.run(b"sleep"), session.run(b"pid")
        with pytest.raises(flame.TaskTimedOut, match=r"0\.3 s"):
            slow.result(timeout=FINISH)
        assert after.result(timeout=FINISH) == before  # it looked at context.cancelled
        assert Path(tmp_path, f"cancelled-{slow.task_id}").exists()
        stuck, after = session.run(b"spin"), session.run(b"pid")
        with pytest.raises(flame.TaskTimedOut):
            stuck.result(timeout=FINISH)
        assert after.result(timeout=FINISH) != before  # a fresh service
        session.close()


def test_a_task_that_is_not_final_by_its_deadline_fails(cluster: LocalCluster) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Stubborn, deadline=0.5, max_instances=1)
        futures = [session.run(b"sleep") for _ in range(3)]
        for future in futures:
            with pytest.raises(flame.TaskTimedOut, match="deadline"):
                future.result(timeout=FINISH)
        session.close(cancel_running=True)


def test_a_cancelled_future_stops_its_task(cluster: LocalCluster, tmp_path: Path) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Stubborn, common_data=os.fsencode(tmp_path))
        future = session.run(b"sleep")
        wait_until(lambda: future.task_id is not None, "an id")
        wait_until(Path(tmp_path, f"started-{future.task_id}").exists, "its start")
        future.cancel()
        with pytest.raises(flame.TaskCancelled):
            future.result(timeout=FINISH)
        wait_until(Path(tmp_path, f"cancelled-{future.task_id}").exists, "the signal")
        session.close()


def test_cancelling_an_asyncio_task_cancels_what_it_awaits(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async def run() -> None:
        async with await flame.aio.connect(
            cluster.endpoint, token_file=cluster.token_file
        ) as client:
            session = await client.create_session(Stubborn, common_data=os.fsencode(tmp_path))
            waiting = asyncio.create_task(session.invoke(b"sleep"))
            await asyncio.to_thread(wait_until, (tmp_path / "started-1").exists, "its start")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(wait_until, (tmp_path / "cancelled-1").exists, "the signal")
            assert (await session.get_task(1)).state is flame.TaskState.CANCELLED
            await session.close()

    asyncio.run(run())


def test_a_task_is_tried_again_after_a_failure_if_its_session_says_so(
    cluster: LocalCluster,
) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Stubborn, retry_on_failure=2)
        assert session.invoke(b"raise until 3", timeout=FINISH) is not None
        task = session.get_task(1)
        spent = [e.message for e in task.events if e.code == EventCode.ATTEMPT_SPENT]
        assert len(spent) == 2
        assert "ValueError: not at attempt 1" in spent[0]
        session.close()


def test_only_the_failures_that_a_session_names_are_tried_again(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    def flaky(value: bytes) -> bytes:
        tries = tmp_path / value.decode()
        with tries.open("a") as file:
            file.write("x")
        count = len(tries.read_text())
        if value == b"reset" and count < 3:
            raise ConnectionResetError(f"reset at try {count}")
        if value == b"wrong":
            raise ValueError("no use")
        return b"%d" % count

    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(flaky, retry_on=[ConnectionError, 75])
        assert session.info().spec.retry_on == ("builtins.ConnectionError", "75")
        wrong = session.run(b"wrong")
        assert session.invoke(b"reset", timeout=FINISH) == b"3"
        with pytest.raises(flame.TaskFailed, match="ValueError: no use"):
            wrong.result(timeout=FINISH)
        assert (tmp_path / "wrong").read_text() == "x"
        session.close()


def test_a_script_is_tried_again_after_the_exit_codes_that_its_session_names(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    def script(name: str, code: int) -> bytes:
        return f"echo x >> {tmp_path}/{name}; exit {code}".encode()

    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session("flmexec", retry_on=[75], retry_on_failure=1)
        busy, broken = session.run(script("busy", 75)), session.run(script("broken", 1))
        with pytest.raises(flame.TaskFailed, match="code 1"):
            broken.result(timeout=FINISH)
        with pytest.raises(flame.TaskFailed, match="before this:\nattempt 1 on node"):
            busy.result(timeout=FINISH)
        assert (tmp_path / "busy").read_text() == "x\nx\n"
        assert (tmp_path / "broken").read_text() == "x\n"
        session.close()


def test_a_lost_task_tells_of_each_attempt(cluster: LocalCluster) -> None:
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Stubborn, max_attempts=2)
        with pytest.raises(flame.TaskLost) as lost:
            session.invoke(b"exit", timeout=FINISH)
        text = str(lost.value)
        node = client.list_nodes()[0].name
        for attempt in (1, 2):
            assert f"attempt {attempt} on node {node}, executor " in text
            assert f"last words of attempt {attempt}" in text
        assert "exited with code 7" in text
        task = session.get_task(1)
        spent = [e for e in task.events if e.code == EventCode.ATTEMPT_SPENT]
        assert len(spent) == 2
        assert task.attempt == 2
        session.close()


def test_another_process_collects_results_by_task_id(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """The client is killed after its tasks were acknowledged; somebody else reads what became."""
    cluster = start_cluster(executors=1, directory=tmp_path / "cluster")
    program = f"""
import flame, os, signal
client = flame.connect({cluster.endpoint!r}, token_file={str(cluster.token_file)!r})
session = client.create_session("flmping", name="left")
futures = [session.run(b"%d" % i) for i in range(3000)]
session.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=FINISH)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.get_session("left")
        wait_until(lambda: session.info().succeeded == 3000, "all done", FINISH)
        results = list(session.results())
        assert [r.position for r in results] == list(range(3000))
        assert {r.task_id: r.output for r in results} == {i + 1: b"%d" % i for i in range(3000)}
        assert [r.position for r in session.results(2990)] == list(range(2990, 3000))
        assert list(session.results(3000)) == []
        with pytest.raises(flame.InvalidRequest, match="3001"):
            list(session.results(3001))
        following = session.results(2999, follow=True)
        assert next(following).position == 2999
        session.invoke(b"one more", timeout=FINISH)
        assert next(following).output == b"one more"
        session.close()
        assert list(following) == []


def test_a_session_ends_with_its_client_if_it_says_so(start_cluster: StartCluster) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as watching:
        with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
            client.create_session(Stubborn, name="with", on_client_lost=0.2).run(b"sleep")
            client.create_session(Stubborn, name="without").run(b"sleep")
            wait_until(
                lambda: all(s.pending + s.running for s in watching.list_sessions()), "tasks"
            )
        wait_until(
            lambda: any(
                s.name == "with" and s.state is flame.SessionState.CLOSED
                for s in watching.list_sessions()
            ),
            "its close",
        )
        states = {s.name: s for s in watching.list_sessions()}
        assert states["with"].cancelled == 1
        assert states["without"].state is flame.SessionState.OPEN
        watching.close_session("without", cancel_running=True)


@pytest.mark.parametrize("seconds", [0.5])
def test_a_task_that_holds_the_interpreter_is_ended_too(
    start_cluster: StartCluster, seconds: float
) -> None:
    """Its process can say nothing; the manager notices the silence within 15 s."""
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(Stubborn, task_timeout=seconds)
        stuck, good = session.run(b"hold"), session.run(b"good")
        with pytest.raises(flame.TaskTimedOut):
            stuck.result(timeout=FINISH)
        assert good.result(timeout=FINISH) is not None
        session.close()
