"""The tables, and how an older file becomes a newer one.

A row is a *batch* wherever tasks are concerned: a table with a row per task would cost twenty times
as much per task to write. Every table carries the tenant, or the never-reused session number of a
row that does.

    applications   sessions ─┬─ session_events
    bindings                 ├─ batches        tasks as submitted: inputs, and who numbered them
    meta                     ├─ outcomes       the session's log: ids, outputs, failures
                             ├─ task_logs      what tasks wrote: a row for each that did
    deleted_sessions         └─ lease_losses   attempts that were spent
    tenants   tokens   cordons

``check_sum`` covers a row's own columns, and each blob's checksum starts from it, so neither a
flipped bit nor a blob in the wrong row goes unnoticed (see ``rows``).

A migration is added to ``MIGRATIONS`` and never edited; ``PRAGMA user_version`` counts those that
were applied. Large blobs come last in a row: SQLite then reads the columns before them without
touching their pages.
"""

import apsw

from flame.model.errors import WrongState

APPLICATION_ID = 0x464C414D  # "FLAM", so that no other program's database is taken for ours

#: Rows are mostly some kilobytes; larger pages mean fewer overflow pages for a batch.
PAGE_SIZE = 8192

_FIRST = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    check_sum INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE applications (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    spec BLOB NOT NULL,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;

CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    state INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    closed_ms INTEGER,
    check_sum INTEGER NOT NULL,
    spec BLOB NOT NULL
);

CREATE TABLE session_events (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    event BLOB NOT NULL
);
CREATE INDEX session_events_by_session ON session_events (session);

CREATE TABLE batches (
    session INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    count INTEGER NOT NULL,
    submitter BLOB NOT NULL,
    first_number INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    inputs BLOB NOT NULL,
    PRIMARY KEY (session, first_id)
) WITHOUT ROWID;

-- ids is NULL where the tasks are min_id, min_id + 1, ..., max_id.
-- width is the number of bits of max_id - min_id. Looking for a task, each width in use costs one
-- step in the index, however many rows there are: see "where_final" in reader.py.
CREATE TABLE outcomes (
    session INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    min_id INTEGER NOT NULL,
    max_id INTEGER NOT NULL,
    width INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    ids BLOB,
    results BLOB NOT NULL,
    PRIMARY KEY (session, first_position)
) WITHOUT ROWID;
CREATE INDEX outcomes_by_task ON outcomes (session, width, min_id, max_id);

CREATE TABLE lease_losses (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    loss BLOB NOT NULL
);
CREATE INDEX lease_losses_by_task ON lease_losses (session, charged);

CREATE TABLE bindings (
    executor TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    session INTEGER,
    incarnation INTEGER NOT NULL,
    node TEXT NOT NULL,
    application TEXT NOT NULL,
    check_sum INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: Sessions that were deleted and of which rows are left (see ``flame.storage.purge``).
_DELETED_SESSIONS = "CREATE TABLE deleted_sessions (session INTEGER PRIMARY KEY)"

#: Batches in tables with row numbers, their keys in indexes of their own. Without row numbers a table
#: is one index, and SQLite reads the whole of a row, with every overflow page of its blob, to compare
#: its key: each insert beside large batches read some of them again.
_BATCHES_BY_ROW = """
CREATE TABLE batches_by_row (
    session INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    count INTEGER NOT NULL,
    submitter BLOB NOT NULL,
    first_number INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    inputs BLOB NOT NULL,
    PRIMARY KEY (session, first_id)
);
INSERT INTO batches_by_row SELECT * FROM batches;
DROP TABLE batches;
ALTER TABLE batches_by_row RENAME TO batches;

CREATE TABLE outcomes_by_row (
    session INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    count INTEGER NOT NULL,
    min_id INTEGER NOT NULL,
    max_id INTEGER NOT NULL,
    width INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    ids BLOB,
    results BLOB NOT NULL,
    PRIMARY KEY (session, first_position)
);
INSERT INTO outcomes_by_row SELECT * FROM outcomes;
DROP TABLE outcomes;
ALTER TABLE outcomes_by_row RENAME TO outcomes;
CREATE INDEX outcomes_by_task ON outcomes (session, width, min_id, max_id);
"""

#: What operators manage while the cluster runs. Of a token its digest is kept, never itself.
_MANAGED = """
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    spec BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE tokens (
    token TEXT PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    spec BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE cordons (
    node TEXT PRIMARY KEY,
    drain INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    check_sum INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: Every table has an index that says the same again, or a row could vanish without a trace: see
#: ``check_indexes``. ``deleted_sessions`` is the exception: what it loses is only not cleared away.
_BY_CHECK_SUM = "".join(
    f"CREATE INDEX {table}_by_check_sum ON {table} (check_sum);"
    for table in ("meta", "applications", "sessions", "bindings", "tenants", "tokens", "cordons")
)

#: What tasks wrote. ``position`` is where a log ends in all that its session's tasks ever wrote, so that
#: the oldest can be dropped without counting.
_TASK_LOGS = """
CREATE TABLE task_logs (
    session INTEGER NOT NULL,
    position INTEGER NOT NULL,
    size INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    log BLOB NOT NULL,
    PRIMARY KEY (session, position)
);
CREATE INDEX task_logs_by_task ON task_logs (session, task_id);
"""

MIGRATIONS = (_FIRST, _DELETED_SESSIONS, _BATCHES_BY_ROW, _MANAGED, _BY_CHECK_SUM, _TASK_LOGS)
SCHEMA_VERSION = len(MIGRATIONS)


def read_version(connection: apsw.Connection, file: str) -> int:
    """Return how many migrations the database has seen; 0 if it is empty.

    Raises:
        WrongState: A newer version wrote it, or it is not Flame's. It is left as it was.
    """
    version = int(connection.pragma("user_version"))
    application = int(connection.pragma("application_id"))
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
    if application != APPLICATION_ID and (tables or version or application):
        raise WrongState(f"{file} is a database, but not one of Flame's; name another file")
    if version > SCHEMA_VERSION:
        raise WrongState(
            f"{file} has schema version {version}; this version of Flame reads up to"
            f" {SCHEMA_VERSION}: use the newer version that wrote it"
        )
    return version


def migrate(connection: apsw.Connection, version: int) -> None:
    """Bring the database from ``version`` to this version's schema, all steps or none."""
    if version == SCHEMA_VERSION:
        return
    with connection:  # one transaction
        for step in MIGRATIONS[version:]:
            connection.execute(step).fetchall()
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
