"""What a deleted session leaves behind goes in pieces.

The commit that deletes a session deletes one row, and lists the session in ``deleted_sessions``: from
then on reads find nothing of it, and its rows are garbage. A piece is small enough that a commit which
has to wait for it waits for milliseconds. The list is stored, so a restart goes on with it.
"""

from collections.abc import Iterator

from flame.storage.reader import Query
from flame.storage.statements import Value

PIECE_ROWS = 256
PIECE_BYTES = 2 * 1024 * 1024

Statement = tuple[str, tuple[Value, ...]]

#: Batches first: without them nothing of a session's tasks is read, in whatever order the rest goes.
_KEYED = (
    ("batches", "first_id", "inputs"),
    ("outcomes", "first_position", "results"),
    ("task_logs", "position", "log"),
)
_NUMBERED = ("lease_losses", "session_events")


def next_piece(query: Query, session: int) -> Iterator[Statement]:
    """Yield the statements of the next transaction that clears away a deleted session.

    The last of them takes it off the list, if after the others nothing of it is left.
    """
    rows_left, bytes_left = PIECE_ROWS, PIECE_BYTES
    for table, key, blob in _KEYED:
        found = query(
            f"SELECT {key}, length({blob}) FROM {table} WHERE session = ?1"  # noqa: S608 - our own names
            f" ORDER BY {key} LIMIT ?2",
            session,
            rows_left,
        )
        last = None
        while found and rows_left > 0 and bytes_left > 0:  # so a row of any size goes
            last, size = found.pop(0)
            rows_left -= 1
            bytes_left -= size
        if last is not None:
            yield f"DELETE FROM {table} WHERE session = ?1 AND {key} <= ?2", (session, last)  # noqa: S608 - our own names
        if bytes_left <= 0 or rows_left <= 0:
            return
    for table in _NUMBERED:
        found = query(
            f"SELECT number FROM {table} WHERE session = ?1 ORDER BY number LIMIT ?2",  # noqa: S608 - our own names
            session,
            rows_left,
        )
        rows_left -= len(found)
        if found:
            last = found[-1][0]
            yield f"DELETE FROM {table} WHERE session = ?1 AND number <= ?2", (session, last)  # noqa: S608 - our own names
        if rows_left <= 0:
            return
    yield "DELETE FROM deleted_sessions WHERE session = ?1", (session,)
