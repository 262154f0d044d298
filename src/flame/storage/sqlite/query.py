"""Running one statement, from any thread; and whether SQLite's indexes are whole.

Rows are fetched at once and under one lock: a statement left half-read would hold the write-ahead log
back from starting over.
"""

import threading

import apsw

from flame.storage.reader import Query, Row
from flame.storage.rows import Column
from flame.storage.store import CorruptStore


class SqliteQuery:
    """One connection, one lock."""

    def __init__(self, connection: apsw.Connection, lock: threading.Lock) -> None:
        self._connection = connection
        self._lock = lock

    def __call__(self, sql: str, *values: Column) -> list[Row]:
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except (apsw.CorruptError, apsw.SQLError, UnicodeDecodeError) as error:
                # SQLError: our statements are right, so it is the schema's text that is wrong.
                raise CorruptStore(f"{error}, reading: {sql.strip()}") from error


#: Each table, a column that only the table has, its indexes, and columns that they have too.
_INDEXES = (
    ("batches", "count", "sqlite_autoindex_batches_1", "session", "first_id"),
    ("outcomes", "count", "sqlite_autoindex_outcomes_1", "session", "first_position"),
    (
        "outcomes",
        "count",
        "outcomes_by_task",
        "session",
        "first_position",
        "width",
        "min_id",
        "max_id",
    ),
    ("lease_losses", "attempt", "lease_losses_by_task", "session", "charged", "number"),
    ("task_logs", "attempt", "sqlite_autoindex_task_logs_1", "session", "position"),
    ("task_logs", "attempt", "task_logs_by_task", "session", "task_id"),
    ("session_events", "check_sum", "session_events_by_session", "session", "number"),
    ("meta", "value", "meta_by_check_sum", "check_sum"),
    ("applications", "created_ms", "applications_by_check_sum", "check_sum"),
    ("sessions", "created_ms", "sessions_by_check_sum", "check_sum"),
    ("bindings", "incarnation", "bindings_by_check_sum", "check_sum"),
    ("tenants", "created_ms", "tenants_by_check_sum", "check_sum"),
    ("tokens", "created_ms", "tokens_by_check_sum", "check_sum"),
    ("cordons", "since_ms", "cordons_by_check_sum", "check_sum"),
)


def check_indexes(query: Query) -> None:
    """Compare each table with its indexes.

    Check sums tell only of what is read. A flipped bit in a page's list of rows, or in an index, makes
    rows vanish, and nothing that is left looks wrong: a final task would be pending, or a session
    gone. SQLite's own integrity check would find it, and read the whole file for that.
    """
    for table, own, index, *columns in _INDEXES:
        select = "SELECT count(*)" + "".join(f", sum({column})" for column in columns)
        # The table's own column, or the index would be read for the table.
        in_table = query(f"{select}, max({own}) FROM {table} NOT INDEXED")[0][:-1]
        in_index = query(f"{select} FROM {table} INDEXED BY {index}")[0]
        if in_table != in_index:
            raise CorruptStore(f"table {table}: its index {index} does not match it")
    both = query(
        "SELECT session FROM sessions WHERE session IN (SELECT session FROM deleted_sessions)"
    )
    if both:
        raise CorruptStore(f"tables sessions, deleted_sessions: both have session {both[0][0]}")
