"""The PostgreSQL engine: a schema in a database, one leader that writes, standbys that wait.

schema      the tables and their migrations
lease       who may write: one leader, on the database's time
connection  connections that come back
writer      a group of records is a transaction, stored once even if a connection breaks
store       the engine put together
"""

from flame.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
