"""Session managers that stand by for one another, as whole processes on a real PostgreSQL."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import flame
from flame.model.errors import NotLeading, Unavailable
from flame.model.specs import SessionState
from tests.failover.managers import Managers
from tests.postgres_server import PostgresServer, postgres_server
from tests.waiting import wait_until

TAKEOVER = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this file's own, since a test stops it."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def managers(server: PostgresServer, tmp_path: Path) -> Iterator[Managers]:
    found = Managers(tmp_path, server.new_database())
    with ExitStack() as stack:
        stack.callback(found.stop)
        yield found


def connect(managers: Managers, endpoint: str | None = None, **options: float) -> flame.Client:
    return flame.connect(
        endpoint or managers.endpoint,
        token_file=managers.token_file,
        **options,  # type: ignore[arg-type]
    )


def test_a_standby_says_that_it_does_not_lead_and_who_does(managers: Managers) -> None:
    leader, standby = managers.start()
    assert (leader.role, standby.role) == ("leader", "standby")
    assert (leader.health(), standby.health()) == ("SERVING", "NOT_SERVING")
    with pytest.raises(Unavailable, match=f"stands by; {leader.endpoint} .*leads"):
        connect(managers, standby.endpoint, timeout=1.0)
    with connect(managers) as client:
        assert client.endpoint == leader.endpoint


def test_flmctl_shows_which_one_leads_also_when_none_does(managers: Managers) -> None:
    leader, standby = managers.start()
    assert flmctl_lists(managers) == {leader.endpoint: "leader", standby.endpoint: "standby"}
    leader.kill()
    wait_until(standby.leads, "the other one to lead")
    assert flmctl_lists(managers) == {leader.endpoint: "unreachable", standby.endpoint: "leader"}
    standby.kill()
    assert set(flmctl_lists(managers).values()) == {"unreachable"}


def flmctl_lists(managers: Managers) -> dict[str, str]:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "flame.cli.flmctl", "list", "-m", "-o", "json"),
            *("--endpoint", managers.endpoint, "--token-file", str(managers.token_file)),
        ],
        capture_output=True,
        text=True,
        timeout=60.0,
        check=True,
    )
    found = json.loads(ran.stdout)
    return {each["metadata"]["endpoint"]: each["status"]["role"] for each in found}


def test_one_that_stops_in_order_is_followed_at_once(managers: Managers) -> None:
    leader, standby = managers.start()
    with connect(managers) as client:
        client.create_session("flmping", name="kept")
        leader.send(signal.SIGTERM)
        assert leader.process is not None
        assert leader.process.wait(20.0) == 0
        assert client.get_session("kept").info().name == "kept"
        assert client.endpoint == standby.endpoint
    standby.send(signal.SIGTERM)
    assert standby.process is not None
    assert standby.process.wait(20.0) == 0
    for manager in (leader, standby):
        assert "Traceback" not in manager.log.read_text()


def test_one_that_stands_by_stops_when_told(managers: Managers) -> None:
    leader, standby = managers.start()
    standby.send(signal.SIGTERM)
    assert standby.process is not None
    assert standby.process.wait(20.0) == 0
    assert leader.leads()


def test_a_leader_that_was_stopped_answers_nobody_when_it_wakes_up_and_stands_by(
    managers: Managers,
) -> None:
    """What was asked of it while it was stopped is answered by NotLeading, not from its memory."""
    leader, standby = managers.start()
    with connect(managers) as client, connect(managers, leader.endpoint, retry=0.0) as old:
        client.create_session("flmping", name="before")
        leader.send(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_until(standby.leads, "a new leader")
        took = time.monotonic() - stopped
        client.close_session("before")
        # In the stopped one's sockets by the time it goes on.
        asked = subprocess.Popen(
            [sys.executable, "-c", ASK, leader.endpoint, str(managers.token_file)],
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(1.0)
        leader.send(signal.SIGCONT)
        with pytest.raises(Unavailable):
            old.get_session("before")
        answer = asked.communicate(timeout=30.0)[0]
        assert "NotLeading" in answer or "Unavailable" in answer, answer
        wait_until(lambda: leader.health() == "NOT_SERVING", "the old leader to stand by")
        assert leader.process is not None
        assert leader.process.poll() is None
        # And it leads again when it is needed.
        standby.kill()
        wait_until(leader.leads, "the old leader to lead again")
        assert client.get_session("before").info().state is SessionState.CLOSED
    assert took < 2 * TAKEOVER
    for manager in (leader, standby):
        assert "Traceback" not in manager.log.read_text()


ASK = """
import sys, flame
try:
    with flame.connect(sys.argv[1], token_file=sys.argv[2], timeout=5.0, retry=0.0) as client:
        print("answered", client.get_session("before").info())
except flame.FlameError as error:
    print(type(error).__name__, error)
"""


def test_a_database_that_is_away_for_a_while_is_waited_for(
    managers: Managers, server: PostgresServer
) -> None:
    managers.start(executors=1)
    with connect(managers) as client, client.create_session("flmping") as session:
        assert session.invoke(b"before", timeout=60.0) == b"before"
        server.stop()
        futures = [session.run(b"%d" % number) for number in range(200)]
        time.sleep(4.0)  # longer than a lease
        assert not any(future.done() for future in futures)
        server.start()
        assert [f.result(timeout=60.0) for f in futures] == [b"%d" % n for n in range(200)]
    for manager in managers.all:
        assert manager.process is not None
        assert manager.process.poll() is None
        assert "Traceback" not in manager.log.read_text()


def test_a_second_signal_ends_one_that_cannot_store_what_it_has(
    managers: Managers, server: PostgresServer
) -> None:
    """The first SIGINT lets it commit, for which it waits for its database; the second does not."""
    leader, standby = managers.start()
    assert leader.process is not None
    with connect(managers) as client, client.create_session("flmping") as session:
        session.flush()
        standby.kill()
        server.stop()
        try:
            session.run(b"x")
            leader.send(signal.SIGINT)
            time.sleep(0.2)
            leader.send(signal.SIGINT)
            assert leader.process.wait(5.0) in (0, 130)
        finally:
            server.start()
        assert "Traceback" not in leader.log.read_text()
        leader.start()
        managers.start_node(1)
    assert client.endpoint == leader.endpoint


def test_waiting_calls_say_who_leads_when_they_give_up(managers: Managers) -> None:
    leader, standby = managers.start()
    with connect(managers, standby.endpoint + "," + leader.endpoint, retry=0.5) as client:
        leader.send(signal.SIGSTOP)
        standby.kill()
        with pytest.raises(Unavailable, match="no session manager answered at"):
            client.list_sessions()
        leader.send(signal.SIGCONT)
    assert issubclass(NotLeading, Unavailable)


def test_a_store_that_nobody_else_can_lead_is_no_place_to_stand_by(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "flame.session_manager", "--standby", "--listen"),
            *("127.0.0.1:0", "--storage", "memory", "--token-file", str(tmp_path / "token")),
        ],
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert done.returncode == 2
    assert "--standby: storage 'memory' belongs to one session manager" in done.stderr
