"""A deleted session is gone at once; what it leaves behind goes in pieces, beside the commits."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from flame.core.records import SessionEvent
from flame.model.ids import SessionNumber, TaskId
from flame.model.specs import Event
from flame.storage import purge
from flame.storage.sqlite import SqliteStore
from tests.storage.records import (
    S1,
    S2,
    deleted,
    lease_lost,
    logged,
    read,
    recorded,
    session_put,
    submitted,
)

TABLES = ("batches", "outcomes", "lease_losses", "session_events", "task_logs")


def fill(store: SqliteStore, session: SessionNumber, batches: int, size: int = 10) -> None:
    for batch in range(batches):
        first = batch * 2 + 1
        store.commit(
            [
                submitted(first, bytes(size), b"", session=session),
                recorded(first - 1, first + 1, first, session=session),
                lease_lost(first, session=session),
                logged(first, session=session),
                SessionEvent(session, Event(1, "something", 1)),
            ],
            sync=False,
        )


def rows_left(path: Path) -> dict[str, int]:
    # Not by way of sqlite3: a second copy of SQLite in a process breaks the first one's locks.
    with closing(apsw.Connection(str(path))) as database:
        return {
            table: database.execute(f"SELECT count(*) FROM {table} WHERE session = 1").get
            for table in (*TABLES, "deleted_sessions")
        }


def test_a_deleted_session_leaves_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "PIECE_ROWS", 10)
    path = tmp_path / "flame.db"
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put(S1), session_put(S2)], sync=False)
        fill(store, S1, 25)
        fill(store, S2, 3)
        store.commit([deleted(S1)], sync=False)
        assert store.tasks(S1, 0, 10) == []
        left = [sum(rows_left(path).values())]
        while store.maintain():
            left.append(sum(rows_left(path).values()))
        assert max(a - b for a, b in pairwise(left)) <= 10
        assert set(rows_left(path).values()) == {0}
        assert store.maintain() is False
        assert [task.task_id for task in store.tasks(S2, 0, 10)] == [1, 2, 3, 4, 5, 6]
        assert store.task(S2, TaskId(2)) is not None


def test_large_rows_make_a_piece_of_fewer(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put(S1)], sync=False)
        fill(store, S1, 8, size=purge.PIECE_BYTES // 2)
        store.commit([deleted(S1)], sync=False)
        left = [8]
        while store.maintain():
            left.append(rows_left(path)["batches"])
        assert left[:5] == [8, 6, 4, 2, 0]


def test_a_restart_goes_on_with_what_was_left(tmp_path: Path) -> None:
    path = tmp_path / "flame.db"
    with closing(SqliteStore(path)) as store:
        store.load()
        store.commit([session_put(S1), session_put(S2)], sync=False)
        fill(store, S1, 3)
        store.commit([deleted(S1)], sync=False)
    with closing(SqliteStore(path)) as store:
        found = read(store.load()).recovered
        assert [session.put.session for session in found.sessions] == [S2]
        assert store.tasks(S1, 0, 10) == []
        assert store.outcomes(S1, 0, 100) is None
        while store.maintain():
            pass
        assert set(rows_left(path).values()) == {0}
