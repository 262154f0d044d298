"""What tasks write, through a real cluster: who wrote it, and how long it is there to read."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flame
from flame import aio
from flame.model.errors import NotFound, PermissionDenied
from flame.model.ids import TaskId, Tenant
from flame.model.specs import ApplicationSpec, ShimKind
from flame.sdk.live_logs import TaskLogs
from flame.sdk.local_cluster import LocalCluster
from tests.conftest import StartCluster
from tests.e2e.test_operations import flmctl
from tests.waiting import wait_until

FINISH = 60.0


def chatty(value: bytes | None) -> bytes | None:
    """Write in the ways that a task's input names."""
    for way in (value or b"").split():
        if way == b"print":
            print("printed", value)
        elif way == b"part":
            sys.stdout.write("no end of line")
        elif way == b"stderr":
            print("to stderr", file=sys.stderr)
        elif way == b"child":
            subprocess.run(["sh", "-c", "echo from a child; echo its stderr >&2"], check=True)
        elif way == b"raw":
            os.write(1, b"raw\n")
        elif way == b"fail":
            raise ValueError("on purpose")
    return value


def expected(value: bytes) -> tuple[bytes, bytes]:
    out, err = b"", b""
    for way in value.split():
        out += {
            b"print": b"printed %r\n" % value,
            b"part": b"no end of line",
            b"child": b"from a child\n",
            b"raw": b"raw\n",
        }.get(way, b"")
        err += {b"stderr": b"to stderr\n", b"child": b"its stderr\n"}.get(way, b"")
    return out, err


def task_id(future: flame.Future) -> TaskId:
    assert future.task_id is not None  # known since its outcome is
    return TaskId(future.task_id)


@pytest.mark.parametrize("durability", ["durable", "memory"])
def test_each_task_has_exactly_what_it_wrote(cluster: LocalCluster, durability: str) -> None:
    ways = [b"quiet", b"print", b"child", b"raw", b"quiet", b"part stderr", b"print child print"]
    inputs = [ways[number % len(ways)] for number in range(700)]
    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(chatty, durability=durability) as session,
    ):
        futures = [session.run(value) for value in inputs]
        for future in futures:
            future.result(timeout=FINISH)
        written = {log.task_id: (log.stdout, log.stderr) for log in session.list_logs()}
        assert not session.has_dropped_logs()
        for future, value in zip(futures, inputs, strict=True):
            assert written.get(task_id(future), (b"", b"")) == expected(value), value
        assert session.logs(task_id(futures[2])) == expected(b"child")
        assert session.logs(task_id(futures[0])) == (b"", b"")
        with pytest.raises(NotFound):
            session.logs(100_000)


def test_quick_tasks_that_begin_to_write_after_many_quiet_ones_are_told_apart(
    cluster: LocalCluster,
) -> None:
    inputs = [b"quiet"] * 5_000 + [b"quiet", b"print", b"stderr"] * 1_000
    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(chatty, max_instances=1) as session,
    ):
        futures = [session.run(value) for value in inputs]
        for future in futures:
            future.result(timeout=FINISH)
        written = {log.task_id: (log.stdout, log.stderr) for log in session.list_logs()}
        for future, value in zip(futures, inputs, strict=True):
            assert written.get(task_id(future), (b"", b"")) == expected(value), value


def test_what_a_task_logs_is_its_own_too(cluster: LocalCluster) -> None:
    def logs(value: bytes) -> bytes:
        if value:
            logging.getLogger("mine").warning("task %s", value.decode())
        return value

    inputs = [b""] * 2_000 + [b"a", b"", b"b"] * 100
    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(logs, max_instances=1) as session,
    ):
        futures = [session.run(value) for value in inputs]
        for future in futures:
            future.result(timeout=FINISH)
        written = {log.task_id: log.stderr for log in session.list_logs()}
        for future, value in zip(futures, inputs, strict=True):
            said = written.get(task_id(future), b"")
            assert said.endswith(b" WARNING mine task %b\n" % value) if value else said == b""


def test_logs_are_there_after_the_executor_is_gone_and_the_manager_has_restarted(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    cluster = start_cluster(executors=1, storage=f"sqlite:///{tmp_path}/flame.db")
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = client.create_session(chatty, name="talk")
        first = session.run(b"print stderr")
        first.result(timeout=FINISH)
        failed = session.run(b"child fail")
        assert failed.exception(timeout=FINISH) is not None
        session.close()
        wait_until(lambda: not client.list_executors(), "the executor's end", FINISH)
        before = cluster.pids["session-manager"]
        os.kill(before, 9)
        wait_until(lambda: cluster.pids["session-manager"] != before, "a restart")
        assert session.logs(task_id(first)) == expected(b"print stderr")
        assert session.logs(task_id(failed)) == expected(b"child")

    number = str(first.task_id)
    assert flmctl(cluster, "logs", "-s", "talk", "-t", number) == "printed b'print stderr'\n"
    assert flmctl(cluster, "logs", "-s", "talk", "-t", number, "-f") == "printed b'print stderr'\n"
    assert flmctl(cluster, "logs", "-s", "talk").splitlines() == [
        f"{first.task_id}: printed b'print stderr'",
        f"{failed.task_id}: from a child",
    ]
    assert flmctl(cluster, "logs", "-s", "talk", "-f") == flmctl(cluster, "logs", "-s", "talk")
    shown = json.loads(flmctl(cluster, "logs", "-s", "talk", "-o", "json"))
    assert shown[1] == {
        "task": failed.task_id,
        "stdout": "from a child\n",
        "stderr": "its stderr\n",
    }
    assert "there is no" in flmctl(cluster, "logs", "-s", "nobody", fails=True)
    assert "task 9" in flmctl(cluster, "logs", "-s", "talk", "-t", "9", fails=True)


def test_following_waits_for_the_task(cluster: LocalCluster) -> None:
    def slow(value: bytes) -> bytes:
        print("begun", flush=True)
        time.sleep(1.0)
        print("done")
        return value

    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(slow) as session,
    ):
        session.run(b"")
        session.flush()  # now there is a task, which may be over before anybody looks
        assert flmctl(cluster, "logs", "-s", session.name, "-t", "1", "-f") == "begun\ndone\n"


def test_a_running_task_is_followed(cluster: LocalCluster, tmp_path: Path) -> None:
    def told(value: bytes) -> bytes:
        print("x" * 40_000)
        print("begun", file=sys.stderr)
        while not os.path.exists(value):
            time.sleep(0.01)
        print("y" * 40_000, "done")
        return b""

    go = tmp_path / "go"
    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(told) as session,
    ):
        future = session.run(bytes(go))
        wait_until(lambda: future.task_id is not None, "its acknowledgement", FINISH)
        stdout = stderr = b""
        for piece in session.follow_logs(1):
            stdout, stderr = stdout + piece.stdout, stderr + piece.stderr
            if len(stdout) == 40_001 and stderr == b"begun\n" and not go.exists():
                assert not future.done()
                go.touch()
        assert future.done()
        # Of the 40,000 that came with the end, those that the log has not kept are counted.
        assert stdout.startswith(b"x" * 40_000 + b"\n")
        assert stdout.endswith(b"bytes left out ...\n" + b"y" * (16 * 1024 - 6) + b" done\n")
        assert stderr == b"begun\n"


def test_a_scripts_stderr_is_followed_while_it_runs(cluster: LocalCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo begun >&2; until test -e {go}; do sleep 0.05; done; echo done >&2"
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        client.register_application("followed", ApplicationSpec(shim=ShimKind.SHELL))
        with client.create_session("followed") as session:
            future = session.run(script.encode())
            wait_until(lambda: future.task_id is not None, "its acknowledgement", FINISH)
            stderr = b""
            for piece in session.follow_logs(1):
                stderr += piece.stderr
                if stderr == b"begun\n":
                    go.touch()
            assert stderr == b"begun\ndone\n"


def test_what_a_task_wrote_before_its_executor_died_is_kept(cluster: LocalCluster) -> None:
    def dies(value: bytes) -> bytes:
        print("last words of", value.decode())
        if value == b"two":
            os.kill(os.getpid(), 9)
        return value

    with (
        flame.connect(cluster.endpoint, token_file=cluster.token_file) as client,
        client.create_session(dies, max_instances=1, max_attempts=2) as session,
    ):
        futures = [session.run(value) for value in (b"one", b"two", b"three")]
        assert futures[1].exception(timeout=FINISH) is not None
        assert futures[2].result(timeout=FINISH) == b"three"
        logs = {log.task_id: (log.attempt, log.stdout) for log in session.list_logs()}
        assert logs == {
            1: (1, b"last words of one\n"),
            2: (2, b"last words of two\n"),
            3: (1, b"last words of three\n"),
        }


class Talks(flame.FlameService):
    def on_session_enter(self, context: flame.SessionContext) -> None:
        print("entered", context.session_id)

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        print("task", context.task_id, file=sys.stderr)
        return b""

    def on_session_leave(self) -> None:
        print("left")


def test_an_executors_own_output_is_read_while_it_lives_and_after(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        with client.create_session(Talks, name="talks") as session:
            session.run().result(timeout=FINISH)
            [executor] = client.list_executors()
            assert flmctl(cluster, "logs", "-e", executor.id) == "entered talks\n"
        followed = b"".join(
            piece.stdout for piece in client.admin.executor_logs(executor.id, follow=True)
        )
        assert followed == b"entered talks\nleft\n"
        wait_until(lambda: not client.list_executors(), "the executor's end", FINISH)
        whole = list(client.admin.executor_logs(executor.id))
        assert b"".join(piece.stdout for piece in whole) == b"entered talks\nleft\n"
        assert b"task 1\n" in b"".join(piece.stderr for piece in whole)
    assert "no output of an executor" in flmctl(cluster, "logs", "-e", "nobody", fails=True)


def test_a_user_reads_what_executors_write_for_their_own_tenant_only(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as operator:
        for name in ("red", "blue"):
            operator.admin.put_tenant(flame.TenantSpec(Tenant(name)))
        red, blue = (operator.admin.create_token("user", [name]).secret for name in ("red", "blue"))
    with (
        flame.connect(cluster.endpoint, token=red) as reds,
        flame.connect(cluster.endpoint, token=blue) as blues,
        reds.create_session(Talks, name="secret") as session,
    ):
        session.run().result(timeout=FINISH)
        [executor] = reds.list_executors()
        [piece] = reds.admin.executor_logs(executor.id)
        assert piece.stdout == b"entered secret\n"
        with pytest.raises(NotFound, match="serves no session of yours"):
            list(blues.admin.executor_logs(executor.id))
        with pytest.raises(NotFound):
            blues._call(TaskLogs(blues._connection.frontend, "secret", 1).next_piece())


@pytest.mark.parametrize("shim", ["shell", "stdio"])
def test_what_a_script_writes_to_stderr_is_its_tasks_log(cluster: LocalCluster, shim: str) -> None:
    script = b"echo result; echo complaint $FLAME_TASK_ID >&2"
    application = (
        ApplicationSpec(shim=ShimKind.SHELL)
        if shim == "shell"
        else ApplicationSpec(
            shim=ShimKind.STDIO,
            command="sh",
            shim_options=(("frames", "none"),),
        )
    )
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        client.register_application(f"log-{shim}", application)
        with client.create_session(f"log-{shim}") as session:
            for _ in range(3):
                future = session.run(script)
                assert future.result(timeout=FINISH) == b"result\n"
                assert session.logs(task_id(future)) == (
                    b"",
                    b"complaint %d\n" % task_id(future),
                )


def test_a_user_reads_the_logs_of_their_own_tenant_only(start_cluster: StartCluster) -> None:
    cluster = start_cluster(executors=1)
    with flame.connect(cluster.endpoint, token_file=cluster.token_file) as operator:
        for name in ("red", "blue"):
            operator.admin.put_tenant(flame.TenantSpec(Tenant(name)))
        red, blue = (operator.admin.create_token("user", [name]).secret for name in ("red", "blue"))
    with (
        flame.connect(cluster.endpoint, token=red) as reds,
        flame.connect(cluster.endpoint, token=blue) as blues,
    ):
        session = reds.create_session(chatty, name="secret")
        session.run(b"print").result(timeout=FINISH)
        assert session.logs(1).stdout
        with pytest.raises(NotFound):
            blues.get_session("secret")
        with pytest.raises(NotFound):
            blues._call(blues._connection.frontend.list_logs("secret", after=0))
        with pytest.raises(PermissionDenied):
            flame.connect(cluster.endpoint, token=blue, tenant="red").list_sessions()


async def _read(cluster: LocalCluster) -> list[object]:
    async with await aio.connect(cluster.endpoint, token_file=cluster.token_file) as client:
        session = await client.create_session(chatty)
        await session.run(b"print")
        return [await session.logs(1), [log.task_id async for log in session.list_logs()]]


def test_the_asynchronous_face_reads_the_same(cluster: LocalCluster) -> None:
    logs, ids = asyncio.run(_read(cluster))
    assert logs == expected(b"print")
    assert ids == [1]
