"""Bringing a store to this version's tables without starting a session manager.

A session manager does the same when it starts; this is for those who want to know beforehand, and for
databases whose users may not change tables while they serve.
"""

from contextlib import closing

from flame.model.errors import InvalidConfiguration
from flame.storage.open import open_store
from flame.storage.sqlite import SqliteStore


def migrate(url: str) -> tuple[int, int]:
    """Migrate the store that ``url`` names; return the schema's versions before and after.

    Version 0 is a store that did not exist: it does now.

    Raises:
        InvalidConfiguration: The URL names no database.
        WrongState: A session manager uses it, or a newer version wrote it.
        CorruptStore: It cannot be read.
        Unavailable: It cannot be reached.
    """
    store = open_store(url)
    with closing(store):
        if isinstance(store, SqliteStore):
            return store.versions
        from flame.storage import postgres  # an extra: most installations lack it

        if isinstance(store, postgres.PostgresStore):
            return store.migrate()
    raise InvalidConfiguration(f"storage {url!r} keeps nothing, so there is nothing to migrate")
