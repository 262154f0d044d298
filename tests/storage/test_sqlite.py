"""What the SQLite engine does about crashes, full disks, damage and second openers."""

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from flame.core.records import ApplicationPut, OutcomesRecorded, SessionEvent
from flame.model.errors import IllegalTransition, ResourceExhausted, WrongState
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import ApplicationSpec, Event, TaskState
from flame.storage.reader import SMALL_RESULTS
from flame.storage.sqlite import SqliteStore, checkpointer
from flame.storage.store import CorruptStore
from tests.storage.committer import payload
from tests.storage.disk import Disk
from tests.storage.records import (
    S1,
    S2,
    TENANT,
    binding,
    deleted,
    lease_lost,
    logged,
    read,
    recorded,
    session_put,
    submitted,
)

ENOUGH = 1 << 30
S9 = SessionNumber(9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flame.db"


@contextmanager
def opened(path: Path, disk: Disk | None = None) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path, vfs=disk.vfs_name if disk else None)) as store:
        store.load()
        yield store


def environment() -> dict[str, str]:
    """For processes that import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The closed database, by way of another library."""
    with closing(sqlite3.connect(path)) as connection:
        yield connection
        connection.commit()


def test_a_killed_process_loses_nothing_that_it_said_was_stored(path: Path) -> None:
    for lines in (1, 2, 40, 150, 7):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.committer", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        with process:
            assert process.stdout is not None
            acknowledged = 0
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
            acknowledged = max([acknowledged, *(int(line) for line in rest if line.endswith("\n"))])
        with closing(SqliteStore(path)) as store:
            found = read(store.load())
            (session,) = found.recovered.sessions
            last = session.next_task_id - 1
            assert last >= acknowledged
            # Whole groups: every task but the last has its outcome.
            assert [p[0] for p in found.pending[S1]] == [last]
            assert session.log_end == last - 1
            task = store.task(S1, TaskId(acknowledged))
            assert task is not None
            assert task.input == payload(acknowledged)


def test_a_second_opener_is_refused_and_told_who_has_the_file(path: Path) -> None:
    with opened(path):
        with pytest.raises(WrongState, match=rf"flame\.db is in use by process {os.getpid()};"):
            SqliteStore(path)
        other = subprocess.run(
            [sys.executable, "-m", "tests.storage.committer", str(path)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert other.returncode == 1
        assert f"in use by process {os.getpid()}" in other.stderr
    with opened(path):
        pass  # free again


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    with opened(path):
        pass
    with raw(path) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(WrongState, match="schema version 99"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with raw(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(WrongState, match="not one of Flame's"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_called_damaged(path: Path) -> None:
    path.write_bytes(b"These are not the bytes of a database, but of a poem. " * 200)
    with pytest.raises(CorruptStore, match=r"flame\.db"):
        SqliteStore(path)


def test_the_files_are_their_owners_only(path: Path) -> None:
    with opened(path) as store:
        store.commit([session_put()], sync=True)
        files = sorted(path.parent.iterdir())
        assert [file.name.removeprefix(path.name) for file in files] == [
            "", "-shm", "-wal", ".lock", ".tail",
        ]  # fmt: skip
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def everything(path: Path) -> tuple[object, ...]:
    """All that a store can tell, from start-up on."""
    with closing(SqliteStore(path)) as store:
        found = read(store.load())
        log: list[OutcomesRecorded] = []
        while batch := store.outcomes(S1, sum(len(b.task_ids) for b in log), ENOUGH):
            log.append(batch)
        logs = store.logs(S1, 0, 10_000)
        return found.pending, found.recovered.sessions, store.tasks(S1, 0, 10_000), log, logs


def test_small_batches_of_outcomes_are_read_together_and_a_large_one_alone(path: Path) -> None:
    failed = (TaskState.FAILED, 1, "no luck")
    batches = [
        recorded(0, 1, 2),
        recorded(2, 3, 4, failures={1: failed}, outputs=[b"3", None]),
        recorded(4, 5, outputs=[bytes(SMALL_RESULTS)]),
        recorded(5, 6),
        recorded(6, 7),
    ]
    with opened(path) as store:
        store.commit([session_put(), submitted(1, *[b"x"] * 7), *batches], sync=False)
        first = store.outcomes(S1, 0, ENOUGH)
        assert first is not None
        assert (first.task_ids, first.failures) == ([1, 2, 3, 4], {3: failed})
        assert first.outputs == [b"output 1", b"output 2", b"3", None]
        tail = store.outcomes(S1, 3, ENOUGH)
        assert tail is not None
        assert (tail.first_position, tail.task_ids, tail.failures) == (3, [4], {0: failed})
        assert store.outcomes(S1, 4, ENOUGH) == batches[2]
        last = store.outcomes(S1, 5, ENOUGH)
        assert last is not None
        assert last.task_ids == [6, 7]


DAMAGED = [
    ("batches", "inputs = X'01000000009100'", "batches"),
    ("batches", "inputs = CAST(substr(inputs, 1, length(inputs) - 1) || X'ff' AS BLOB)", "batches"),
    ("batches", "inputs = X''", "batches"),
    ("batches", "inputs = 1", "batches"),
    ("batches", "inputs = 'text'", "batches"),
    ("batches", "inputs = (SELECT results FROM outcomes)", "batches"),
    ("batches", "created_ms = created_ms + 1", "batches"),
    ("batches", "count = 2", "batches"),
    (
        "outcomes",
        "results = CAST(substr(results, 1, 5) || X'00' || substr(results, 7) AS BLOB)",
        "outcomes",
    ),
    ("outcomes", "finished_ms = 0", "outcomes"),
    ("outcomes", "ids = NULL", "outcomes"),
    ("outcomes", "ids = CAST(substr(ids, 1, length(ids) - 1) || X'7f' AS BLOB)", "outcomes"),
    ("lease_losses", "attempt = 0", "lease_losses"),
    ("task_logs", "log = X''", "task_logs"),
    ("task_logs", "task_id = 4", "task_logs"),
    ("sessions", "name = 'other'", "sessions"),
    ("sessions", "spec = CAST(substr(spec, 1, length(spec) - 1) || X'c3' AS BLOB)", "sessions"),
    ("session_events", "session = 2", "session_events"),
    ("applications", "tenant = 'someone'", "applications"),
    ("bindings", "incarnation = 1", "bindings"),
    ("meta", "value = 0", "meta"),
]


@pytest.mark.parametrize(("table", "damage", "named"), DAMAGED)
def test_damage_is_found_and_its_table_is_named(
    path: Path, table: str, damage: str, named: str
) -> None:
    with opened(path) as store:
        store.commit(
            [
                session_put(S1),
                session_put(S2),
                submitted(1, b"1", b"2", b"3", b"4"),
                recorded(0, 1, 4, 2),
                lease_lost(3, charged=3, attempt=1),
                logged(4, 1),
                SessionEvent(S1, Event(1, "something", 1)),
                ApplicationPut(TENANT, "render", ApplicationSpec(), 1),
                binding(),
            ],
            sync=False,
        )
    with raw(path) as database:
        database.execute(f"UPDATE {table} SET {damage}")
    with pytest.raises(CorruptStore, match=rf"flame\.db is damaged: table {named}, row "):
        everything(path)


def test_a_flipped_bit_or_a_cut_is_found_or_touched_nothing_in_use(path: Path) -> None:
    """Anywhere in the file: a wrong answer is the one thing that must not come of it."""
    with opened(path) as store:
        store.commit([session_put()], sync=False)
        end = 0
        for batch in range(45):
            ids = range(end + 1, end + 1 + (1, 20, 64)[batch % 3])
            inputs = [b"input of task %d" % task_id for task_id in ids]
            store.commit([submitted(end + 1, *inputs, first_number=end)], sync=False)
            store.commit([recorded(end, *(ids if batch % 2 else reversed(ids)))], sync=False)
            end = ids[-1]
    good = path.read_bytes()
    expected = everything(path)
    random = Random(20261123)
    found = 0
    for _ in range(200):
        bad = bytearray(good)
        if random.random() < 0.1:
            del bad[random.randrange(len(bad)) :]
        else:
            bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
        path.write_bytes(bad)
        try:
            assert everything(path) == expected
        except (
            CorruptStore,
            WrongState,
        ):  # WrongState: the header no longer says that it is Flame's
            found += 1
    assert found > 50


def test_a_missing_batch_is_noticed_by_its_outcomes(path: Path) -> None:
    with opened(path) as store:
        store.commit([session_put(), submitted(1, b"1"), recorded(0, 1)], sync=False)
    with raw(path) as database:
        database.execute("DELETE FROM batches")
    with closing(SqliteStore(path)) as store, pytest.raises(CorruptStore, match="task 1 is final"):
        store.load()


def test_a_sync_commit_waits_for_the_disk_and_a_plain_one_does_not(path: Path) -> None:
    disk = Disk()
    with opened(path, disk) as store:
        store.commit([session_put(), submitted(1, b"x")], sync=False)
        for first_id, sync in [(2, True), (3, True), (4, False), (5, True), (6, False)]:
            disk.syncs.clear()
            store.commit([submitted(first_id, b"x")], sync=sync)
            assert bool(disk.syncs["wal"]) is sync


def test_a_full_disk_refuses_the_whole_group_and_later_commits_work(path: Path) -> None:
    disk = Disk()
    with opened(path, disk) as store:
        store.commit([session_put(), submitted(1, b"before")], sync=False)
        for free in (0, 100, 5_000, 60_000, 90_000):  # the group is refused wherever it stands
            disk.free = free
            with pytest.raises(ResourceExhausted, match=r"flame\.db"):
                store.commit(
                    [recorded(0, 1), session_put(S2), submitted(2, bytes(100_000)), deleted(S1)],
                    sync=False,
                )
            assert [task.finished_ms for task in store.tasks(S1, 0, 10)] == [None]
            assert store.outcomes(S1, 0, ENOUGH) is None
        disk.free = None
        store.commit([recorded(0, 1), submitted(2, b"after")], sync=True)
        assert [task.input for task in store.tasks(S1, 0, 10)] == [b"before", b"after"]
    with closing(SqliteStore(path)) as store:
        recovered = store.load()
        assert recovered.next_session == 2
        assert [p[0] for p in read(recovered).pending[S1]] == [2]


def test_a_group_with_a_bug_in_it_leaves_nothing_behind(path: Path) -> None:
    with opened(path) as store:
        store.commit([session_put()], sync=False)
        with pytest.raises(IllegalTransition):
            store.commit(
                [submitted(1, b"x"), session_put(S2), recorded(0, 1, session=S9)], sync=True
            )
        assert store.tasks(S1, 0, 10) == []
        store.commit([submitted(1, b"y")], sync=False)
        assert [task.input for task in store.tasks(S1, 0, 10)] == [b"y"]
    with closing(SqliteStore(path)) as store:
        assert store.load().next_session == 2


def test_a_limit_on_the_files_size_is_a_full_disk(path: Path) -> None:
    """The operating system says EFBIG, which SQLite calls an input/output error; so is a quota."""
    with opened(path) as store:
        store.commit([session_put(), submitted(1, b"before")], sync=False)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            with pytest.raises(ResourceExhausted):
                store.commit([submitted(2, bytes(3_000_000))], sync=False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        store.commit([submitted(2, bytes(3_000_000))], sync=False)
        assert [len(task.input or b"") for task in store.tasks(S1, 0, 10)] == [6, 3_000_000]


def test_the_log_starts_over_under_a_load_without_a_pause(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a busy manager's log would fill the disk, and its next start would be slow."""
    monkeypatch.setattr(checkpointer, "CHECKPOINT_PAGES", 100)
    monkeypatch.setattr(checkpointer, "MOST_PAGES", 500)  # 4 MiB
    with opened(path) as store:
        store.commit([session_put()], sync=False)
        for task_id in range(1, 601):
            store.commit([submitted(task_id, bytes(100_000))], sync=False)
            store.task(S1, TaskId(task_id))
        assert path.stat().st_size > 30_000_000
        assert Path(f"{path}-wal").stat().st_size < 10_000_000
