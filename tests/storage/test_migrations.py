"""What an earlier version stored opens, with all that is in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from flame.model.ids import TaskId
from flame.model.specs import Event, TaskState
from flame.storage.sqlite import SqliteStore
from flame.storage.sqlite.schema import SCHEMA_VERSION
from tests.storage.records import S1, S2, SUBMITTER, TENANT, binding, deleted, read, session_put

DATABASES = Path(__file__).parent / "databases"


def old_database(path: Path, version: int) -> None:
    """Make the database that the first release with this schema version left behind."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript((DATABASES / f"sqlite-version-{version}.sql").read_text("utf-8"))


def test_a_version_1_sqlite_database_opens_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    old_database(path, 1)
    for epoch in (2, 3):  # while it is migrated, and once it is
        with closing(SqliteStore(path)) as store:
            found = read(store.load())
            assert found.recovered.epoch == epoch
            one, two = found.recovered.sessions
            assert (one.put, two.put) == (session_put(S1), session_put(S2))
            assert (one.next_task_id, one.succeeded, one.failed) == (5, 1, 1)
            assert one.events == [Event(1001, "bind failed", 7)]
            assert list(one.submitters) == [SUBMITTER]
            assert found.pending[S1] == [(2, b"2", 2_000, 1), (3, None, 2_000, 0)]
            assert found.pending[S2] == [(1, b"other", 2_000, 0)]
            assert found.recovered.bindings == [binding()]
            (application,) = found.recovered.applications
            assert (application.tenant, application.name) == (TENANT, "render")
            task = store.task(S1, TaskId(4))
            assert task is not None
            assert task.state is TaskState.FAILED
            if epoch == 3:
                store.commit([deleted(S1)], sync=False)
                assert store.tasks(S1, 0, 10) == []
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
