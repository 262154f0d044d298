"""Clients and services written for the released SDK, unchanged, against a real cluster.

The scripts run in an environment that has flamepy 0.6.0 and knows nothing of this project.
"""

import subprocess
from pathlib import Path

import pytest

from tests.compatibility.conftest import PATIENCE, Cluster
from tests.compatibility.released import released_python

pytestmark = pytest.mark.slow

CALLS = """
import json, flamepy
session = flamepy.create_session("flmping")
outputs = [session.invoke(b"one"), session.run(b"two").result(timeout=30)]
tasks = [[t.id, t.state.name, t.input.decode(), t.output.decode()] for t in session.list_tasks()]
same = flamepy.open_session(session.id)
task = same.get_task("1")
[listed] = flamepy.list_sessions()
session.close()
closed = flamepy.get_session(session.id)
try:
    flamepy.open_session(session.id)
    refused = ""
except flamepy.FlameError as error:
    refused = error.message
print(json.dumps({
    "outputs": [o.decode() for o in outputs],
    "tasks": tasks,
    "same": same.id == session.id,
    "task": [task.id, task.state.name],
    "listed": [listed.id == session.id, listed.succeed],
    "closed": closed.state.name,
    "refused": refused,
    "applications": sorted(a.name for a in flamepy.list_applications()),
    "nodes": len(flamepy.list_nodes()),
    "age": abs((closed.completion_time - closed.creation_time).total_seconds()) < 60,
}))
"""


def test_every_call_of_a_released_client_works(cluster: Cluster) -> None:
    seen = cluster.released(CALLS)
    assert isinstance(seen, dict)
    assert seen.pop("refused").endswith("is not open")
    assert seen == {
        "outputs": ["one", "two"],
        "tasks": [["1", "SUCCEED", "one", "one"], ["2", "SUCCEED", "two", "two"]],
        "same": True,
        "task": ["1", "SUCCEED"],
        "listed": [True, 2],
        "closed": "CLOSED",
        "applications": ["flmexec", "flmping"],
        "nodes": 1,
        "age": True,
    }


MANY = """
import json, flamepy
from concurrent.futures import wait
session = flamepy.create_session("flmping", min_instances=1)
futures = [session.run(str(n).encode()) for n in range(1000)]
wait(futures, timeout=50)
print(json.dumps([f.result(timeout=0).decode() for f in futures] == [str(n) for n in range(1000)]))
"""


def test_a_thousand_runs_are_awaited(cluster: Cluster) -> None:
    assert cluster.released(MANY) is True


SERVICE = """
import flamepy

class Upper(flamepy.FlameService):
    def on_session_enter(self, context):
        self.prefix = context.common_data() or b""

    def on_task_invoke(self, context):
        if context.input == b"fail":
            raise ValueError("the input was fail")
        if context.input == b"large":
            return bytes(4 * 1024 * 1024)
        return self.prefix + context.input.upper()

    def on_session_leave(self):
        pass

flamepy.run(Upper())
"""

SERVED = """
import json, sys, flamepy
python, service = sys.argv[1:]
flamepy.register_application("upper", flamepy.ApplicationAttributes(
    shim=flamepy.Shim.HOST, command=python, arguments=[service], environments={"X": "1"},
    max_instances=2, delay_release=5))
session = flamepy.create_session("upper", common_data=b"> ")
def told(data):
    try:
        return session.invoke(data).decode()
    except flamepy.FlameError as error:
        return error.message
inputs = (b"one", b"fail", b"large", bytes(5 * 1024 * 1024), b"two")
answers = [told(data) for data in inputs]
watched = [task.state.name for task in session.watch_task("2")]
task = session.get_task("2")
session.close()
flamepy.unregister_application("upper")
print(json.dumps({
    "answers": answers,
    "watched": watched,
    "task": [task.state.name, task.events[0].code],
    "gone": flamepy.get_application("upper") is None,
}))
"""


def test_a_service_of_the_released_sdk_runs_unchanged(cluster: Cluster, tmp_path: Path) -> None:
    """One fails with its text, one result and one input are too large, and the session goes on."""
    service = tmp_path / "service.py"
    service.write_text(SERVICE)
    seen = cluster.released(SERVED, released_python(), str(service))
    assert isinstance(seen, dict), cluster.logs()
    one, failed, large, too_large, two = seen["answers"]
    assert (one, two) == ("> ONE", "> TWO")
    assert "the input was fail" in failed
    assert "receives at most 4194304" in large
    assert "4194304" in too_large or "4 MiB" in too_large
    assert seen["watched"] == ["FAILED"]
    assert seen["task"] == ["FAILED", 3]
    assert seen["gone"] is True


BEFORE = """
import json, flamepy
session = flamepy.create_session("flmping", session_id="kept")
done = session.create_task(b"done")
assert [t.output for t in session.watch_task(done.id)][-1] == b"done"
print(json.dumps(done.id))
"""

AFTER = """
import json, sys, flamepy
session = flamepy.open_session("kept")
[*_, last] = session.watch_task(sys.argv[1])
print(json.dumps([last.state.name, last.output.decode(), session.invoke(b"more").decode()]))
"""


def test_a_task_is_watched_after_a_restart_of_the_manager(cluster: Cluster) -> None:
    task_id = cluster.released(BEFORE)
    assert isinstance(task_id, str)
    cluster.kill_manager()
    cluster.restart_manager()
    assert cluster.released(AFTER, task_id) == ["SUCCEED", "done", "more"]


ACROSS = """
import json, flamepy
session = flamepy.create_session("flmping", common_data=b'{"duration_ms": 3000}')
task = session.create_task(b"slow")
states = [t.state.name for t in session.watch_task(task.id) if print(t.state.name) or True]
"""


def test_a_watch_that_the_restart_cut_is_an_error_that_can_be_retried(cluster: Cluster) -> None:
    """The released client does not reconnect a stream; the task itself goes on and is watched anew."""
    client = cluster.run_released(ACROSS)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "RUNNING\n"
        cluster.kill_manager()
        cluster.restart_manager()
        _, err = client.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(cluster.logs()) from None
    finally:
        client.kill()
    assert "failed to watch task" in err
    again = """
import json, flamepy
[session] = flamepy.list_sessions()
[*_, last] = flamepy.open_session(session.id).watch_task("1")
print(json.dumps([last.state.name, last.output.decode()]))
"""
    assert cluster.released(again) == ["SUCCEED", "slow"]


REFUSED = """
import json, flamepy
from flamepy import SessionAttributes
from flamepy.core.types import FlameErrorCode
session = flamepy.create_session("flmping", session_id="s", common_data=b'{"duration_ms": 1500}')
slow = session.run(b"slow")
waiting = [session.run(b"waiting") for _ in range(3)]
first = next(iter(session.watch_task("1")))
def told(call):
    try:
        call()
    except flamepy.FlameError as error:
        return [FlameErrorCode(error.code).name, error.message]
print(json.dumps({
    "running": first.state.name,
    "close": told(session.close),
    "same spec": told(lambda: flamepy.open_session("s", SessionAttributes(application="flmping"))),
    "other spec": told(lambda: flamepy.open_session(
        "s", SessionAttributes(application="flmping", max_instances=3))),
    "absent": told(lambda: flamepy.open_session("absent")),
    "twice": told(lambda: flamepy.create_session("flmping", session_id="s")),
    "application": told(lambda: flamepy.create_session("absent")),
    "task": told(lambda: session.get_task("99")),
    "watched": told(lambda: list(session.watch_task("99"))),
    "id": told(lambda: session.get_task("x")),
    "register": told(lambda: flamepy.register_application(
        "flmping", flamepy.ApplicationAttributes(command="x"))),
    "unregister": told(lambda: flamepy.unregister_application("absent")),
    "slow": slow.result(timeout=30).decode(),
    "waiting": [f.result(timeout=30).decode() for f in waiting],
    "closed": told(session.close),
    "late": told(lambda: session.run(b"late")),
}))
"""


def test_what_is_refused_says_why_in_the_released_client_s_words(cluster: Cluster) -> None:
    seen = cluster.released(REFUSED)
    assert isinstance(seen, dict)
    for key, code, text in (
        ("close", "INTERNAL", "Cannot close session with running tasks"),
        ("other spec", "INVALID_ARGUMENT", "spec mismatch: max_instances differs"),
        ("absent", "NOT_FOUND", "absent"),
        ("twice", "INTERNAL", "'s'"),
        ("application", "INTERNAL", "'absent'"),
        ("task", "INTERNAL", "task 99"),
        ("watched", "INTERNAL", "task 99"),
        ("id", "INTERNAL", "'x' is not a whole number"),
        ("register", "INTERNAL", "'flmping'"),
        ("unregister", "INTERNAL", "'absent'"),
        ("late", "INTERNAL", "is closed"),
    ):
        assert seen[key] is not None, key
        assert seen[key][0] == code, key
        assert text in seen[key][1], (key, seen[key])
    assert seen["running"] == "RUNNING"
    assert seen["same spec"] is None
    assert seen["closed"] is None
    assert (seen["slow"], seen["waiting"]) == ("slow", ["waiting"] * 3)


CANCELLED = """
import json, flamepy
flamepy.register_application("silent", flamepy.ApplicationAttributes(
    shim=flamepy.Shim.HOST, command="sleep", arguments=["600"]))  # it never listens
session = flamepy.create_session("silent")
futures = [session.run(b"never") for _ in range(3)]
states = [t.state.name for t in session.list_tasks()]
session.close()
ended = [type(f.exception(timeout=30)).__name__ for f in futures]
print(json.dumps([states, ended]))
"""


def test_closing_a_session_ends_the_futures_of_its_pending_tasks(cluster: Cluster) -> None:
    """The released client has no word for a cancelled task; its future gets an error."""
    assert cluster.released(CANCELLED) == [["PENDING"] * 3, ["FlameError"] * 3]


def test_the_released_environment_does_not_know_this_project() -> None:
    script = "import importlib.util; print(importlib.util.find_spec('flame') is None)"
    done = subprocess.run(
        [released_python(), "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
