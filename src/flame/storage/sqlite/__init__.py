"""The SQLite engine: one file, one writer, a row per batch.

schema        the tables and their migrations
lock          one manager to a file
writer        a group of records is a transaction
checkpointer  keeps the write-ahead log short, beside the writer
tail          notices that the end of the log is lost
query         one statement, from any thread
"""

from flame.storage.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
