"""The SQLite engine: one file, one writer, a row per batch.

schema        the tables and their migrations
rows          the bytes of a row, and their check sums
lock          one manager to a file
writer        a group of records is a transaction
checkpointer  keeps the write-ahead log short, beside the writer
reader        single tasks, pages, pieces of the outcome log
recovery      what the core needs at start-up
"""

from flame.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
