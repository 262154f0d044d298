"""A copy of a database, made beside the session manager that uses it."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from flame.model.errors import AlreadyExists, InvalidConfiguration, NotFound
from flame.storage import rows
from flame.storage.open import sqlite_path
from flame.storage.sqlite.schema import read_version
from flame.storage.store import CorruptStore

#: A restored copy must not give numbers away again that were used after it was made: an epoch, and
#: with it leases and incarnations that executors may still hold. No store starts so often.
EPOCH_STEP = 1 << 16

_PAGES_A_STEP = 1024


def backup(url: str, path: Path) -> int:
    """Copy the store that ``url`` names to a new file; return its size in bytes.

    The copy is of one moment, and complete before it has its name. It is a database as ``--storage``
    takes it. Commits go on meanwhile; the write-ahead log cannot start over until it is made.

    Raises:
        InvalidConfiguration: The URL names no SQLite file (PostgreSQL has ``pg_dump``), or the copy's
            directory cannot be written.
        NotFound: There is no such database.
        AlreadyExists: There is something at ``path``.
        WrongState: It is not one of Flame's databases, or a newer version's.
        CorruptStore: It is damaged.
    """
    if url.startswith("postgresql://"):
        raise InvalidConfiguration(
            "PostgreSQL makes its own copies beside a running session manager: use"
            " `pg_dump --schema=flame`, or continuous archiving"
        )
    if url == "memory":
        raise InvalidConfiguration("storage 'memory' keeps nothing, so there is nothing to copy")
    source = sqlite_path(url)
    if not source.exists():
        raise NotFound(f"there is no database {source}")
    if path.exists():
        raise AlreadyExists(f"{path} exists; name a new file")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise InvalidConfiguration(
            f"{path} cannot be made: {error.strerror}; its directory must exist and be writable"
        ) from error
    try:
        try:
            _copy(source, unfinished)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise CorruptStore(f"{source} is damaged: {error}") from error
        size = unfinished.stat().st_size
        _name(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return size


def _copy(source: Path, target: Path) -> None:
    with (
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)) as original,
        closing(apsw.Connection(str(target))) as copy,
    ):
        original.set_busy_timeout(10_000)
        # If no session manager runs, this is the last connection to close: the log is not its to end.
        original.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        read_version(original, str(source))
        # One snapshot for all steps: otherwise every commit would make the copy begin anew.
        original.execute("BEGIN")
        original.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        with copy.backup("main", original, "main") as copying:
            while not copying.done:
                copying.step(_PAGES_A_STEP)
        original.execute("COMMIT")
        copy.pragma("journal_mode", "delete")  # one file
        _skip_epochs(copy)


def _skip_epochs(copy: apsw.Connection) -> None:
    found: list[tuple[Any, ...]] = copy.execute(
        "SELECT value, check_sum FROM meta WHERE name = 'epoch'"
    ).fetchall()
    for stored, check in found:
        rows.verify("meta", "epoch", check, "epoch", stored)
        epoch = stored + EPOCH_STEP
        copy.execute(
            "UPDATE meta SET value = ?, check_sum = ? WHERE name = 'epoch'",
            (epoch, rows.check_sum("meta", "epoch", epoch)),
        )


def _name(unfinished: Path, path: Path) -> None:
    """Give the copy its name, once it is on the disk."""
    _sync(unfinished, os.O_RDONLY)
    try:
        os.link(unfinished, path)  # unlike a renaming, this replaces nothing
    except FileExistsError as error:
        raise AlreadyExists(f"{path} exists; name a new file") from error
    _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
