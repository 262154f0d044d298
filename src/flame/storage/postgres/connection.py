"""Connections to one database: how they are made, and what a lost one is.

A parameter is ``?1`` in our statements and ``$1`` in PostgreSQL's.
"""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from psycopg import sql as quoted
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PipelineStatus
from psycopg.types.numeric import Int8BinaryDumper

from flame.model.errors import InvalidConfiguration, Unavailable, WrongState
from flame.storage.postgres.schema import Connection
from flame.storage.reader import Row
from flame.storage.rows import Column
from flame.storage.store import CorruptStore

#: A server that restarts after a crash, or a standby that is promoted, is back within this.
PATIENCE_SECONDS = 30.0

#: So that neither side waits for ever for a peer that has vanished.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",  # of several hosts, the one that is the primary
    "application_name": "flame-session-manager",
}

_READ_ONLY = "25006"

#: What a server says before it closes its end: it stops, or takes the session for a dead one.
_GOODBYES = ("08", "57P", "25P03")


class Database:
    """Where the tables are.

    Args:
        url: What libpq takes: ``postgresql://user@host:port/database?option=value``.
        schema: The schema in it; made where it is missing.

    Raises:
        InvalidConfiguration: libpq does not understand the text.
    """

    def __init__(self, url: str, schema: str) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            # Its text may hold the password, so it is not repeated.
            raise InvalidConfiguration(
                "storage postgresql://...: this is not a URL that PostgreSQL understands; the form"
                " is postgresql://USER@HOST:PORT/DATABASE"
            ) from error
        self._parameters = {**_DEFAULTS, **given}
        self._schema = quoted.Identifier(schema)
        where = given.get("host") or given.get("hostaddr") or "localhost"
        self.name = f"PostgreSQL database {given.get('dbname') or ''!r} on {where}"

    def connect(self) -> Connection:
        """Connect once.

        Raises:
            Unavailable: Nobody answers there, or it does not let us in.
        """
        try:
            connection = psycopg.connect(
                **self._parameters, autocommit=True, cursor_factory=psycopg.RawCursor
            )
        except psycopg.OperationalError as error:
            raise Unavailable(f"{self.name} cannot be reached: {_text(error)}") from error
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.prepare_threshold = 2
        path = quoted.SQL("SET search_path TO {}").format(self._schema)
        connection.execute(path.as_string(connection).encode())
        # The weaker levels lose acknowledged commits when the server crashes, which is the death of
        # a process; the stronger ones are the administrator's choice, and stay.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
        )
        connection.execute("SET client_min_messages TO warning")
        # Our statements follow an index from where they begin, a page at a time. Of a table without
        # statistics PostgreSQL thinks that it is better to fetch all the rest, and sort that.
        connection.execute("SET enable_bitmapscan TO off")
        # A transaction of ours is sent as a whole; one that stands still belongs to a dead process.
        connection.execute("SET idle_in_transaction_session_timeout TO '10s'")
        return connection

    def create_schema(self, connection: Connection) -> None:
        """Make the schema where there is none."""
        make = quoted.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(self._schema)
        connection.execute(make.as_string(connection).encode())

    def connect_patiently(self, closing: threading.Event) -> Connection:
        """Connect, and try again for a while.

        Raises:
            Unavailable: Not within :data:`PATIENCE_SECONDS`, or ``closing`` was set.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        delay = 0.05
        while True:
            try:
                return self.connect()
            except Unavailable:
                if time.monotonic() + delay > deadline or closing.wait(delay):
                    raise
                delay = min(delay * 2, 1.0)


class PostgresQuery:
    """Runs one statement at a time, from any thread; connects again where the connection is lost."""

    def __init__(self, database: Database, closing: threading.Event) -> None:
        self._database = database
        self._closing = closing
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def __call__(self, sql: str, *values: Column) -> list[Row]:
        statement = dollars(sql)
        with self._lock:
            tries = 0
            while True:
                if self._connection is None:
                    self._connection = self._database.connect_patiently(self._closing)
                try:
                    with errors_named(self._database.name):
                        return self._connection.execute(statement, values, binary=True).fetchall()
                except psycopg.OperationalError as error:
                    if not is_lost(self._connection, error):
                        raise
                    self._connection = None
                    tries += 1
                    if tries == 3:  # connected again each time: the statement itself breaks it
                        raise Unavailable(f"{self._database.name}: {_text(error)}") from error

    def close(self) -> None:
        """Disconnect; a read that is under way ends first."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


@cache
def dollars(sql: str) -> str:
    """Spell the parameters as PostgreSQL does."""
    return re.sub(r"\?(\d)", r"$\1", sql)


@contextmanager
def errors_named(database: str) -> Iterator[None]:
    """Turn PostgreSQL's word for damage, and for a database that is not ours to write, into ours."""
    try:
        yield
    except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
        raise CorruptStore(f"{database} is damaged: {_text(error)}") from error
    except psycopg.Error as error:
        if error.sqlstate == _READ_ONLY:
            raise WrongState(
                f"{database} is read-only, a standby perhaps; name the primary"
            ) from error
        raise


def is_lost(connection: Connection, error: psycopg.Error) -> bool:
    """Return whether the connection is of no use any more after that error; it is closed then.

    psycopg believes it whole until it reads its end: after the server's goodbye, and in the middle of a
    pipeline, which cannot be left while answers are missing.
    """
    goodbye = (error.sqlstate or "").startswith(_GOODBYES)
    if goodbye or connection.pgconn.pipeline_status != PipelineStatus.OFF:
        connection.close()
    return connection.closed


def _text(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
