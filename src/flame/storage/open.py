"""From the text of ``--storage`` to a store."""

from pathlib import Path

from flame.model.errors import InvalidConfiguration
from flame.storage.candidacy import Candidacy
from flame.storage.memory import MemoryStore
from flame.storage.sqlite import SqliteStore
from flame.storage.store import Store

ALLOWED = (
    "memory, sqlite://RELATIVE.db, sqlite:///ABSOLUTE.db or postgresql://USER@HOST:PORT/DATABASE"
)


def open_store(url: str, candidacy: Candidacy | None = None) -> Store:
    """Open the store that ``url`` names; a database file is created where there is none.

    Args:
        url: See ``ALLOWED``.
        candidacy: How to lead a store that several session managers share.

    Raises:
        InvalidConfiguration: The text has another form, the file's directory does not exist, or
            what PostgreSQL needs is not installed.
        WrongState: The database is in use, or of a newer version, or not Flame's.
        CorruptStore: The file is damaged.
    """
    if url.startswith("postgresql://"):
        return _open_postgres(url, candidacy)
    if candidacy is not None and candidacy.standby:
        raise InvalidConfiguration(
            f"--standby: storage {url!r} belongs to one session manager; several share a"
            " postgresql://USER@HOST:PORT/DATABASE"
        )
    if url == "memory":
        return MemoryStore()
    return SqliteStore(sqlite_path(url))


def sqlite_path(url: str) -> Path:
    """Return the file that a ``sqlite://`` URL names.

    Raises:
        InvalidConfiguration: It is another URL, or names none.
    """
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator:
        raise InvalidConfiguration(f"storage {url!r} is not known; allowed are {ALLOWED}")
    if not path or path.endswith("/") or "?" in path or "\0" in path:
        raise InvalidConfiguration(f"storage {url!r} names no file; allowed are {ALLOWED}")
    return Path(path)


def _open_postgres(url: str, candidacy: Candidacy | None) -> Store:
    try:
        from flame.storage.postgres import PostgresStore  # an extra: most installations lack it
    except ImportError as error:
        raise InvalidConfiguration(
            f"storage postgresql://... needs psycopg ({error}): pip install 'flame[postgres]'"
        ) from error
    return PostgresStore(url, candidacy=candidacy)
