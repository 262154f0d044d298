"""Copies made beside a store that is being written to; and migrating without a session manager."""

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flame.model.errors import AlreadyExists, InvalidConfiguration, NotFound, WrongState
from flame.storage.backup import EPOCH_STEP, backup
from flame.storage.migrate import migrate
from flame.storage.postgres import PostgresStore
from flame.storage.postgres.schema import SCHEMA_VERSION as POSTGRES_VERSION
from flame.storage.sqlite import SqliteStore
from flame.storage.sqlite.schema import SCHEMA_VERSION
from flame.storage.store import CorruptStore
from tests.postgres_server import PostgresServer
from tests.storage.records import S1, read, recorded, session_put, submitted
from tests.storage.test_migrations import old_database


def test_a_copy_made_under_load_is_of_one_moment(tmp_path: Path) -> None:
    """Group n is the task n and the outcome of task n - 1, so half a group would show."""
    path, copy = tmp_path / "flame.db", tmp_path / "copy.db"
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put(), submitted(1, bytes(50_000))], sync=False)
        copied = threading.Event()
        committed = 1

        def make() -> None:
            backup(f"sqlite://{path}", copy)
            copied.set()

        for _ in range(200):
            committed += 1
            store.commit(
                [submitted(committed, bytes(50_000)), recorded(committed - 2, committed - 1)],
                sync=False,
            )
        before = committed
        copying = threading.Thread(target=make)
        copying.start()
        while not copied.is_set():
            committed += 1
            store.commit(
                [submitted(committed, bytes(50_000)), recorded(committed - 2, committed - 1)],
                sync=False,
            )
        copying.join()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.glob("*copy*")) == ["copy.db"]
    with closing(SqliteStore(copy)) as restored:
        found = read(restored.load())
        last = found.recovered.sessions[0].next_task_id - 1
        assert before <= last <= committed
        assert [p[0] for p in found.pending[S1]] == [last]
        assert found.recovered.epoch == 1 + EPOCH_STEP + 1


def test_a_copy_holds_what_only_the_log_held_and_leaves_the_log_alone(tmp_path: Path) -> None:
    path, copy = tmp_path / "flame.db", tmp_path / "copy.db"
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put(), submitted(1, b"1")], sync=False)
        files = {f: Path(f"{path}{f}").read_bytes() for f in ("", "-wal")}
    for suffix, content in files.items():  # as a kill would leave them
        Path(f"{path}{suffix}").write_bytes(content)
    backup(f"sqlite://{path}", copy)
    assert Path(f"{path}-wal").read_bytes() == files["-wal"]
    with closing(SqliteStore(copy)) as restored:
        assert read(restored.load()).pending[S1] == [(1, b"1", 2_000, 0)]


def test_a_copy_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    SqliteStore(path).close()
    with pytest.raises(AlreadyExists, match="name a new file"):
        backup(f"sqlite://{path}", path)


def test_what_cannot_be_copied_is_said(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    with pytest.raises(NotFound, match="no database"):
        backup(f"sqlite://{path}", tmp_path / "copy.db")
    assert not path.exists()
    with pytest.raises(InvalidConfiguration, match="nothing to copy"):
        backup("memory", tmp_path / "copy.db")
    with pytest.raises(InvalidConfiguration, match="pg_dump"):
        backup("postgresql://host/db", tmp_path / "copy.db")
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 50)
    with pytest.raises(CorruptStore, match="is damaged"):
        backup(f"sqlite://{path}", tmp_path / "copy.db")
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(WrongState, match="not one of Flame's"):
        backup(f"sqlite://{path}", tmp_path / "copy.db")
    path.unlink()
    SqliteStore(path).close()
    with pytest.raises(InvalidConfiguration, match="its directory must exist"):
        backup(f"sqlite://{path}", tmp_path / "missing" / "copy.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "flame.db", "flame.db.lock", "flame.db.tail",
    ]  # fmt: skip


def test_migrating_says_from_where_to_where(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    old_database(path, 1)
    assert migrate(f"sqlite://{path}") == (1, SCHEMA_VERSION)
    assert migrate(f"sqlite://{path}") == (SCHEMA_VERSION, SCHEMA_VERSION)
    with closing(SqliteStore(path)), pytest.raises(WrongState, match="in use by process"):
        migrate(f"sqlite://{path}")
    with pytest.raises(InvalidConfiguration, match="nothing to migrate"):
        migrate("memory")


def test_migrating_postgresql_waits_for_no_leader(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    assert migrate(url) == (0, POSTGRES_VERSION)
    with closing(PostgresStore(url)) as store:
        assert store.load().epoch == 1
        with pytest.raises(WrongState, match="in use by process"):
            migrate(url)
    assert migrate(url) == (POSTGRES_VERSION, POSTGRES_VERSION)
