"""The tables, and how an older schema becomes a newer one.

They are those of SQLite (see ``flame.storage.sqlite.schema``, also for why a row is a batch), in a
schema of their own (``flame``), so a database may hold other things too. What is only here:

lease    one row: who leads. ``epoch`` is the start's number; ``fence`` rises with every start and
         with every new connection of the writer; ``expires`` is on the database's clock.
         ``process`` tells whoever runs in the same place whether the holder is still alive;
         ``address`` is where its clients find it.
groups   the numbers of the last groups stored, so that a commit whose answer was lost can be looked up.

``begin_group`` opens every write transaction: it fails with ``FL001`` if ``fence`` is no longer the
lease's. It holds an advisory lock, shared, for as long as the transaction lasts; whoever raises the
fence holds it alone. So once the fence is raised no transaction of before can commit any more: those
that had begun are over, and those that begin will fail. (A lock on the lease's row would do the same,
but every commit would write that row, and one long snapshot, such as a backup's, would then keep all
its versions.)

A migration is added to ``MIGRATIONS`` and never edited; ``schema_version`` counts those applied.
"""

from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from flame.model.errors import WrongState

Connection = psycopg.Connection[TupleRow]

#: The SQLSTATE of a write by someone who does not lead any more.
TAKEN_OVER = "FL001"

_FIRST: LiteralString = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL,
    check_sum BIGINT NOT NULL
);

CREATE TABLE applications (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    spec BYTEA NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE sessions (
    session BIGINT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    state BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    check_sum BIGINT NOT NULL,
    spec BYTEA NOT NULL
);

CREATE TABLE session_events (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    event BYTEA NOT NULL
);
CREATE INDEX session_events_by_session ON session_events (session, number);

CREATE TABLE batches (
    session BIGINT NOT NULL,
    first_id BIGINT NOT NULL,
    count BIGINT NOT NULL,
    submitter BYTEA NOT NULL,
    first_number BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    inputs BYTEA NOT NULL,
    PRIMARY KEY (session, first_id)
);

CREATE TABLE outcomes (
    session BIGINT NOT NULL,
    first_position BIGINT NOT NULL,
    count BIGINT NOT NULL,
    min_id BIGINT NOT NULL,
    max_id BIGINT NOT NULL,
    width INTEGER NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    ids BYTEA,
    results BYTEA NOT NULL,
    PRIMARY KEY (session, first_position)
);
CREATE INDEX outcomes_by_task ON outcomes (session, width, min_id, max_id);

CREATE TABLE lease_losses (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session BIGINT NOT NULL,
    charged BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    loss BYTEA NOT NULL
);
CREATE INDEX lease_losses_by_task ON lease_losses (session, charged);
CREATE INDEX lease_losses_by_session ON lease_losses (session, number);

CREATE TABLE bindings (
    executor TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    session BIGINT,
    incarnation BIGINT NOT NULL,
    node TEXT NOT NULL,
    application TEXT NOT NULL,
    check_sum BIGINT NOT NULL
);

-- Payloads are mostly not text: trying to compress them costs more than it saves.
ALTER TABLE batches ALTER COLUMN inputs SET STORAGE EXTERNAL;
ALTER TABLE outcomes ALTER COLUMN ids SET STORAGE EXTERNAL, ALTER COLUMN results SET STORAGE EXTERNAL;

CREATE TABLE lease (
    only_row BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    epoch BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    holder TEXT NOT NULL,
    process TEXT NOT NULL,
    expires TIMESTAMPTZ NOT NULL
);
INSERT INTO lease (epoch, fence, holder, process, expires) VALUES (0, 0, '', '', '-infinity');

CREATE TABLE groups (number BIGINT PRIMARY KEY);

CREATE FUNCTION fence_lock() RETURNS BIGINT STABLE LANGUAGE SQL AS $$
    SELECT (1179402573::BIGINT << 32) | 'lease'::REGCLASS::OID::BIGINT
$$;

CREATE FUNCTION begin_group(expected BIGINT, number BIGINT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(fence_lock());
    -- A snapshot of its own, so this sees whoever raised the fence while we waited.
    PERFORM 1 FROM lease WHERE fence = expected;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another session manager leads' USING ERRCODE = 'FL001';
    END IF;
    INSERT INTO groups VALUES (number);
END
$$;
"""

_DELETED_SESSIONS: LiteralString = "CREATE TABLE deleted_sessions (session BIGINT PRIMARY KEY)"

_MANAGED: LiteralString = """
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    spec BYTEA NOT NULL
);

CREATE TABLE tokens (
    token TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    spec BYTEA NOT NULL
);

CREATE TABLE cordons (
    node TEXT PRIMARY KEY,
    drain BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    check_sum BIGINT NOT NULL
);
"""

_ADDRESS: LiteralString = "ALTER TABLE lease ADD COLUMN address TEXT NOT NULL DEFAULT ''"

#: What tasks wrote. ``position`` is where a log ends in all that its session's tasks ever wrote, so that
#: the oldest can be dropped without counting.
_TASK_LOGS: LiteralString = """
CREATE TABLE task_logs (
    session BIGINT NOT NULL,
    position BIGINT NOT NULL,
    size BIGINT NOT NULL,
    task_id BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    check_sum BIGINT NOT NULL,
    log BYTEA NOT NULL,
    PRIMARY KEY (session, position)
);
CREATE INDEX task_logs_by_task ON task_logs (session, task_id);
"""

MIGRATIONS = (_FIRST, _DELETED_SESSIONS, _MANAGED, _ADDRESS, _TASK_LOGS)
SCHEMA_VERSION = len(MIGRATIONS)


def read_version(connection: Connection) -> int:
    """Return how many migrations the schema has seen; 0 if there is none.

    Raises:
        WrongState: A newer version wrote it. It is left as it was.
    """
    if one(connection, "SELECT to_regclass('schema_version') IS NULL"):
        return 0
    version = int(one(connection, "SELECT version FROM schema_version"))
    if version > SCHEMA_VERSION:
        raise WrongState(
            f"database {connection.info.dbname} has schema version {version}; this version of Flame"
            f" reads up to {SCHEMA_VERSION}: use the newer version that wrote it"
        )
    return version


def migrate(connection: Connection, version: int) -> None:
    """Bring the schema from ``version`` to this version's, in the caller's transaction."""
    if version == SCHEMA_VERSION:
        return
    if version == 0:
        connection.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (0)")
    for step in MIGRATIONS[version:]:
        connection.execute(step)
    connection.execute("UPDATE schema_version SET version = $1", (SCHEMA_VERSION,))


def one(connection: Connection, sql: LiteralString, *values: object) -> Any:
    """Return the one value that a query answers with; None if it has no row."""
    found = connection.execute(sql, values).fetchone()
    return None if found is None else found[0]
