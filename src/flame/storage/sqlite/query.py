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


def check_indexes(query: Query) -> None:
    """Compare each index with its table.

    A row that an index has lost would be missed in silence: a final task would look pending. SQLite
    notices a broken page but not a changed key, and its own integrity check reads the whole file.
    """
    for table, index, *columns in (
        ("outcomes", "outcomes_by_task", "session", "first_position", "width", "min_id", "max_id"),
        ("lease_losses", "lease_losses_by_task", "session", "charged", "number"),
        ("session_events", "session_events_by_session", "session", "number"),
    ):
        sums = ", ".join(f"sum({column})" for column in columns)
        select = f"SELECT count(*), {sums}"
        # No index has check_sum, so this must go through the table.
        in_table = query(f"{select}, max(check_sum) FROM {table}")[0][:-1]
        in_index = query(f"{select} FROM {table} INDEXED BY {index}")[0]
        if in_table != in_index:
            raise CorruptStore(
                f"table {table}: its index {index} does not match it; `REINDEX` in the sqlite3"
                " program repairs that"
            )
