"""What the PostgreSQL engine does about second leaders, lost connections, crashes and full disks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from flame.core.records import Recovered, SessionEvent
from flame.model.errors import IllegalTransition, ResourceExhausted, Unavailable, WrongState
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import Event
from flame.storage.candidacy import LEASE_SECONDS
from flame.storage.postgres import PostgresStore, connection, lease, writer
from flame.storage.postgres.connection import Database, PostgresQuery, is_lost
from flame.storage.postgres.schema import MIGRATIONS, SCHEMA_VERSION, Connection
from flame.storage.reader import Reader, Row
from flame.storage.recovery import recover
from flame.storage.rows import Column
from flame.storage.store import CorruptStore
from tests.postgres_server import PostgresServer, postgres_server
from tests.storage.records import S1, S2, deleted, read, recorded, session_put, submitted
from tests.waiting import wait_until

PATIENCE = 30.0
ENOUGH = 1 << 30
BREAK = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this file's own, since some tests kill it."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


@contextmanager
def loaded(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        store.load()
        yield store


@contextmanager
def leader(url: str) -> Iterator["Leader"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.leader", url],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )
    try:
        yield Leader(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class Leader:
    """A process that commits, and what it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.stored = 0

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip().isdigit():
            self.stored = int(line)
        return line

    def commits(self, groups: int) -> None:
        while not self.line().startswith("leads"):
            pass
        for _ in range(groups):
            self.line()

    def reads_to_the_end(self) -> str:
        last = line = self.line()
        while line:
            last, line = line, self.line()
        return last


def check(url: str, acknowledged: int) -> int:
    """Whole groups, none missing; returns the last task."""
    with closing(PostgresStore(url)) as store:
        found = read(store.load())
        (session,) = found.recovered.sessions
        last = session.next_task_id - 1
        assert last >= acknowledged
        assert [p[0] for p in found.pending[S1]] == [last]
        assert session.log_end == last - 1
        assert [task.input for task in store.tasks(S1, 0, ENOUGH)] == [
            b"%d" % task_id for task_id in range(1, last + 1)
        ]
        return last


# --- What a start costs ------------------------------------------------------------------------


def test_a_start_beside_many_small_batches_takes_few_statements_and_sorts_nothing(url: str) -> None:
    """Of a table without statistics, PostgreSQL's own choice is to sort all of it for each page."""
    tasks = 20_000
    with loaded(url) as store:
        store.commit([session_put()], sync=False)
        for first in range(1, tasks, 1_000):
            ids = range(first, first + 1_000)
            store.commit([submitted(i, b"", first_number=i - 1) for i in ids], sync=False)
            done = range(first, first + 1_000, 50)
            store.commit([recorded((i - 1) // 50, i) for i in done], sync=False)
    run = PostgresQuery(Database(url, "flame"), threading.Event())
    ran: list[tuple[str, tuple[Column, ...]]] = []

    def query(sql: str, *values: Column) -> list[Row]:
        ran.append((sql, values))
        return run(sql, *values)

    with closing(run):
        (session,) = recover(Reader(query, set()), epoch=2, next_session=2).sessions
        assert len(list(session.pending)) == tasks * 49 // 50
        assert len(ran) < 50
        for sql, values in ran:
            if " LIMIT " in sql:
                plan = "\n".join(row[0] for row in run(f"EXPLAIN {sql}", *values))
                assert "Sort" not in plan, plan


# --- One leader --------------------------------------------------------------------------------


def test_a_second_leader_is_refused_while_the_first_renews_its_lease(url: str) -> None:
    with loaded(url) as first:
        second = PostgresStore(url)
        with pytest.raises(WrongState, match=rf"in use by process {os.getpid()} on "):
            second.load()
        second.close()
        first.commit([session_put()], sync=True)


def test_a_leader_that_closes_is_followed_at_once(url: str) -> None:
    with loaded(url) as first:
        first.commit([session_put()], sync=False)
    started = time.monotonic()
    with loaded(url) as second:
        assert time.monotonic() - started < LEASE_SECONDS / 2
        assert second.tasks(S1, 0, 1) == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_standby_leads_within_5_seconds_of_the_leaders_death(url: str, elsewhere: bool) -> None:
    """Elsewhere it cannot see that the leader is dead, and waits for its lease to expire."""
    with leader(url) as first:
        first.commits(1)
        with leader(url) as standby:
            for _ in range(20):
                first.line()
            if elsewhere:
                with psycopg.connect(url, autocommit=True) as other:
                    other.execute("UPDATE flame.lease SET process = 'boot pid:[1] 1'")
            first.process.kill()
            killed = time.monotonic()
            first.process.wait()  # as its supervisor would
            first.reads_to_the_end()
            assert standby.line() == "leads 2\n"
            assert time.monotonic() - killed < (5 if elsewhere else LEASE_SECONDS / 2)
            for _ in range(5):
                standby.line()
            standby.process.kill()
            standby.reads_to_the_end()
            assert standby.stored > first.stored
            acknowledged = standby.stored
    check(url, acknowledged)


def test_a_stopped_leader_that_wakes_up_cannot_write(url: str) -> None:
    with leader(url) as first:
        first.commits(10)
        first.process.send_signal(signal.SIGSTOP)
        with closing(PostgresStore(url)) as second:
            recovered = read(second.load(standby=True)).recovered
            (session,) = recovered.sessions
            at = session.next_task_id
            second.commit([session_put(S2)], sync=False)
            first.process.send_signal(signal.SIGCONT)
            assert "another session manager has taken over" in first.reads_to_the_end()
            (before, *rest) = second.tasks(S1, at - 2, 10)
            assert (before.task_id, rest) == (at - 1, [])
        assert first.stored < at
    with loaded(url) as third:
        assert third.tasks(S1, at - 1, 10) == []


def test_a_leader_stopped_within_a_transaction_does_not_hold_up_the_next(url: str) -> None:
    with leader(url) as first:
        first.commits(3)
        first.process.send_signal(signal.SIGSTOP)
        with psycopg.connect(url) as stuck:  # as the stopped leader's connection might be
            stuck.execute("SET search_path TO flame")
            (fence,) = stuck.execute("SELECT fence FROM lease").fetchone() or (0,)
            stuck.execute("SELECT begin_group(%s, 1000000)", (fence,))
            started = time.monotonic()
            with loaded(url) as second:
                assert time.monotonic() - started < 5 + LEASE_SECONDS
                second.commit([session_put(S2)], sync=False)
            with pytest.raises(psycopg.OperationalError):
                stuck.commit()
            stuck.close()


def test_the_one_that_lost_is_told_although_it_writes_nothing(url: str) -> None:
    with loaded(url) as first:
        told = threading.Event()
        first.on_lost = told.set
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("UPDATE flame.lease SET epoch = epoch + 1, fence = fence + 1")
        assert told.wait(PATIENCE)
        with pytest.raises(WrongState, match="taken over from epoch 1"):
            first.commit([session_put()], sync=False)


def test_a_standby_that_is_closed_stops_waiting(url: str) -> None:
    with loaded(url):
        standby = PostgresStore(url)
        problems: list[object] = []

        def wait() -> None:
            try:
                problems.append(standby.load(standby=True))
            except Unavailable:
                pass

        waiting = threading.Thread(target=wait)
        waiting.start()
        standby.close()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        assert problems == []


# --- Lost connections --------------------------------------------------------------------------


def test_lost_connections_come_back_for_reads_and_writes(server: PostgresServer, url: str) -> None:
    with loaded(url) as store:
        store.commit([session_put(), submitted(1, b"1")], sync=False)
        for task_id in range(2, 6):
            with server.connect() as other:
                other.execute(BREAK)
            assert len(store.tasks(S1, 0, 100)) == task_id - 1
            store.commit([submitted(task_id, b"x")], sync=False)
        assert [task.task_id for task in store.tasks(S1, 0, 100)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_whose_answer_is_lost_is_stored_exactly_once(
    url: str, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after COMMIT was sent (or before), and no answer comes."""
    with loaded(url) as store:
        store.commit([session_put()], sync=False)
        send = writer.Writer._send
        breaks = [True]

        def break_once(self: writer.Writer, to: Connection, number: int) -> None:
            if not breaks:
                send(self, to, number)
                return
            breaks.clear()
            if stored:
                send(self, to, number)
            to.close()
            raise psycopg.OperationalError("the connection is lost")

        monkeypatch.setattr(writer.Writer, "_send", break_once)
        # Each of these would be there twice, or fail, if the group were simply sent again.
        event = SessionEvent(S1, Event(1, "once", 1))
        store.commit([submitted(1, b"1"), event, recorded(0, 1)], sync=False)
        store.commit([submitted(2, b"2")], sync=False)
    with closing(PostgresStore(url)) as again:
        found: Recovered = read(again.load()).recovered
        assert len(found.sessions[0].events) == 1
        assert found.sessions[0].next_task_id == 3


def test_what_an_old_connection_still_sends_is_refused_once_its_group_was_looked_up(
    url: str,
) -> None:
    """Otherwise a group found missing, and sent again, could be stored twice by its first sender."""
    with loaded(url) as store:
        store.commit([session_put()], sync=False)
        with psycopg.connect(url, autocommit=True) as old:
            old.execute("SET search_path TO flame")
            (fence,) = old.execute("SELECT fence FROM lease").fetchone() or (0,)
            with connection.Database(url, "flame").connect() as new:
                assert lease.raise_fence(new, 1) == fence + 1
            with pytest.raises(psycopg.Error, match="another session manager leads") as caught:
                old.execute("SELECT begin_group(%s, 99)", (fence,))
            assert caught.value.sqlstate == "FL001"


def test_a_crash_of_the_server_loses_nothing_and_is_sat_out(server: PostgresServer) -> None:
    url = server.new_database()
    with leader(url) as process:
        process.commits(30)
        for _ in range(3):
            server.crash()
            for _ in range(30):
                process.line()
        process.process.kill()
        process.reads_to_the_end()
        acknowledged = process.stored
        assert acknowledged > 100
    check(url, acknowledged)


def test_a_connection_that_psycopg_takes_for_whole_is_given_up(url: str) -> None:
    database = Database(url, "flame")
    refused = psycopg.errors.UniqueViolation("the statement's fault")
    stopping = psycopg.errors.AdminShutdown("terminating connection")
    unread = psycopg.OperationalError("cannot exit pipeline mode while busy")
    with database.connect() as whole, database.connect() as left, database.connect() as busy:
        assert not is_lost(whole, refused)
        assert not whole.closed
        assert not left.closed
        assert is_lost(left, stopping)
        busy.pgconn.enter_pipeline_mode()
        busy.pgconn.send_query_params(b"SELECT 1", [])
        assert is_lost(busy, unread)
        assert left.closed
        assert busy.closed


def test_a_killed_leader_loses_nothing_that_it_said_was_stored(
    url: str,
) -> None:
    for groups in (1, 40):
        with leader(url) as process:
            process.commits(groups)
            process.process.kill()
            process.reads_to_the_end()
            acknowledged = process.stored
        check(url, acknowledged)


def test_a_database_that_has_gone_back_is_not_written_to(url: str) -> None:
    with loaded(url) as store:
        store.commit([session_put()], sync=False)
        store.commit([submitted(1, b"1")], sync=False)
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("DELETE FROM flame.groups WHERE number >= 2")
            with suppress(psycopg.OperationalError):
                other.execute(BREAK)
        with pytest.raises(CorruptStore, match="has gone back"):
            store.commit([submitted(2, b"2")], sync=False)


def test_a_server_that_stays_away_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.3)
    with postgres_server() as server, loaded(server.new_database()) as store:
        store.commit([session_put()], sync=False)
        server.stop()
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.commit([submitted(1, b"1")], sync=False)
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.tasks(S1, 0, 1)
        server.start()
        assert store.tasks(S1, 0, 1) == []
        store.commit([submitted(1, b"1")], sync=False)


# --- What the server says ------------------------------------------------------------------------


def test_a_commit_waits_for_the_servers_log_whatever_its_configuration(
    server: PostgresServer, url: str
) -> None:
    def level(store: PostgresStore) -> object:
        assert store._writer is not None
        assert store._writer._connection is not None
        return store._writer._connection.execute("SHOW synchronous_commit").fetchone()

    with psycopg.connect(url, autocommit=True) as other:
        for configured, used in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
            name = other.info.dbname
            other.execute(f"ALTER DATABASE {name} SET synchronous_commit TO {configured}".encode())
            with loaded(url) as store:
                assert level(store) == (used,)


def test_a_full_disk_refuses_the_whole_group_and_later_commits_work(url: str) -> None:
    """The server's word for it is made by a trigger; the disk is the machine's."""
    with loaded(url) as store:
        store.commit([session_put(), submitted(1, b"before")], sync=False)
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "CREATE FUNCTION full_disk() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN"
                " RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;"
                "CREATE TRIGGER full_disk BEFORE INSERT ON flame.batches"
                " EXECUTE FUNCTION full_disk()"
            )
            with pytest.raises(ResourceExhausted, match="nothing of this commit was stored"):
                store.commit([recorded(0, 1), session_put(S2), submitted(2, b"x")], sync=False)
            assert [task.finished_ms for task in store.tasks(S1, 0, 10)] == [None]
            other.execute("DROP TRIGGER full_disk ON flame.batches")
        store.commit([recorded(0, 1), submitted(2, b"after")], sync=True)
        assert [task.input for task in store.tasks(S1, 0, 10)] == [b"before", b"after"]
    with loaded(url) as store:
        store.commit([session_put(S2)], sync=False)


def test_a_group_with_a_bug_in_it_leaves_nothing_behind(url: str) -> None:
    with loaded(url) as store:
        store.commit([session_put()], sync=False)
        with pytest.raises(IllegalTransition):
            store.commit(
                [submitted(1, b"x"), session_put(S2), recorded(0, 1, session=SessionNumber(9))],
                sync=False,
            )
        assert store.tasks(S1, 0, 10) == []
        store.commit([submitted(1, b"y")], sync=False)
        assert [task.input for task in store.tasks(S1, 0, 10)] == [b"y"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("UPDATE flame.batches SET created_ms = 1", "batches"),
        ("UPDATE flame.batches SET inputs = inputs || '\\x00'", "batches"),
        ("UPDATE flame.outcomes SET succeeded = 5", "outcomes"),
        ("UPDATE flame.sessions SET name = 'another'", "sessions"),
        ("UPDATE flame.meta SET value = 1", "meta"),
    ],
)
def test_damage_is_found_and_its_table_is_named(url: str, damage: str, named: str) -> None:
    with loaded(url) as store:
        store.commit([session_put(), submitted(1, b"1", b"2"), recorded(0, 2)], sync=False)
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(damage.encode())
    with (
        closing(PostgresStore(url)) as store,
        pytest.raises(CorruptStore, match=rf"table {named}, row "),
    ):
        read(store.load())


# --- Versions ------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused(url: str) -> None:
    with loaded(url):
        pass
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("UPDATE flame.schema_version SET version = 99")
    with closing(PostgresStore(url)) as store, pytest.raises(WrongState, match="version 99"):
        store.load()


def test_a_version_1_schema_opens_with_its_data(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(url, autocommit=True) as old:
        old.execute("CREATE SCHEMA flame")
        old.execute("SET search_path TO flame")
        old.execute(MIGRATIONS[0])
        old.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        old.execute("INSERT INTO schema_version VALUES (1)")
        old.execute((Path(__file__).parent / "databases/postgres-version-1.sql").read_bytes())
    with closing(PostgresStore(url)) as store:
        found = read(store.load())
        assert found.recovered.epoch == 5
        assert [session.put for session in found.recovered.sessions] == [session_put()]
        assert found.pending[S1] == [(1, b"1", 2_000, 0)]
        task = store.task(S1, TaskId(2))
        assert task is not None
        assert task.output == b"output 2"
        store.commit([deleted(S1)], sync=False)
        while store.maintain():
            pass
    with psycopg.connect(url) as other:
        versions = other.execute("SELECT version FROM flame.schema_version").fetchall()
        assert versions == [(SCHEMA_VERSION,)]


def test_two_clusters_share_a_database_in_schemas_of_their_own(url: str) -> None:
    with (
        closing(PostgresStore(url, schema="one")) as one,
        closing(PostgresStore(url, schema="two")) as two,
    ):
        for store in (one, two):
            store.load()
        one.commit([session_put(), submitted(1, b"1")], sync=False)
        assert two.tasks(S1, 0, 1) == []


def test_the_numbers_of_old_groups_are_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "GROUPS_KEPT_SECONDS", 0.0)
    with loaded(url) as store, psycopg.connect(url, autocommit=True) as other:
        store.commit([session_put()], sync=False)
        for task_id in range(1, 20):
            store.commit([submitted(task_id, b"1")], sync=False)
        groups = "SELECT * FROM flame.groups"
        wait_until(lambda: other.execute(groups).fetchall() == [(20,)], "the last group's row")
    with loaded(url) as store:  # and counting goes on
        store.commit([submitted(20, b"1")], sync=False)
