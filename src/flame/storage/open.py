"""From the text of ``--storage`` to a store."""

from pathlib import Path

from flame.model.errors import InvalidConfiguration
from flame.storage.memory import MemoryStore
from flame.storage.sqlite import SqliteStore
from flame.storage.store import Store

ALLOWED = "memory, sqlite://RELATIVE.db or sqlite:///ABSOLUTE.db"


def open_store(url: str) -> Store:
    """Open the store that ``url`` names; a database file is created where there is none.

    Raises:
        InvalidConfiguration: The text has another form, or the file's directory does not exist.
        WrongState: The database is in use, or of a newer version, or not Flame's.
        CorruptStore: The file is damaged.
    """
    if url == "memory":
        return MemoryStore()
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator:
        raise InvalidConfiguration(f"storage {url!r} is not known; allowed are {ALLOWED}")
    if not path or path.endswith("/") or "?" in path or "\0" in path:
        raise InvalidConfiguration(f"storage {url!r} names no file; allowed are {ALLOWED}")
    return SqliteStore(Path(path))
